import Collectives
import FaceData
import Foundation
import Recipes
import Telemetry
import Tensors
import TestSupport
import Testing
import Training

/// What all ranks must have alike, and who is named when they do not.
@Suite(.serialized) struct ConsistencyTests {
    /// The failure of each rank where each has a recipe of its own.
    private func failures(ranks: Int, _ recipe: @escaping @Sendable (_ rank: Int) -> Recipe) throws -> [RunFailure?] {
        try InProcessGroup.run(ranks: ranks) { communicator in
            do {
                _ = try Trainer(
                    recipe(communicator.rank),
                    RunEnvironment(
                        communicator: communicator, pool: ThreadPool(threads: 1), logger: LogCapture().logger,
                        progress: .never), resume: false)
                return nil
            } catch let failure as RunFailure {
                return failure
            }
        }
    }

    @Test func anotherRecipeIsNoticed() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("run")
        let found = try failures(ranks: 3) { rank in
            TinyRun.recipe(path) { if rank == 1 { $0.optimizer.learningRate = 0.07 } }
        }
        for failure in found {
            #expect(failure?.exitCode == 65)
            #expect(failure?.message.hasPrefix("the ranks differ in their recipe: rank 1 (host-0: recipe ") == true)
        }
        // Nothing was written.
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test func fingerprintsFollowTheData() throws {
        func source(_ identities: Int, seed: UInt64 = 8) -> SyntheticSource {
            SyntheticSource(SyntheticFaces(seed: seed), identities: 0..<identities, imagesPerIdentity: 2)
        }
        let one = Consistency.fingerprint(source(4))
        #expect(one == Consistency.fingerprint(source(4)))
        #expect(one.hash != Consistency.fingerprint(source(5)).hash)
        let reversed = try SubsetSource(source(4), indices: [1, 0, 2, 3, 4, 5, 6, 7])
        #expect(one.hash != Consistency.fingerprint(reversed).hash)
        #expect(one.text.hasPrefix("8 images of 4 identities in "))
    }

    /// Every bit of every value counts.
    @Test func hashesSeeEveryBit() {
        var values = (0..<67).map { Float($0) }
        let hash = values.withUnsafeBufferPointer { Consistency.hash($0) }
        for index in [0, 1, 15, 16, 31, 63, 64, 66] {
            for bit in [0, 15, 31] {
                let kept = values[index]
                values[index] = Float(bitPattern: kept.bitPattern ^ 1 << UInt32(bit))
                #expect(values.withUnsafeBufferPointer { Consistency.hash($0) } != hash, "value \(index), bit \(bit)")
                values[index] = kept
            }
        }
        #expect(values.withUnsafeBufferPointer { Consistency.hash($0) } == hash)
        // Two signs of one lane.
        (values[1], values[9]) = (-values[1], -values[9])
        #expect(values.withUnsafeBufferPointer { Consistency.hash($0) } != hash)
        (values[1], values[9]) = (-values[1], -values[9])
        #expect(values.dropLast().withUnsafeBufferPointer { Consistency.hash($0) } != hash)
    }

    @Test(arguments: 0..<3) func parametersThatHaveDriftedEndTheRun(_ culprit: Int) throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) { $0.schedule.maxSteps = 1 }
        let messages = try TinyRun.onRanks(recipe, ranks: 3) { trainer, communicator -> [String] in
            try trainer.compareParameters()
            if communicator.rank == culprit {
                let values = trainer.step.arena.values.floats
                values[values.count / 2] = values[values.count / 2].nextUp
            }
            do {
                try trainer.save()
            } catch let failure as RunFailure {
                return [failure.message, "\(failure.exitCode)"]
            }
            return []
        }
        for message in messages {
            #expect(message.count == 2 && message[1] == "70")
            #expect(message[0].hasPrefix("the ranks differ in their parameters after step 0: rank \(culprit) (host-0)"))
        }
    }

    @Test func whatWasSpentStandsInTheLog() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) {
            $0.schedule.maxSteps = 3
            $0.run.checkEvery = 1
        }
        try TinyRun.train(recipe, ranks: 2)
        let steps = try TinyRun.events(recipe).filter { $0["event"] as? String == "step" }
        let spent = steps.compactMap { $0["consistency_seconds"] as? Double }
        #expect(spent.count == 3 && spent[2] > 0 && spent == spent.sorted())
        #expect(steps.allSatisfy { $0["watchdog_seconds"] is Double })
    }

    // MARK: - Stragglers

    private func share(wait: Double, step: Double = 1) -> RankTimes.Share {
        RankTimes.Share(compute: step - wait, dataWait: 0, collectiveWait: wait, step: step)
    }

    @Test func theRankThatWaitsLeastIsTheCulprit() {
        let found = RankTimes.straggler([share(wait: 0.5), share(wait: 0.45), share(wait: 0.02), share(wait: 0.48)])
        #expect(found?.rank == 2 && abs((found?.seconds ?? 0) - 0.46) < 1e-9)
        #expect(RankTimes.straggler([share(wait: 0.1), share(wait: 0.05)]) == nil)
        #expect(RankTimes.straggler([share(wait: 0.0015, step: 0.002), share(wait: 0, step: 0.002)]) == nil)
        #expect(RankTimes.straggler([share(wait: 0)]) == nil && RankTimes.straggler([]) == nil)
    }

    /// To evaluate and to save, ranks wait as well; that says nothing about their updates.
    @Test func onlyUpdatesCount() throws {
        let communicator = SoloCommunicator()
        var times = RankTimes()
        func wait(_ seconds: Double) throws {
            try communicator.ring.record(channel: "world", operation: "barrier", label: "x", bytes: 0) {
                Thread.sleep(forTimeInterval: seconds)
            }
        }
        for _ in 0..<3 {
            times.begin(communicator.ring)
            try wait(0.001)
            times.add(communicator.ring, seconds: 0.2, reduceWait: 0.01, dataWait: 0.01)
            try wait(0.3)
        }
        let share = try times.exchange(communicator)[0]
        #expect(share.collectiveWait > 0 && share.collectiveWait < 0.15 && share.compute > 0 && share.compute < 0.18)
    }

    /// A delay on each rank in turn: that rank is named.
    @Test(arguments: 0..<3) func aDelayedRankIsNamed(_ rank: Int) throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) {
            $0.schedule.maxSteps = 13
            $0.log.everySteps = 12
        }
        let run = try TinyRun.train(
            recipe, ranks: 3, faults: FaultPlan(parsing: ["delay@rank=\(rank),seconds=0.15"]) { _ in })
        let found = try TinyRun.events(recipe).filter { $0["event"] as? String == "straggler" }
        #expect(found.count == 1 && found.first?["rank"] as? Int == rank, "\(found)")
        #expect((found.first?["collective_wait_seconds"] as? [Double])?.count == 3)
        #expect(run.log.warnings.contains { $0.contains("rank \(rank) on host-0 holds the others up") })
    }
}
