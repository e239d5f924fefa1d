import Collectives
import Foundation
import Recipes
import Telemetry
import Tensors
import Testing
import Training

/// Traces of whole runs.
@Suite(.serialized) struct StepTraceTests {
    private struct Event {
        var name: String
        var rank: Int
        var track: Int
        var start: Double
        var end: Double
    }

    /// The slices of a trace, in the file's order.
    private static func slices(_ path: String) throws -> [Event] {
        let data = try Data(contentsOf: URL(filePath: path))
        let document = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        let events = try #require(document["traceEvents"] as? [[String: Any]])
        return try events.filter { $0["ph"] as? String == "X" }.map { event in
            let start = try #require(event["ts"] as? Double)
            return Event(
                name: try #require(event["name"] as? String), rank: try #require(event["pid"] as? Int),
                track: try #require(event["tid"] as? Int), start: start,
                end: start + (try #require(event["dur"] as? Double)))
        }
    }

    private static func summary(_ path: String) throws -> [String: String] {
        let data = try Data(contentsOf: URL(filePath: path))
        let document = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        return try #require(document["otherData"] as? [String: String])
    }

    /// Whether each pair of slices of a row is one after the other, or one within the other.
    private static func nest(_ events: [Event]) -> Bool {
        for (index, a) in events.enumerated() {
            for b in events[(index + 1)...] where a.rank == b.rank && a.track == b.track {
                let apart = b.start >= a.end - 0.0015 || a.start >= b.end - 0.0015
                let within = a.start <= b.start + 0.0015 && b.end <= a.end + 0.0015
                if !apart && !within { return false }
            }
        }
        return true
    }

    private static func run(
        _ recipe: Recipe, ranks: Int, path: String, updates: Range<Int>, ranksPerHost: [Int]? = nil,
        log: LogCapture = LogCapture()
    ) throws {
        _ = try InProcessGroup.run(ranks: ranks, ranksPerHost: ranksPerHost) { communicator in
            let environment = RunEnvironment(
                communicator: communicator, pool: ThreadPool(threads: 1),
                logger: communicator.rank == 0 ? log.logger : LogCapture().logger, progress: .never)
            let trace = try StepTrace(path: path, updates: updates, environment)
            return try Trainer(recipe, environment, resume: false, trace: trace).run()
        }
    }

    @Test func everyRankShowsItsStepsPartByPart() throws {
        let folder = try TemporaryFolder()
        let log = LogCapture()
        let recipe = TinyRun.recipe(folder.file("run")) {
            $0.schedule.maxSteps = 5
            $0.compute.bucketMiB = 0.05
        }
        let path = folder.file("trace.json")
        try Self.run(recipe, ranks: 2, path: path, updates: 2..<4, log: log)
        let events = try Self.slices(path)
        #expect(Self.nest(events))
        var shares: [Double] = []
        for rank in 0..<2 {
            let own = events.filter { $0.rank == rank }
            let steps = own.filter { $0.track == 1 && $0.name.hasPrefix("step ") }
            #expect(steps.map(\.name) == ["step 2", "step 3"])
            for step in steps {
                let parts = own.filter {
                    $0.track == 1 && $0.start >= step.start && $0.end <= step.end && $0.name != step.name
                }
                let names = parts.map(\.name)
                for name in [
                    "data wait", "forward", "label wait", "head", "gather", "margins", "logits", "maxima", "sums",
                    "head backward", "reduce-scatter", "backward", "gradients of bucket 0", "reduction wait", "control",
                    "update", "backbone", "class centres",
                ] {
                    #expect(names.filter { $0 == name }.count == 1, "\(name) of \(step.name), rank \(rank)")
                }
                func seconds(_ names: [String]) -> Double {
                    parts.filter { names.contains($0.name) }.reduce(0) { $0 + $1.end - $1.start }
                }
                let whole = seconds([
                    "data wait", "forward", "label wait", "head", "backward", "reduction wait", "control", "update",
                ])
                #expect(whole <= step.end - step.start)
                shares.append(whole / (step.end - step.start))
            }
            let buckets = own.filter { $0.track == 2 && $0.name.hasPrefix("bucket ") }
            #expect(buckets.filter { $0.name == "bucket 0" }.count == 2 && Set(buckets.map(\.name)).count > 1)
            #expect(own.filter { $0.track == 3 && $0.name == "head labels" }.count == 2)
            #expect(own.contains { $0.track == 3 && $0.name == "step control" })
        }
        // A machine that is busy elsewhere may stretch what lies between two parts, but not in every step.
        #expect(shares.max()! > 0.8, "\(shares)")
        let said = log.all.filter { $0.contains("overlap: ") }
        #expect(said.count == 1 && said[0].contains("% of") && said[0].contains("of reduction hidden"), "\(said)")
        #expect(try Self.summary(path)["overlap"].map { said[0].contains($0) } == true)
    }

    @Test func withoutOverlapNothingIsHidden() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) {
            $0.schedule.maxSteps = 3
            $0.compute.bucketMiB = 0.05
            $0.compute.overlap = false
        }
        let path = folder.file("trace.json")
        try Self.run(recipe, ranks: 2, path: path, updates: 1..<3, ranksPerHost: [1, 1])
        let events = try Self.slices(path)
        #expect(Self.nest(events))
        for rank in 0..<2 {
            let backward = try #require(events.first { $0.rank == rank && $0.name == "backward" })
            let bucket = try #require(events.first { $0.rank == rank && $0.name == "bucket 0" })
            #expect(bucket.start >= backward.end - 0.01, "reduced while backward went on")
        }
        #expect(try Self.summary(path)["clocks"]?.contains("agree within") == true)
    }

    @Test func theSameUpdatesWithAndWithoutOverlap() throws {
        let folder = try TemporaryFolder()
        func train(_ name: String, overlap: Bool) throws -> Recipe {
            let recipe = TinyRun.recipe(folder.file(name)) {
                $0.schedule.maxSteps = 3
                $0.compute.overlap = overlap
            }
            try TinyRun.train(recipe, ranks: 2)
            return recipe
        }
        let one = try TinyRun.files(train("overlap", overlap: true), step: 3)
        let other = try TinyRun.files(train("after", overlap: false), step: 3)
        #expect(TinyRun.differences(one, other).isEmpty)
    }

    @Test func aRunThatEndsEarlyIsWritten() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) { $0.schedule.maxSteps = 3 }
        let path = folder.file("trace.json")
        try Self.run(recipe, ranks: 2, path: path, updates: 3..<100)
        #expect(try Self.slices(path).filter { $0.name == "step 3" }.count == 2)

        let log = LogCapture()
        let later = TinyRun.recipe(folder.file("later")) { $0.schedule.maxSteps = 2 }
        try Self.run(later, ranks: 1, path: path, updates: 9..<10, log: log)
        #expect(try Self.slices(path).isEmpty)
        #expect(log.warnings.contains { $0.contains("nothing was traced") })
    }

    @Test func aRunThatFailsLeavesWhatEachRankSaw() throws {
        let folder = try TemporaryFolder()
        let list = try FaceFiles.list(in: folder, count: 28, identities: 7, damaged: [3])
        let recipe = TinyRun.recipe(folder.file("run")) {
            $0.data.train = list
            $0.data.folder = folder.path
            // The first record that cannot be read ends the run.
            $0.data.quarantineLimit = 0
            $0.schedule.maxSteps = 20
        }
        let path = folder.file("trace.json")
        #expect(throws: RunFailure.self) {
            try Self.run(recipe, ranks: 2, path: path, updates: 1..<20)
        }
        #expect(try Self.slices(path).contains { $0.name == "step 1" && $0.rank == 0 })
        #expect(try Self.slices(path + ".rank-1").contains { $0.name == "step 1" && $0.rank == 1 })
        #expect(try Self.summary(path)["incomplete"] != nil)
    }

    @Test func aPathThatCannotBeWrittenEndsTheRunBeforeItBegins() throws {
        let errors = try InProcessGroup.run(ranks: 2) { communicator -> RunFailure? in
            let environment = RunEnvironment(
                communicator: communicator, pool: ThreadPool(threads: 1), logger: LogCapture().logger, progress: .never)
            do {
                _ = try StepTrace(path: "/nowhere/trace.json", updates: 1..<2, environment)
                return nil
            } catch let failure as RunFailure { return failure }
        }
        for error in errors {
            #expect(error?.exitCode == ExitCode.cannotWrite && error?.message.contains("/nowhere/trace.json") == true)
        }
    }
}
