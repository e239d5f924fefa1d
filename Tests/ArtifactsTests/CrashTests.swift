import Artifacts
import Foundation
import Tensors
import Testing

/// A save is stopped at every single file operation of every rank; what is there afterwards must open.
@Suite struct CrashTests {
    private static let worldSize = 3
    /// Far more operations than a save takes.
    private static let limit = 2_000
    private static let retention = RetentionPolicy(keepLast: 1)

    private static func store(_ disk: any FileSystem) -> CheckpointStore {
        CheckpointStore(runFolder: CheckpointFixture.run, fileSystem: disk)
    }

    /// All ranks save `fixture`, rank `victim` with the fault; the injector and what rank 0 got.
    private static func save(
        _ fixture: CheckpointFixture, on disk: SimulatedDisk, victim: Int, at place: Int,
        _ fault: FaultyFileSystem.Fault
    ) -> (injector: FaultyFileSystem, results: [Result<CommittedCheckpoint, any Error>]) {
        let injector = FaultyFileSystem(disk, at: place, fault)
        let results = RankGroup.run(worldSize) { ranks in
            ranks.rank == victim
                ? try fixture.save(
                    injector, ranks: injector.guarding(ranks), retention: retention, best: fixture.step == 20)
                : try fixture.save(disk, ranks: ranks, retention: retention, best: fixture.step == 20)
        }
        return (injector, results)
    }

    /// A disk on which steps were saved without trouble.
    private static func disk(with steps: [Int]) throws -> SimulatedDisk {
        let disk = SimulatedDisk()
        for step in steps {
            _ = try RankGroup.run(worldSize) {
                try CheckpointFixture(step).save(disk, ranks: $0, retention: retention)
            }.map { try $0.get() }
        }
        return disk.restarted(.nothing)
    }

    private static func committed(_ result: Result<CommittedCheckpoint, any Error>) -> Bool {
        if case .success = result { true } else { false }
    }

    @Test(arguments: 0..<3) func aCrashLeavesThePreviousOrTheNewCheckpoint(_ victim: Int) throws {
        let before = try Self.disk(with: [10])
        var steps = Set<Int>()
        for place in 0..<Self.limit {
            let disk = before.restarted(.nothing)
            let (injector, results) = Self.save(CheckpointFixture(20), on: disk, victim: victim, at: place, .crash)
            for loss in SimulatedDisk.Loss.allCases {
                let after = disk.restarted(loss)
                let opened = try openLatest(after)
                #expect([10, 20].contains(opened.checkpoint.step), "operation \(place), \(loss)")
                if Self.committed(results[0]) { #expect(opened.checkpoint.step == 20, "operation \(place), \(loss)") }
                try CheckpointFixture(opened.checkpoint.step).check(opened.checkpoint)
                steps.insert(opened.checkpoint.step)
                for name in try Self.store(after).names() {
                    let problems = try Self.store(after).checkpoint(name).verify()
                    #expect(problems.isEmpty, "half of \(name) is left: operation \(place), \(loss)")
                }
                // The next job goes on from there.
                _ = try CheckpointFixture(30).save(after, retention: Self.retention)
                try CheckpointFixture(30).check(try openLatest(after.restarted(.everything)).checkpoint)
                #expect(!after.tree().contains { $0.contains(".tmp-") })
            }
            if !injector.fired {
                #expect(results.allSatisfy(Self.committed))
                #expect(place > 5 && steps.contains(20))
                #expect(victim > 0 || steps == [10, 20])
                return
            }
        }
        Issue.record("a save takes more than \(Self.limit) operations")
    }

    /// The same when the step is saved for the second time, and when no checkpoint was there at all.
    @Test(arguments: [[], [10, 20]]) func aCrashOfAnotherFirstOrRepeatedSave(_ earlier: [Int]) throws {
        let before = try Self.disk(with: earlier)
        for place in 0..<Self.limit {
            let disk = before.restarted(.nothing)
            let (injector, results) = Self.save(CheckpointFixture(20), on: disk, victim: 0, at: place, .crash)
            for loss in SimulatedDisk.Loss.allCases {
                let after = disk.restarted(loss)
                let error = try artifactError {
                    try CheckpointFixture(20).check(try openLatest(after).checkpoint)
                }
                if let error {
                    #expect(earlier.isEmpty && !Self.committed(results[0]), "\(error)")
                    guard case .missing(_, "there is no checkpoint") = error else { throw error }
                }
            }
            if !injector.fired { return }
        }
        Issue.record("a save takes more than \(Self.limit) operations")
    }

    static let faults: [FaultyFileSystem.Fault] = [.once(EIO), .once(ENOSPC), .full]

    /// A failed operation is an error on every rank or a warning after the commit, never a lost checkpoint, and the
    /// job can go on.
    @Test(arguments: faults) func aFailedOperationIsSurvived(_ fault: FaultyFileSystem.Fault) throws {
        let before = try Self.disk(with: [10])
        for victim in 0..<Self.worldSize {
            var failures = 0
            for place in 0..<Self.limit {
                let disk = before.restarted(.nothing)
                let (injector, results) = Self.save(CheckpointFixture(20), on: disk, victim: victim, at: place, fault)
                let outcomes = Set(results.map(Self.committed))
                #expect(outcomes.count == 1, "rank \(victim), operation \(place): the ranks differ")
                if !Self.committed(results[0]) {
                    failures += 1
                    for result in results {
                        let error = try #require(try artifactError { _ = try result.get() })
                        // Reads happen too: the list of folders.
                        guard case .cannotWrite = error else {
                            guard case .cannotRead = error else { throw error }
                            continue
                        }
                    }
                }
                let opened = try openLatest(disk)
                try CheckpointFixture(opened.checkpoint.step).check(opened.checkpoint)
                #expect(!outcomes.contains(true) || opened.checkpoint.step == 20)
                try CheckpointFixture(30).save(disk, retention: Self.retention)
                #expect(try openLatest(disk).checkpoint.step == 30)
                #expect(!disk.tree().contains { $0.contains(".tmp-") })
                if !injector.fired { break }
            }
            #expect(failures > 5)
        }
    }

    /// Writes of which half arrives without an error, one after the other: what is missing is found by its size before the
    /// commit, or by its hash when the checkpoint is opened, and the one before is still there.
    @Test func aTornWriteCostsNoCheckpoint() throws {
        let before = try Self.disk(with: [10])
        for victim in 0..<Self.worldSize {
            var found = 0
            for place in 0..<Self.limit {
                let disk = before.restarted(.nothing)
                let (injector, results) = Self.save(CheckpointFixture(20), on: disk, victim: victim, at: place, .torn)
                let isCommitted = Self.committed(results[0])
                #expect(results.allSatisfy { Self.committed($0) == isCommitted }, "rank \(victim), operation \(place)")
                let opened = try openLatest(disk)
                try CheckpointFixture(opened.checkpoint.step).check(opened.checkpoint)
                if opened.checkpoint.step == 10 {
                    found += 1
                    #expect(!isCommitted || !opened.warnings.isEmpty, "rank \(victim), operation \(place)")
                }
                try CheckpointFixture(30).save(disk, retention: Self.retention)
                #expect(try openLatest(disk).checkpoint.step == 30)
                if !injector.fired { break }
            }
            #expect(found > 1)
        }
    }

    /// Once the disk is full, a failed save leaves nothing that would keep it full.
    @Test func aFullDiskIsNotKeptFull() throws {
        let disk = try Self.disk(with: [10])
        let tree = disk.tree()
        let (_, results) = Self.save(CheckpointFixture(20), on: disk, victim: 1, at: 4, .full)
        let error = try #require(try artifactError { _ = try results[1].get() })
        #expect("\(error)".contains("No space left") && "\(error)".contains("head-00001-of-00003.safetensors"))
        let other = try #require(try artifactError { _ = try results[0].get() })
        #expect("\(other)".contains("another rank could not write"))
        #expect(disk.tree() == tree)
    }

    @Test func openingUnderFaultsGivesACheckpointOrAnErrorThatNamesTheFile() throws {
        let disk = SimulatedDisk()
        for step in [10, 20] { try CheckpointFixture(step).save(disk) }
        for place in 0..<Self.limit {
            let injector = FaultyFileSystem(disk, at: place, .once(EIO))
            let error = try artifactError {
                let opened = try openLatest(injector)
                #expect([10, 20].contains(opened.checkpoint.step))
                #expect(!injector.fired || !opened.warnings.isEmpty)
            }
            if let error {
                guard case .cannotRead = error else { throw error }
                #expect(error.path == CheckpointFixture.run + "/checkpoints")
            }
            if !injector.fired { return }
        }
        Issue.record("opening takes more than \(Self.limit) operations")
    }

    /// The operating system's own files, in one process. Its fsync is slow: some operations.
    @Test func aCrashOnARealDisk() throws {
        for place in stride(from: 0, to: Self.limit, by: 7) {
            let folder = try TemporaryFolder()
            try CheckpointFixture(10).save(POSIXFileSystem(), run: folder.path)
            let injector = FaultyFileSystem(POSIXFileSystem(), at: place, .crash)
            let result = Result {
                try CheckpointFixture(20).save(
                    injector, run: folder.path, ranks: injector.guarding(.alone), retention: Self.retention)
            }
            let opened = try openLatest(POSIXFileSystem(), run: folder.path)
            try CheckpointFixture(opened.checkpoint.step).check(opened.checkpoint)
            if Self.committed(result) { #expect(opened.checkpoint.step == 20) }
            try CheckpointFixture(30).save(POSIXFileSystem(), run: folder.path)
            #expect(try openLatest(POSIXFileSystem(), run: folder.path).checkpoint.step == 30)
            if !injector.fired { return }
        }
        Issue.record("a save takes more than \(Self.limit) operations")
    }

    @Test func aFolderThatCannotBeWrittenIsSaid() throws {
        let folder = try TemporaryFolder()
        _ = try folder.write("checkpoints", [1])
        let error = try #require(
            try artifactError { try CheckpointFixture(1).save(POSIXFileSystem(), run: folder.path) })
        guard case .cannotWrite = error else { throw error }
        #expect(error.path.hasPrefix(folder.file("checkpoints")))
    }

    @Test func linksInACheckpointAreRefused() throws {
        let folder = try TemporaryFolder()
        try CheckpointFixture(1).save(POSIXFileSystem(), run: folder.path)
        let state = folder.file("checkpoints/step-00000001/state.json")
        try FileManager.default.moveItem(atPath: state, toPath: folder.file("elsewhere"))
        try FileManager.default.createSymbolicLink(atPath: state, withDestinationPath: folder.file("elsewhere"))
        let error = try #require(try artifactError { _ = try openLatest(POSIXFileSystem(), run: folder.path) })
        #expect(error.path == state && "\(error)".contains("links are not followed"))
    }
}
