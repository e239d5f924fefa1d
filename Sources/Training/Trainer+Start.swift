import Artifacts
import Collectives
import FaceData
import Foundation
import Layers
import Logging
import Networks
import Objectives
import Recipes
import Tensors

/// What a run starts from.
extension Trainer {
    static func selected(
        _ source: any FaceSource, _ recipe: Recipe, overfit: Int?
    ) throws -> any FaceSource {
        guard let overfit else { return source }
        // Spread over the data, where neighbours are often of one identity, and again and again to the length of the
        // whole: the schedule stays the recipe's.
        let count = min(overfit, source.count)
        return try SubsetSource(
            source, indices: (0..<max(source.count, recipe.batch.global)).map { $0 % count * source.count / count })
    }

    /// A run inside the folder that it learns from would be an identity of it when it is resumed.
    ///
    /// - Throws: `TrainingError.incompatible`.
    static func checkPlace(_ recipe: Recipe) throws {
        func parts(_ path: String) -> [String] {
            URL(filePath: path).standardizedFileURL.resolvingSymlinksInPath().pathComponents.filter { $0 != "/" }
        }
        let run = parts(recipe.run.folder)
        let paths = recipe.data.sources.isEmpty ? [recipe.data.train] : recipe.data.sources.map(\.path)
        for path in paths where path != "synthetic" {
            var isFolder: ObjCBool = false
            guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue else { continue }
            if run.starts(with: parts(path)) {
                throw TrainingError.incompatible(
                    "run.folder = \(recipe.run.folder) lies in \(path), whose folders are identities to train on; "
                        + "choose another one")
            }
        }
    }

    /// Takes the run folder's lock. For rank 0.
    ///
    /// - Throws: `TrainingError.notARun`, `.folderInUse`; `ArtifactError` where the lock is held or cannot be written, or the
    ///   checkpoints cannot be listed.
    static func claim(
        _ folder: String, _ store: CheckpointStore, resume: Bool, _ environment: RunEnvironment
    ) throws -> RunLock {
        let holdsRun = try !store.names().isEmpty
        if resume, !holdsRun { throw TrainingError.notARun(folder: folder, reason: "it has no checkpoint") }
        if !resume, holdsRun { throw TrainingError.folderInUse(folder: folder) }
        let lock = try RunLock.acquire(runFolder: folder)
        // An interrupted save may have filled the disk.
        do {
            for left in try store.clean() { environment.logger.warning("\(left)") }
        } catch {
            try? lock.release()
            throw error
        }
        return lock
    }

    /// The file that `init.weights` means. Collective.
    static func weights(_ recipe: Recipe, _ environment: RunEnvironment) throws -> String? {
        try recipe.start.weights.map {
            try ModelFile.location($0, with: CheckpointContents.coordination(environment.communicator)) {
                if environment.isRoot { environment.logger.warning("\($0)") }
            }
        }
    }

    static func loadWeights(
        _ path: String, _ network: Network, _ recipe: Recipe, _ environment: RunEnvironment
    ) throws {
        try Checkpoint.verify(file: path)
        let file = try WeightsFile(path)
        let given = try ModelFile.card(of: file).preprocessing
        if let (have, need) = RunSetup.difference(given, RunSetup.preprocessing(recipe)) {
            throw TrainingError.preprocessing(file: path, have: have, need: need)
        }
        let match = try ModelFile.load(file, into: network, recipe.start.match == .strict ? .strict : .partial)
        guard environment.isRoot else { return }
        environment.logger.info("\(match.loaded.count) tensors from \(path)")
        if !match.isComplete { environment.logger.warning("\(match.difference)") }
    }

    /// What the objectives learn themselves, a quality layer for instance, goes on from where the weights file has it.
    static func loadWeights(_ path: String, of parameters: [Parameter], _ environment: RunEnvironment) throws {
        guard !parameters.isEmpty else { return }
        let file = try WeightsFile(path).file
        for parameter in parameters where file.header[parameter.name]?.shape == parameter.value.shape {
            let stored = try file.tensor(parameter.name)
            guard stored.dtype == parameter.value.dtype else { continue }
            parameter.value.bytes.copyMemory(from: UnsafeRawBufferPointer(stored.bytes))
            if environment.isRoot { environment.logger.info("\(parameter.name) from \(path)") }
        }
    }

    /// Checks the names of `init.learning_rate_factors`.
    static func checkFactors(_ network: Network, _ recipe: Recipe) throws {
        for prefix in recipe.start.learningRateFactors.keys.sorted() where prefix != "head" {
            guard network.parameters.contains(where: { $0.name.hasPrefix(prefix) }) else {
                throw TrainingError.incompatible(
                    "init.learning_rate_factors: no parameter of \(recipe.network.name) begins with '\(prefix)'")
            }
        }
    }

    /// All ranks start from rank 0's bytes, whatever their own say.
    func shareParameters() throws {
        for entry in network.state {
            if case .buffer = entry, state.step > 0 { continue }
            try environment.communicator.broadcast(entry.value.bytes, root: 0, "parameters")
        }
        for parameter in objective.parameters {
            try environment.communicator.broadcast(parameter.value.bytes, root: 0, "parameters")
        }
    }

    /// A network that follows another starts as that one.
    func startFollower() {
        guard let follower = step.follower else { return }
        for (own, other) in zip(follower.state, network.state) {
            own.value.bytes.copyMemory(from: UnsafeRawBufferPointer(other.value.bytes))
        }
    }

    /// Refuses centres that stay as they are and start as random numbers.
    ///
    /// - Parameter kept: identities whose centres `init.head` gives.
    /// - Throws: `TrainingError.incompatible`.
    static func checkCentres(_ recipe: Recipe, kept: Int, of classes: Int) throws {
        guard recipe.objectives.resolution?.freezesCentres == true, kept < classes, recipe.start.newClasses == .random
        else { return }
        throw TrainingError.incompatible(
            "objectives.ccface keeps the class centres as they are, and \(classes - kept) of \(classes) identities have none "
                + "in \(recipe.start.head ?? "init.head, which is missing"): give the head of a run on the same identities, "
                + "init.new_classes: mean_embedding, or objectives.ccface.freeze_centres: false")
    }

    /// What `init:` says about the class centres.
    func startHead() throws {
        let communicator = environment.communicator
        var start = HeadStart(head.classifier, source: source, communicator: communicator)
        if let path = recipe.start.head {
            let opened = try communicator.together("initial centres") {
                try CheckpointStore(runFolder: path).open(with: CheckpointContents.coordination(communicator))
            }
            warn(opened.warnings)
            try start.takeRows(of: opened.checkpoint)
        }
        describe(start)
        // Every rank knows the names of all.
        do {
            try Self.checkCentres(recipe, kept: start.keptCount, of: source.classCount)
        } catch {
            throw RunFailure(error)
        }
        guard recipe.start.newClasses == .meanEmbedding, start.keptCount < source.classCount else { return }
        let unread = try start.setMeanEmbeddings(
            Embedder(
                network, preprocessing: RunSetup.preprocessing(recipe), batch: recipe.evaluation.batch,
                precision: RunSetup.precision(recipe.compute), pool: environment.pool))
        if unread > 0 {
            warn(["\(unread) new identities have no image that can be read: their centres start at random"])
        }
    }
}
