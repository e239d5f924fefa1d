import Artifacts
import Collectives
import FaceData
import Foundation
import Recipes
import TestSupport
import Testing
import Training

/// Checkpoints that are written behind the training: the same bytes, and nothing that goes wrong is lost or unheard.
@Suite(.serialized) struct SavingTests {
    private func recipe(
        _ folder: TemporaryFolder, _ name: String, steps: Int, every: Int = 2,
        _ change: (inout Recipe) -> Void = { _ in }
    ) -> Recipe {
        TinyRun.recipe(folder.file(name)) {
            $0.schedule.maxSteps = steps
            $0.checkpoint.everySteps = every
            change(&$0)
        }
    }

    private func store(_ recipe: Recipe) -> CheckpointStore { CheckpointStore(runFolder: recipe.run.folder) }

    private func events(_ recipe: Recipe, _ name: String) throws -> [[String: Any]] {
        try TinyRun.events(recipe).filter { $0["event"] as? String == name }
    }

    /// Whatever the run does meanwhile, a checkpoint holds the state at its step.
    @Test(arguments: [1, 2, 3]) func theBytesAreThoseOfACheckpointThatTrainingWaitsFor(_ ranks: Int) throws {
        let folder = try TemporaryFolder()
        let behind = recipe(folder, "behind", steps: 4, every: 1) {
            $0.head = TinyRun.head("{margin: softmax, bias: true}")
        }
        let waiting = recipe(folder, "waiting", steps: 4, every: 1) {
            $0.head = behind.head
            $0.checkpoint.asynchronous = false
        }
        #expect(RunSetup.savesBehind(behind) && !RunSetup.savesBehind(waiting))
        try TinyRun.train(behind, ranks: ranks)
        try TinyRun.train(waiting, ranks: ranks)
        #expect(try store(behind).names().map(\.step) == [1, 2, 3, 4])
        for step in 1...4 {
            let (one, other) = (try TinyRun.files(behind, step: step), try TinyRun.files(waiting, step: step))
            #expect(TinyRun.differences(one, other).isEmpty, "step \(step)")
            #expect(try TinyRun.checkpoint(behind, step: step).verify().isEmpty)
        }
        #expect(try events(behind, "checkpoint").compactMap { $0["step"] as? Int } == [1, 2, 3, 4])
    }

    /// Writing takes most of a second; the steps go on, and the next checkpoint waits for its turn.
    @Test func trainingGoesOnWhileACheckpointIsWritten() throws {
        let folder = try TemporaryFolder()
        let slow = recipe(folder, "slow", steps: 6, every: 4)
        let run = try TinyRun.train(slow, ranks: 2, files: { _ in SlowFileSystem(seconds: 0.4) })
        let order = try TinyRun.events(slow).map { "\($0["event"] as? String ?? "") \($0["step"] as? Int ?? -1)" }
        let saved = try #require(order.firstIndex(of: "checkpoint 4"))
        let next = try #require(order.firstIndex(of: "step 5"))
        #expect(next < saved, "\(order)")
        let event = try #require(try events(slow, "checkpoint").first)
        let (stall, seconds) = (event["stall_seconds"] as? Double ?? 9, event["seconds"] as? Double ?? 0)
        #expect(stall < seconds && seconds > 0.4, "\(stall) of \(seconds) s")
        #expect(!run.log.all.contains { $0.contains("waited") })

        let often = recipe(folder, "often", steps: 4, every: 1)
        let waits = try TinyRun.train(often, ranks: 2, files: { _ in SlowFileSystem(seconds: 0.5) })
        #expect(try store(often).names().map(\.step) == [1, 2, 3, 4])
        let said = waits.log.all
        #expect(said.contains { $0.contains("until the checkpoint of step 1 was written") }, "\(said)")
    }

    /// Both the one under way and the one at the signal are there when the run ends.
    @Test func aSignalWaitsForTheCheckpointUnderWay() throws {
        let folder = try TemporaryFolder()
        let recipe = recipe(folder, "run", steps: 9, every: 2)
        let count = Counter()
        let run = try TinyRun.train(
            recipe, ranks: 2, stop: { rank in rank == 1 && count.next() >= 3 },
            files: { _ in SlowFileSystem(seconds: 0.3) })
        #expect(run.endings.allSatisfy { $0 == .interrupted } && run.states.allSatisfy { $0.step == 3 })
        #expect(try store(recipe).names().map(\.step) == [2, 3])
        for step in [2, 3] { #expect(try TinyRun.checkpoint(recipe, step: step).verify().isEmpty) }
        #expect(try store(recipe).latest()?.step == 3)
    }

    /// A loss that is not finite ends the run while a checkpoint is being written; the checkpoint is not lost.
    @Test func aRunThatFailsStillCommitsTheCheckpointUnderWay() throws {
        let folder = try TemporaryFolder()
        let recipe = recipe(folder, "run", steps: 9, every: 1) {
            $0.optimizer.learningRate = 1e30
            $0.schedule.warmupSteps = 0
            $0.optimizer.clipNorm = 0
        }
        for failure in try TinyRun.failures(recipe, ranks: 2, files: { _ in SlowFileSystem(seconds: 0.3) }) {
            #expect(failure?.exitCode == 76)
        }
        let names = try store(recipe).names()
        #expect(!names.isEmpty)
        for name in names { #expect(try store(recipe).checkpoint(name).verify().isEmpty) }
        #expect(!FileManager.default.fileExists(atPath: recipe.run.folder + "/" + RunLock.fileName))
    }

    /// The images go away under one rank, which can agree with nobody.
    @Test func anErrorOfOneRankStillCommitsTheCheckpointUnderWay() throws {
        let folder = try TemporaryFolder()
        let list = try FaceFiles.list(in: folder, count: 24, identities: 4)
        let recipe = recipe(folder, "run", steps: 200, every: 1) { $0.data.train = list }
        let asked = Box(0)
        #expect(throws: FaceDataError.self) {
            try TinyRun.train(
                recipe, ranks: 1,
                stop: { _ in
                    asked.update { $0 += 1 }
                    guard asked.value == 3 else { return false }
                    for index in 0..<24 { try? FileManager.default.removeItem(atPath: folder.file("\(index).png")) }
                    return false
                }, files: { _ in SlowFileSystem(seconds: 0.3) })
        }
        let names = try store(recipe).names()
        #expect(!names.isEmpty)
        for name in names { #expect(try store(recipe).checkpoint(name).verify().isEmpty) }
    }

    // MARK: - Errors

    /// Rank 1's disk is full for one write of the first checkpoint.
    private static func fullOnce(_ rank: Int) -> any FileSystem {
        if rank == 1 { return FaultyFileSystem(POSIXFileSystem(), at: 3, .once(ENOSPC)) }
        return POSIXFileSystem()
    }

    /// Rank 0's disk is full from within the first checkpoint on.
    private static func fullForGood(_ rank: Int) -> any FileSystem {
        if rank == 0 { return FaultyFileSystem(POSIXFileSystem(), at: 40, .full) }
        return POSIXFileSystem()
    }

    @Test(arguments: [true, false]) func anErrorEndsAllRanksAlike(_ asynchronous: Bool) throws {
        let folder = try TemporaryFolder()
        let recipe = recipe(folder, "run", steps: 30) { $0.checkpoint.asynchronous = asynchronous }
        for failure in try TinyRun.failures(recipe, ranks: 3, files: { Self.fullOnce($0) }) {
            let failure = try #require(failure)
            #expect(failure.exitCode == 73 && failure.rank == 1)
            let message = failure.message
            #expect(message.hasPrefix("the checkpoint of step 2 was not saved: cannot write"), "\(message)")
            #expect(message.contains("head-00001-of-00003.safetensors") && message.contains("No space left on device"))
        }
        #expect(try store(recipe).names().isEmpty)
        let left = try FileManager.default.contentsOfDirectory(atPath: recipe.run.folder + "/checkpoints")
        #expect(left.isEmpty, "\(left)")
    }

    @Test(arguments: [true, false]) func anErrorMayBeAWarning(_ asynchronous: Bool) throws {
        let folder = try TemporaryFolder()
        let recipe = recipe(folder, "run", steps: 6) {
            $0.checkpoint.asynchronous = asynchronous
            $0.checkpoint.onError = .warn
        }
        let run = try TinyRun.train(recipe, ranks: 2, files: { Self.fullOnce($0) })
        #expect(run.states.allSatisfy { $0.step == 6 })
        #expect(try store(recipe).names().map(\.step) == [4, 6])
        let warnings = run.log.warnings.filter { $0.contains("the checkpoint of step 2 was not saved") }
        #expect(warnings.count == 1 && warnings[0].contains("rank 1: ") && warnings[0].contains("training goes on"))
        let failed = try events(recipe, "checkpoint_failed")
        #expect(failed.count == 1 && failed[0]["step"] as? Int == 2)
        #expect((failed.first?["reason"] as? String)?.contains("No space left") == true)
        // What is there is whole.
        let whole = self.recipe(folder, "whole", steps: 6)
        try TinyRun.train(whole, ranks: 2)
        #expect(TinyRun.differences(try TinyRun.files(recipe, step: 6), try TinyRun.files(whole, step: 6)).isEmpty)
    }

    /// Training may go on without a checkpoint on the way, but not end without one.
    @Test func theLastCheckpointMustBeWritten() throws {
        let folder = try TemporaryFolder()
        let recipe = recipe(folder, "run", steps: 4) { $0.checkpoint.onError = .warn }
        for failure in try TinyRun.failures(recipe, ranks: 2, files: { Self.fullForGood($0) }) {
            #expect(failure?.exitCode == 73 && failure?.rank == 0)
            #expect(failure?.message.contains("the checkpoint of step 4 was not saved") == true)
        }
    }

    /// What an interrupted save left is gone before anything is written.
    @Test func resumingCleansUp() throws {
        let folder = try TemporaryFolder()
        let first = recipe(folder, "run", steps: 2)
        try TinyRun.train(first, ranks: 1)
        let left = first.run.folder + "/checkpoints/.tmp-step-00000003"
        try FileManager.default.createDirectory(atPath: left, withIntermediateDirectories: false)
        try Data(count: 100).write(to: URL(filePath: left + "/model.safetensors"))
        _ = try TinyRun.onRanks(first, ranks: 2, resume: true) { _, communicator in
            try communicator.barrier("set up")
            #expect(!FileManager.default.fileExists(atPath: left))
        }
    }

    /// A leftover that cannot be removed costs a warning, not the run; it is named when a save has no room.
    @Test func aLeftoverThatStaysIsAWarning() throws {
        let folder = try TemporaryFolder()
        try TinyRun.train(recipe(folder, "run", steps: 2), ranks: 1)
        let rest = recipe(folder, "run", steps: 6) { $0.checkpoint.onError = .warn }
        let left = rest.run.folder + "/checkpoints/.tmp-step-00000003"
        for name in [".nfs0001", "model.safetensors"] { try folder.write("run/checkpoints/.tmp-step-00000003/" + name, [1]) }
        let run = try TinyRun.train(
            rest, ranks: 2, resume: true,
            files: { _ in
                HookedFileSystem { operation, path in
                    if operation == .removeFile, path.hasSuffix("/.nfs0001") {
                        throw FileSystemError("remove", path, code: EBUSY)
                    }
                    if operation == .create, path.contains("/.tmp-step-00000004/") {
                        throw FileSystemError("create", path, code: ENOSPC)
                    }
                }
            })
        #expect(run.states.allSatisfy { $0.step == 6 })
        #expect(try store(rest).names().map(\.step) == [2, 6])
        #expect(try FileManager.default.contentsOfDirectory(atPath: left) == [".nfs0001"])
        let warnings = run.log.warnings
        // When the run is set up, and with the checkpoint of step 6.
        #expect(warnings.filter { $0.contains(left + "/.nfs0001': remove failed") }.count == 2, "\(warnings)")
        let full = warnings.filter { $0.contains("the checkpoint of step 4 was not saved") }
        #expect(full.count == 1 && full[0].contains("No space left on device"), "\(warnings)")
        #expect(warnings.filter { $0.hasPrefix(left) && $0.contains("takes room") }.count == 1, "\(warnings)")
    }

    // MARK: - What stays

    @Test func everyMthStays() throws {
        let folder = try TemporaryFolder()
        let recipe = recipe(folder, "run", steps: 7, every: 1) {
            $0.checkpoint.keep = 2
            $0.checkpoint.keepEvery = 3
        }
        try TinyRun.train(recipe, ranks: 2)
        #expect(try store(recipe).names().map(\.step) == [3, 6, 7])
    }

    @Test(arguments: [1, 2]) func theBestStays(_ ranks: Int) throws {
        let folder = try TemporaryFolder()
        func best(_ name: String, steps: Int) -> Recipe {
            self.recipe(folder, name, steps: steps) {
                var set = PairSetSection()
                set.name = "low"
                set.path = "synthetic"
                set.pairCount = 40
                set.synthetic.identities = 9
                set.synthetic.imagesPerIdentity = 3
                set.synthetic.firstIdentity = 1000
                var other = set
                other.name = "other"
                other.synthetic.firstIdentity = 2000
                $0.evaluation.sets = [other, set]
                $0.evaluation.everySteps = 1
                $0.evaluation.atStart = true
                $0.checkpoint.everySteps = nil
                $0.checkpoint.keep = 1
                $0.checkpoint.keepBest = "low"
            }
        }
        let six = best("run", steps: 6)
        let run = try TinyRun.train(six, ranks: ranks)
        let measured = try events(six, "evaluation").filter { $0["set"] as? String == "low" }
        let trained = measured.compactMap { event -> (step: Int, accuracy: Double)? in
            guard let step = event["step"] as? Int, let accuracy = event["accuracy"] as? Double, step > 0 else {
                return nil
            }
            return (step, accuracy)
        }
        #expect(trained.map(\.step) == [1, 2, 3, 4, 5, 6])
        let highest = try #require(trained.map(\.accuracy).max())
        let first = try #require(trained.first { $0.accuracy == highest })
        #expect(try store(six).best()?.step == first.step)
        #expect(run.states[0].bestAccuracy == highest && run.states[0].bestSet == "low")
        // The newest and the best.
        #expect(try store(six).names().map(\.step) == Set([first.step, 6]).sorted())
        // A run that goes on knows what was best.
        let rest = best("run", steps: 7)
        let resumed = try TinyRun.train(rest, ranks: ranks, resume: true)
        #expect((resumed.states[0].bestAccuracy ?? 0) >= highest)
    }
}

/// The operating system's files, on a disk that takes its time to make a checkpoint's folder durable.
private struct SlowFileSystem: FileSystem {
    let seconds: Double
    private let base = POSIXFileSystem()

    init(seconds: Double) { self.seconds = seconds }

    func synchroniseDirectory(_ path: String) throws {
        if path.contains(".tmp-step") { Thread.sleep(forTimeInterval: seconds) }
        try base.synchroniseDirectory(path)
    }

    func createFile(_ path: String, exclusive: Bool) throws -> any WritableFile {
        try base.createFile(path, exclusive: exclusive)
    }
    func openFile(_ path: String) throws -> any ReadableFile { try base.openFile(path) }
    func rename(_ source: String, to destination: String) throws { try base.rename(source, to: destination) }
    func makeDirectory(_ path: String) throws { try base.makeDirectory(path) }
    func removeFile(_ path: String) throws { try base.removeFile(path) }
    func removeDirectory(_ path: String) throws { try base.removeDirectory(path) }
    func entries(of path: String) throws -> [String] { try base.entries(of: path) }
    func kind(of path: String) throws -> FileKind? { try base.kind(of: path) }
}

/// Counts calls.
private final class Counter: @unchecked Sendable {
    private let lock = NSLock()
    private var count = 0

    func next() -> Int {
        lock.withLock {
            count += 1
            return count
        }
    }
}
