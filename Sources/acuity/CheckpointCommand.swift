import ArgumentParser
import Artifacts
import Foundation
import Tensors
import Training

struct CheckpointCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "checkpoint",
        abstract: "Look at checkpoints, verify them, write them for another number of ranks.",
        subcommands: [Inspect.self, Verify.self, Reshard.self])

    /// Which checkpoints a command is about.
    struct Place: ParsableArguments {
        @Argument(help: "A run folder, or one of its checkpoints (RUN/checkpoints/step-00012000).")
        var path: String

        /// The checkpoints beside one another, oldest first, and the one that is meant: that was named, or `latest`.
        ///
        /// - Throws: `ArtifactError.missing` where there is none.
        func find() throws -> (store: CheckpointStore, all: [CheckpointName], chosen: CheckpointName, isNamed: Bool) {
            let (store, named) = CheckpointStore.locate(path)
            let all = try store.names()
            if let named {
                guard all.contains(named) else {
                    throw ArtifactError.missing(path: store.path(named), reason: "there is no such checkpoint folder")
                }
                return (store, all, named, true)
            }
            // A pointer that cannot be read leaves the newest.
            let pointed = (try? store.latest()).flatMap { all.contains($0) ? $0 : nil }
            guard let newest = pointed ?? all.last else {
                throw ArtifactError.missing(path: store.folder, reason: "there is no checkpoint")
            }
            return (store, all, newest, false)
        }
    }

    static func size(_ byteCount: Int) -> String { MemoryEstimate.text(byteCount) }
}

// MARK: - Inspecting

extension CheckpointCommand {
    struct Inspect: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say what a checkpoint holds, without reading its data.",
            discussion: """
                acuity checkpoint inspect runs/first
                acuity checkpoint inspect runs/first/checkpoints/step-00012000 --tensors
                """)

        @OptionGroup var place: Place

        @Flag(help: "List every tensor.")
        var tensors = false

        @Flag(help: "Print one JSON object.")
        var json = false

        func run() throws {
            try Command.run {
                let (store, all, chosen, isNamed) = try place.find()
                let description = CheckpointDescription(try store.checkpoint(chosen), in: store)
                if json { return print(try description.json()) }
                if !isNamed, all.count > 1 {
                    for name in all { print(CheckpointDescription.line(name, in: store)) }
                    print("")
                }
                print(description.text(tensors: tensors))
            }
        }
    }
}

/// What a checkpoint's manifest says, for people and for programs.
struct CheckpointDescription: Encodable {
    struct File: Encodable {
        struct Tensor: Encodable {
            var name: String
            var dtype: String
            var shape: [Int]
            /// From and to, of the whole tensor's rows.
            var rows: [Int]?
        }
        var name: String
        var rank: Int
        var bytes: Int
        var sha256: String
        var tensors: [Tensor]
    }

    /// A tensor that is divided by rows over several files.
    struct Whole: Encodable {
        var name: String
        var dtype: String
        var shape: [Int]
    }

    var path: String
    var step: Int
    var worldSize: Int
    var isLatest: Bool
    var isBest: Bool
    var recipe: String
    /// When the manifest was written: nothing within the files depends on the time.
    var date: String?
    var bytes: Int
    var files: [File]
    var divided: [Whole]

    init(_ checkpoint: Checkpoint, in store: CheckpointStore) {
        let manifest = checkpoint.manifest
        path = checkpoint.folder
        step = checkpoint.step
        worldSize = manifest.worldSize
        isLatest = (try? store.latest()) == checkpoint.name
        isBest = (try? store.best()) == checkpoint.name
        recipe = manifest.configHash
        date = Self.date(of: checkpoint.folder + "/" + CheckpointManifest.fileName)
        bytes = checkpoint.byteCount
        files = manifest.files.map { file in
            File(
                name: file.name, rank: file.rank, bytes: file.byteCount, sha256: file.sha256,
                tensors: file.tensors.map {
                    File.Tensor(
                        name: $0.name, dtype: $0.type.rawValue, shape: $0.shape,
                        rows: $0.rows.map { [$0.range.lowerBound, $0.range.upperBound] })
                })
        }
        divided = checkpoint.shardedTensors.values.sorted { $0.name < $1.name }.map {
            Whole(name: $0.name, dtype: SafetensorsType($0.dtype).rawValue, shape: $0.shape)
        }
    }

    private static func date(of path: String) -> String? {
        let attributes = try? FileManager.default.attributesOfItem(atPath: path)
        return (attributes?[.modificationDate] as? Date).map { ISO8601DateFormatter().string(from: $0) }
    }

    /// One line about a checkpoint among others.
    static func line(_ name: CheckpointName, in store: CheckpointStore) -> String {
        do {
            let checkpoint = try store.checkpoint(name)
            let description = CheckpointDescription(checkpoint, in: store)
            let ranks = "\(description.worldSize) rank(s), \(CheckpointCommand.size(description.bytes))"
            return "\(name)  \(ranks)\(description.marks)"
        } catch {
            return "\(name)  \(error)"
        }
    }

    private var marks: String { (isLatest ? ", latest" : "") + (isBest ? ", best" : "") }

    func text(tensors showsTensors: Bool) -> String {
        func padded(_ text: String, _ width: Int) -> String {
            text.padding(toLength: max(width, text.count), withPad: " ", startingAt: 0)
        }
        var lines = [
            "\(path)\(marks)",
            "  step \(step), written by \(worldSize) rank(s)" + (date.map { " on \($0)" } ?? "") + ", recipe \(recipe)",
            "  \(files.count) files, \(CheckpointCommand.size(bytes))",
        ]
        for file in files {
            let count = file.tensors.isEmpty ? "" : "  \(file.tensors.count) tensors"
            lines.append(
                "    \(padded(file.name, 36)) rank \(padded("\(file.rank)", 4)) "
                    + padded(CheckpointCommand.size(file.bytes), 10) + count)
            for tensor in showsTensors ? file.tensors : [] {
                let rows = tensor.rows.map { ", rows \($0[0])..<\($0[1])" } ?? ""
                lines.append("      \(padded(tensor.name, 44)) \(tensor.dtype) \(tensor.shape)\(rows)")
            }
        }
        if !divided.isEmpty { lines.append("  divided over the ranks by rows:") }
        for tensor in divided { lines.append("    \(padded(tensor.name, 36)) \(tensor.dtype) \(tensor.shape)") }
        return lines.joined(separator: "\n")
    }

    func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
}

// MARK: - Verifying

extension CheckpointCommand {
    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Hash every file of a checkpoint, or of all checkpoints of a run, again.",
            discussion: """
                acuity checkpoint verify runs/first

                The exit code is 65 when a checkpoint is damaged, 74 when a file cannot be read, 66 when there is no \
                checkpoint.
                """)

        @OptionGroup var place: Place

        func run() throws {
            try Command.run {
                let (store, all, chosen, isNamed) = try place.find()
                var codes: [Int32] = []
                for name in isNamed ? [chosen] : all {
                    let problems = problems(name, in: store)
                    for problem in problems { print("\(name): \(problem)") }
                    codes += problems.map(code)
                }
                if !isNamed {
                    for problem in pointerProblems(store, all) {
                        print("\(problem)")
                        codes.append(code(problem))
                    }
                }
                // What is damaged says more than what could not be read this time.
                if let worst = codes.min() { throw ExitCodeRequest(code: worst) }
            }
        }

        /// What is wrong with one; says so when nothing is. A folder that has the name of a checkpoint and lacks a file
        /// is a damaged one.
        private func problems(_ name: CheckpointName, in store: CheckpointStore) -> [ArtifactError] {
            do {
                let checkpoint = try store.checkpoint(name)
                let problems = checkpoint.verify()
                if problems.isEmpty {
                    let files = checkpoint.manifest.files.count
                    let size = CheckpointCommand.size(checkpoint.byteCount)
                    print("\(name): sound, step \(checkpoint.step), \(files) files, \(size)")
                }
                return problems
            } catch let error as ArtifactError {
                return [error]
            } catch {
                return [.cannotRead(path: store.path(name), reason: "\(error)")]
            }
        }

        /// What is wrong with the pointers: `latest` and `best` must name what is there.
        private func pointerProblems(_ store: CheckpointStore, _ all: [CheckpointName]) -> [ArtifactError] {
            var problems: [ArtifactError] = []
            for (file, isLatest) in [("latest", true), ("best", false)] {
                let path = store.folder + "/" + file
                do {
                    let name = try isLatest ? store.latest() : store.best()
                    guard let name, !all.contains(name) else { continue }
                    problems.append(.damaged(path: path, reason: "it names \(name), which is not there"))
                } catch let error as ArtifactError {
                    problems.append(error)
                } catch {
                    problems.append(.cannotRead(path: path, reason: "\(error)"))
                }
            }
            return problems
        }

        private func code(_ problem: ArtifactError) -> Int32 {
            if case .cannotRead = problem { return Training.ExitCode.inputOutput }
            return Training.ExitCode.badData
        }
    }
}

// MARK: - Resharding

extension CheckpointCommand {
    struct Reshard: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a checkpoint as another number of ranks would have written it.",
            discussion: """
                acuity checkpoint reshard runs/first --ranks 16 --output runs/first-on-16
                acuity resume runs/first-on-16

                A run goes on with any number of ranks without this; it is for moving a run's files to hosts that read \
                them in other shares, and for tools that want one file: --ranks 1 joins the class centres.
                """)

        @OptionGroup var place: Place

        @Option(help: "The number of ranks.")
        var ranks: Int

        @Option(help: "A run folder to make; it may hold no run yet.")
        var output: String

        func validate() throws {
            if !(1...99_999).contains(ranks) { throw ValidationError("--ranks must lie in 1...99999") }
        }

        func run() throws {
            try Command.run {
                let (store, name) = CheckpointStore.locate(place.path)
                let opened = try store.open(name.map { CheckpointChoice.named($0) } ?? CheckpointChoice.latest)
                for warning in opened.warnings { Session.warn(warning) }
                let target = CheckpointStore(runFolder: output)
                guard try target.names().isEmpty else { throw TrainingError.folderInUse(folder: output) }
                let resharding = try CheckpointResharding(opened.checkpoint, ranks: ranks)
                try Output.folder(output)
                let lock = try RunLock.acquire(runFolder: output)
                defer { try? lock.release() }
                let committed = try resharding.write(to: target)
                try copyRecipe(from: store)
                for warning in committed.warnings { Session.warn(warning) }
                print(
                    "\(target.path(committed.name)): step \(committed.name.step) for \(ranks) rank(s), of "
                        + "\(opened.checkpoint.manifest.worldSize); \(CheckpointCommand.size(committed.byteCount))")
            }
        }

        /// `acuity resume` needs the recipe beside the checkpoints.
        private func copyRecipe(from store: CheckpointStore) throws {
            let run = URL(filePath: store.folder).deletingLastPathComponent()
            guard let recipe = try? Data(contentsOf: run.appending(path: "recipe.yaml")) else {
                return Session.warn("\(run.path) has no recipe.yaml: 'acuity resume' needs it in \(output)")
            }
            try Output.write(recipe, to: output + "/recipe.yaml")
        }
    }
}
