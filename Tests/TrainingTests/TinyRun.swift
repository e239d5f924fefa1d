import Artifacts
import Collectives
import Evaluation
import FaceData
import Foundation
import Logging
import Recipes
import Telemetry
import Tensors
import TestSupport
import Training

/// Whole runs of a tiny recipe on ranks that are threads.
enum TinyRun {
    /// 28 images of 7 identities, 12 a step, so that epochs end within a few steps and shards are unequal.
    static func recipe(_ folder: String, _ change: (inout Recipe) -> Void = { _ in }) -> Recipe {
        var recipe = Recipe()
        recipe.run.folder = folder
        recipe.run.seed = 5
        recipe.data.synthetic.identities = 7
        recipe.data.synthetic.imagesPerIdentity = 4
        recipe.network.embedding = 64
        recipe.network.width = 0.25
        recipe.head = head("{scale: 16}")
        recipe.optimizer.learningRate = 0.05
        recipe.schedule.epochs = 20
        recipe.schedule.warmupSteps = 2
        recipe.batch.global = 12
        recipe.checkpoint.keep = 100
        recipe.log.everySteps = 1
        change(&recipe)
        return recipe
    }

    /// The section `head` of a recipe, from YAML.
    static func head(_ yaml: String) -> HeadSection {
        guard let recipe = try? Recipe(files: [], overrides: ["head=\(yaml)"]) else {
            preconditionFailure("no head: \(yaml)")
        }
        return recipe.head
    }

    /// How a run went on each rank.
    struct Outcome {
        var endings: [Trainer.Ending] = []
        var states: [RunState] = []
        /// Of rank 0.
        var reports: [String: VerificationReport] = [:]
        let log: LogCapture
    }

    /// Sets up a run on `ranks` ranks and calls `body` on each.
    ///
    /// - Parameters:
    ///   - stop: by rank, what its signal handler would say.
    ///   - files: by rank, where its checkpoints go.
    static func onRanks<Result>(
        _ recipe: Recipe, ranks: Int, resume: Bool = false, overfit: Int? = nil, log: LogCapture = LogCapture(),
        faults: FaultPlan = .empty, stop: @escaping @Sendable (_ rank: Int) -> Bool = { _ in false },
        files: @escaping @Sendable (_ rank: Int) -> any FileSystem = { _ in POSIXFileSystem() },
        _ body: @escaping @Sendable (Trainer, any Communicator) throws -> Result
    ) throws -> [Result] {
        try InProcessGroup.run(ranks: ranks) { communicator in
            let rank = communicator.rank
            let trainer = try Trainer(
                recipe,
                RunEnvironment(
                    communicator: communicator, pool: ThreadPool(threads: 1), logger: log.logger, progress: .never,
                    stopRequested: { stop(rank) }, fileSystem: files(rank), faults: faults),
                resume: resume, overfit: overfit)
            return try body(trainer, communicator)
        }
    }

    @discardableResult
    static func train(
        _ recipe: Recipe, ranks: Int, resume: Bool = false, overfit: Int? = nil, faults: FaultPlan = .empty,
        stop: @escaping @Sendable (_ rank: Int) -> Bool = { _ in false },
        files: @escaping @Sendable (_ rank: Int) -> any FileSystem = { _ in POSIXFileSystem() }
    ) throws -> Outcome {
        let log = LogCapture()
        let results = try onRanks(
            recipe, ranks: ranks, resume: resume, overfit: overfit, log: log, faults: faults, stop: stop, files: files
        ) { trainer, _ in (try trainer.run(), trainer.state, trainer.reports) }
        return Outcome(endings: results.map(\.0), states: results.map(\.1), reports: results[0].2, log: log)
    }

    /// The failure of each rank of a run that must not succeed; nil for a rank that got through.
    static func failures(
        _ recipe: Recipe, ranks: Int, resume: Bool = false, faults: FaultPlan = .empty,
        stop: @escaping @Sendable (_ rank: Int) -> Bool = { _ in false },
        files: @escaping @Sendable (_ rank: Int) -> any FileSystem = { _ in POSIXFileSystem() }
    ) throws -> [RunFailure?] {
        try InProcessGroup.run(ranks: ranks) { communicator in
            let environment = RunEnvironment(
                communicator: communicator, pool: ThreadPool(threads: 1), logger: LogCapture().logger, progress: .never,
                stopRequested: { stop(communicator.rank) }, fileSystem: files(communicator.rank), faults: faults)
            do {
                _ = try Trainer(recipe, environment, resume: resume).run()
                return nil
            } catch let failure as RunFailure {
                return failure
            }
        }
    }

    // MARK: - What a run leaves

    static func checkpoint(_ recipe: Recipe, step: Int, revision: Int = 1) throws -> Checkpoint {
        try CheckpointStore(runFolder: recipe.run.folder).checkpoint(CheckpointName(step: step, revision: revision))
    }

    /// All files of a checkpoint but the manifest, which states the hash of the recipe and so of the run's folder.
    static func files(_ recipe: Recipe, step: Int, revision: Int = 1) throws -> [String: Data] {
        let checkpoint = try checkpoint(recipe, step: step, revision: revision)
        return try checkpoint.manifest.files.reduce(into: [:]) { result, file in
            result[file.name] = try Data(contentsOf: URL(filePath: checkpoint.folder + "/" + file.name))
        }
    }

    /// The names of the files that differ between two checkpoints.
    static func differences(_ one: [String: Data], _ two: [String: Data]) -> [String] {
        Set(one.keys).union(two.keys).filter { one[$0] != two[$0] }.sorted()
    }

    /// The events of `log.jsonl`, or another file of JSON lines.
    static func events(_ recipe: Recipe, file: String = "log.jsonl") throws -> [[String: Any]] {
        let text = try String(contentsOfFile: recipe.run.folder + "/" + file, encoding: .utf8)
        return try text.split(separator: "\n").map { line in
            guard let event = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any] else {
                throw CocoaError(.fileReadCorruptFile)
            }
            return event
        }
    }
}

/// A folder that goes with the object.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("acuity-" + UUID().uuidString)
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        path = url.path
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { path + "/" + name }

    func write(_ name: String, _ bytes: [UInt8]) throws {
        let url = URL(filePath: file(name))
        try FileManager.default.createDirectory(
            at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(bytes).write(to: url)
    }
}

/// Synthetic faces as files.
enum FaceFiles {
    /// `image<TAB>label` for `count` images of `identities` identities; the records `damaged` are cut short.
    static func list(in folder: TemporaryFolder, count: Int, identities: Int, damaged: Set<Int> = []) throws -> String {
        var lines = ""
        for index in 0..<count {
            let bytes = try png(identity: index % identities, index: index / identities)
            try folder.write("\(index).png", damaged.contains(index) ? Array(bytes.prefix(bytes.count / 2)) : bytes)
            lines += "\(index).png\t\(index % identities)\n"
        }
        try folder.write("faces.tsv", Array(lines.utf8))
        return folder.file("faces.tsv")
    }

    /// People with three images each, and LFW's list of pairs: per fold, two genuine and two impostor pairs.
    static func pairs(in folder: TemporaryFolder, people: Int) throws -> String {
        for person in 0..<people {
            for image in 1...3 {
                try folder.write(
                    "person\(person)/person\(person)_000\(image).png", try png(identity: 100 + person, index: image))
            }
        }
        var lines = "10\t2\n"
        for fold in 0..<10 {
            let (a, b) = (fold % people, (fold + 1 + fold / people) % people)
            lines += "person\(a)\t1\t\(2 + fold / people % 2)\nperson\(b)\t2\t3\n"
            lines += "person\(a)\t1\tperson\(b)\t\(1 + fold % 3)\nperson\(b)\t2\tperson\(a)\t3\n"
        }
        try folder.write("pairs.txt", Array(lines.utf8))
        return folder.file("pairs.txt")
    }

    private static func png(identity: Int, index: Int) throws -> [UInt8] {
        try ImageCodec.encodePNG(SyntheticFaces(seed: 8).image(identity: identity, index: index).0)
    }
}

/// Keeps what a run logs.
final class LogCapture: Sendable {
    private let lines = Box<[(level: Logger.Level, text: String)]>([])

    var logger: Logger {
        Logger(label: "test") { _ in Handler(lines: self.lines) }
    }

    var warnings: [String] { lines.value.filter { $0.level >= .warning }.map(\.text) }
    var all: [String] { lines.value.map(\.text) }

    private struct Handler: LogHandler {
        let lines: Box<[(level: Logger.Level, text: String)]>
        var logLevel = Logger.Level.trace
        var metadata: Logger.Metadata = [:]

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) { lines.update { $0.append((event.level, "\(event.message)")) } }
    }
}
