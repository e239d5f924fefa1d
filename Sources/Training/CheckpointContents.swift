package import Artifacts
package import Collectives
import FaceData
import Layers
import Networks
import Objectives
import Tensors

/// The scalar state of a run. Everything random is a function of the seed and these counts.
package struct RunState: Codable, Sendable, Equatable {
    /// Updates completed.
    package var step = 0
    /// Images consumed by all ranks.
    package var position = 0
    package var seed: UInt64 = 0
    package var worldSize = 1
    package var classes = 0
    package var images = 0
    /// Records that some rank could not read, in rising order.
    package var damagedRecords: [Int]?
    /// Best accuracy so far of the evaluation set that `checkpoint.keep_best` names.
    package var bestAccuracy: Double?
    /// That set.
    package var bestSet: String?
    /// What the head keeps over steps (moving averages), by name.
    package var headStatistics: [String: Double]?
    /// Updates that were left out because of their loss or gradient.
    package var skippedUpdates: Int?
    /// What spikes are told from, where the recipe asks for it.
    package var recentLosses: [Double]?
    /// Hashes of what is learnt from, by the recipe's key.
    package var origins: [String: String]?
    /// The images of `--overfit`.
    package var overfit: Int?
}

/// What a checkpoint holds and how it is put back, whatever the number of ranks.
package enum CheckpointContents {
    package static let modelFile = "model.safetensors"
    static let optimizerFile = "optimizer.safetensors"
    static let headStem = "head"
    static let statisticsStem = "statistics"
    /// A network that follows the one that learns.
    static let follower = "follower"
    /// A rank's name of a tensor of that network.
    static func followerTensor(_ name: String, rank: Int) -> String { "\(follower)/rank-\(rank)/\(name)" }
    static let centres = "head/centres"
    static let momentum = "head/momentum"
    static let biases = "head/bias"
    static let biasMomentum = "head/bias_momentum"

    /// What this rank puts into a checkpoint, as views of where it lies: rank 0 the model (statistics averaged over ranks),
    /// the backbone's momentum and the scalars; every rank its head rows and its own running statistics.
    static func share(
        state: RunState, step: TrainingStep, head: MarginClassification, averaged: RunningStatistics,
        card: ModelFile.Card
    ) -> CheckpointShare {
        let network = step.network
        let (rank, ranks) = (step.communicator.rank, step.communicator.size)
        func shard(_ stem: String, _ tensors: [CheckpointTensor]) -> CheckpointShare.File {
            .init(name: CheckpointFiles.shardName(stem, rank: rank, worldSize: ranks), tensors: tensors)
        }
        var share = CheckpointShare()
        if rank == 0 {
            let statistics = averaged.tensors(of: network.buffers)
            share.files.append(
                .init(
                    name: modelFile,
                    tensors: network.state.map { CheckpointTensor($0.name, statistics[$0.name] ?? $0.value) }
                        + step.objective.parameters.map { CheckpointTensor($0.name, $0.value) },
                    metadata: card.metadata))
            share.files.append(
                .init(
                    name: optimizerFile,
                    tensors: step.arena.optimizerState.map { CheckpointTensor($0.name, $0.tensor) }))
            var state = state
            let kept = head.classifier.margin.statistics
            state.headStatistics = kept.isEmpty ? nil : kept
            share.state = state
        }
        let classifier = head.classifier
        let rows = ShardRows(classifier.classRange, of: classifier.shards.classes)
        var tensors = [CheckpointTensor(centres, classifier.centres, rows: rows)]
        if !classifier.isFrozen { tensors.append(CheckpointTensor(momentum, classifier.momentum, rows: rows)) }
        if let bias = classifier.bias {
            tensors.append(CheckpointTensor(biases, bias.values, rows: rows))
            if !classifier.isFrozen { tensors.append(CheckpointTensor(biasMomentum, bias.momentum, rows: rows)) }
        }
        share.files.append(shard(headStem, tensors))
        for added in (step.objective as? ObjectiveStack)?.added ?? [] where added.keepsState {
            share.files.append(
                shard(
                    added.name,
                    added.state.map { CheckpointTensor("\(added.name)/rank-\(rank)/\($0.name)", $0.tensor) }))
        }
        if let follower = step.follower {
            // Parameters are the same on every rank, running statistics are each rank's own.
            let kept = rank == 0 ? follower.state : follower.buffers.map { .buffer($0) }
            share.files.append(
                shard(
                    Self.follower,
                    kept.map { CheckpointTensor(Self.followerTensor($0.name, rank: rank), $0.value) }))
        }
        let own = RunningStatistics(network.buffers).values
        share.files.append(
            shard(statisticsStem, [CheckpointTensor("\(statisticsStem)/rank-\(rank)", Tensor([own.count], own))]))
        return share
    }

    /// Writes what `share` gave, or a copy of it.
    static func write(_ share: CheckpointShare, to files: CheckpointFiles, source: any FaceSource) throws {
        for file in share.files { try files.addTensors(file.name, file.tensors, metadata: file.metadata) }
        guard let state = share.state else { return }
        try files.addState(state)
        try ClassNames.write(files, of: source)
    }

    /// Puts a checkpoint back: exactly on the same number of ranks, with averaged running statistics on another.
    static func read(
        _ checkpoint: Checkpoint, state: RunState, into step: TrainingStep, head: MarginClassification
    ) throws {
        try readStatistics(state.headStatistics ?? [:], of: checkpoint, into: head)
        let network = step.network
        try ModelFile.load(
            WeightsFile(checkpoint.folder + "/" + modelFile), into: network, beside: step.objective.parameters)
        try readOptimizer(checkpoint, into: step.arena)
        try readHead(checkpoint, into: head.classifier)
        for added in (step.objective as? ObjectiveStack)?.added ?? [] where added.keepsState {
            try readState(checkpoint, into: added)
        }
        if let follower = step.follower { try readFollower(checkpoint, into: follower, step.communicator) }
        let communicator = step.communicator
        if checkpoint.manifest.worldSize == communicator.size {
            let name = CheckpointFiles.shardName(statisticsStem, rank: communicator.rank, worldSize: communicator.size)
            let values = try checkpoint.tensors(name).tensor("\(statisticsStem)/rank-\(communicator.rank)")
            RunningStatistics(values: Array(values.floats)).apply(to: network.buffers)
        }
    }

    /// Statistics on another number of ranks start from rank 0's: they only follow.
    private static func readFollower(
        _ checkpoint: Checkpoint, into network: Network, _ communicator: any Communicator
    ) throws {
        let worldSize = checkpoint.manifest.worldSize
        let own = worldSize == communicator.size ? communicator.rank : 0
        func read(_ entries: [StateEntry], rank: Int) throws {
            let file = try checkpoint.tensors(CheckpointFiles.shardName(follower, rank: rank, worldSize: worldSize))
            for entry in entries {
                let name = followerTensor(entry.name, rank: rank)
                let stored = try file.tensor(name)
                guard stored.shape == entry.value.shape, stored.dtype == entry.value.dtype else {
                    throw ArtifactError.incompatible(path: checkpoint.folder, reason: "'\(name)' is \(stored.shape)")
                }
                entry.value.bytes.copyMemory(from: UnsafeRawBufferPointer(stored.bytes))
            }
        }
        try read(network.state, rank: 0)
        if own != 0 { try read(network.buffers.map { .buffer($0) }, rank: own) }
    }

    private static func readOptimizer(_ checkpoint: Checkpoint, into arena: ParameterArena) throws {
        let file = try checkpoint.tensors(optimizerFile)
        let keepsSquares = file.names.contains { $0.hasSuffix(ParameterArena.squaresSuffix) }
        guard keepsSquares == (arena.squares != nil) || file.names.isEmpty else {
            throw ArtifactError.incompatible(
                path: checkpoint.folder,
                reason: "its optimizer is \(keepsSquares ? "adam" : "sgd"); resume with the run's optimizer.kind")
        }
        for (name, target) in arena.optimizerState {
            let stored = try file.tensor(name)
            guard stored.shape == target.shape else {
                throw ArtifactError.incompatible(
                    path: checkpoint.folder, reason: "momentum of '\(name)' is \(stored.shape)")
            }
            target.bytes.copyMemory(from: UnsafeRawBufferPointer(stored.bytes))
        }
    }

    /// What all ranks of the checkpoint kept of an objective.
    private static func readState(_ checkpoint: Checkpoint, into added: any AddedObjective) throws {
        let worldSize = checkpoint.manifest.worldSize
        try added.restore(
            (0..<worldSize).map { rank in
                let file = try checkpoint.tensors(
                    CheckpointFiles.shardName(added.name, rank: rank, worldSize: worldSize))
                let prefix = "\(added.name)/rank-\(rank)/"
                return try file.names.reduce(into: [:]) { result, name in
                    if name.hasPrefix(prefix) { result[String(name.dropFirst(prefix.count))] = try file.tensor(name) }
                }
            })
    }

    private static func readStatistics(
        _ statistics: [String: Double], of checkpoint: Checkpoint, into head: MarginClassification
    ) throws {
        func list(_ names: some Collection<String>) -> String {
            names.isEmpty ? "no statistics" : names.sorted().joined(separator: ", ")
        }
        let wanted = head.classifier.margin.statistics.keys
        guard wanted == statistics.keys else {
            throw ArtifactError.incompatible(
                path: checkpoint.folder,
                reason: "its head kept \(list(statistics.keys)), the recipe's keeps \(list(wanted)); resume with the "
                    + "head.margin of the run, or start another run from it with init.head")
        }
        if !statistics.isEmpty { head.classifier.margin.statistics = statistics }
    }

    /// This rank's rows of the class centres, of the biases, and of their momentum, read to where they stay.
    private static func readHead(_ checkpoint: Checkpoint, into classifier: ShardedClassifier<Float>) throws {
        let total = checkpoint.shardedTensors[centres]?.shape.first ?? 0
        guard total == classifier.shards.classes else {
            throw ArtifactError.incompatible(
                path: checkpoint.folder,
                reason: "its head has \(total) classes, the data has \(classifier.shards.classes)")
        }
        try checkLength(checkpoint, is: classifier.dimension)
        try checkpoint.readRows(centres, classifier.classRange, into: classifier.centres)
        if !classifier.isFrozen {
            try checkpoint.readRows(momentum, classifier.classRange, into: classifier.momentum)
        }
        let hasBiases = checkpoint.shardedTensors[biases] != nil
        guard hasBiases == (classifier.bias != nil) else {
            throw ArtifactError.incompatible(
                path: checkpoint.folder,
                reason: "its head has \(hasBiases ? "" : "no ")biases; resume with its head.bias")
        }
        guard let bias = classifier.bias else { return }
        try checkpoint.readRows(biases, classifier.classRange, into: bias.values)
        if !classifier.isFrozen { try checkpoint.readRows(biasMomentum, classifier.classRange, into: bias.momentum) }
    }

    /// - Throws: `ArtifactError.incompatible` where the checkpoint's class centres are not of `dimension` components.
    static func checkLength(_ checkpoint: Checkpoint, is dimension: Int) throws {
        let length = checkpoint.shardedTensors[centres]?.shape.last ?? 0
        guard length == dimension else {
            throw ArtifactError.incompatible(
                path: checkpoint.folder,
                reason: "its class centres have \(length) components, the recipe's network.embedding is "
                    + "\(dimension)")
        }
    }

    /// The images of `--overfit` of a run, as its newest readable state has it.
    static func overfit(ofRun folder: String, _ fileSystem: any FileSystem) -> Int? {
        let store = CheckpointStore(runFolder: folder, fileSystem: fileSystem)
        for name in ((try? store.names()) ?? []).reversed() {
            if let state = try? store.checkpoint(name).state(RunState.self) { return state.overfit }
        }
        return nil
    }

    /// What the store needs from the ranks.
    ///
    /// - Parameter failedHere: called when this rank could not do its own part.
    package static func coordination(
        _ communicator: any Communicator, failedHere: @escaping () -> Void = {}
    ) -> CheckpointCoordination {
        CheckpointCoordination(
            rank: communicator.rank, worldSize: communicator.size,
            confirm: { success in
                if !success { failedHere() }
                var flag: Int64 = success ? 1 : 0
                try withUnsafeMutablePointer(to: &flag) {
                    try communicator.allReduce(
                        UnsafeMutableBufferPointer(start: $0, count: 1), .min, "checkpoint confirmation")
                }
                return flag == 1
            },
            gather: { try communicator.gather($0, root: 0, "checkpoint files") },
            broadcast: { try communicator.broadcast($0, root: 0, "checkpoint name") })
    }
}
