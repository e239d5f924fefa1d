import Artifacts
import Foundation
import Layers
import Networks
import Recipes
import Tensors
import Testing
import Training

/// Updates that are not made: what becomes of them, and of the run.
@Suite(.serialized) struct StabilityTests {
    private func plan(_ texts: String...) throws -> FaultPlan { try FaultPlan(parsing: texts) { _ in } }

    private func events(_ recipe: Recipe, _ name: String) throws -> [[String: Any]] {
        try TinyRun.events(recipe).filter { $0["event"] as? String == name }
    }

    private func incidents(_ recipe: Recipe) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: recipe.run.folder + "/incidents").sorted()
            .map { recipe.run.folder + "/incidents/" + $0 }
    }

    @Test func aGradientThatIsNoNumberStopsTheRun() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) { $0.schedule.maxSteps = 4 }
        for failure in try TinyRun.failures(recipe, ranks: 2, faults: plan("nan@rank=1,step=3")) {
            #expect(failure?.exitCode == 76)
            #expect(failure?.message.contains("step 3: a gradient of the backbone is not finite") == true)
            #expect(failure?.message.contains("'acuity replay \(recipe.run.folder)/incidents/step-00000003-1'") == true)
        }
        // What was computed is sound: the fault came from outside.
        let incident = try #require(try incidents(recipe).first)
        var replay = try Replay(incident, pool: ThreadPool(threads: 1))
        try replay.run()
        #expect(replay.first == nil && replay.largestDifference < 1e-6)
        #expect(replay.incident.step == 3 && replay.incident.shares.count == 2 && replay.incident.position == 24)
        #expect(replay.incident.shares.allSatisfy { $0.records.map(\.count) == [6] && $0.labels.map(\.count) == [6] })
        #expect(replay.incident.gradients.contains { !$0.norm.isFinite } && replay.incident.gradientNorm.isNaN)
    }

    @Test func aSkippedUpdateLeavesNothingBehind() throws {
        let folder = try TemporaryFolder()
        func recipe(_ name: String) -> Recipe {
            TinyRun.recipe(folder.file(name)) {
                $0.schedule.maxSteps = 4
                $0.stability.policy = .skip
            }
        }
        let one = recipe("one")
        let run = try TinyRun.train(one, ranks: 2, faults: plan("nan@rank=1,step=2"))
        #expect(run.states.allSatisfy { $0.step == 4 && $0.position == 48 && $0.skippedUpdates == 1 })
        let skipped = try events(one, "skipped")
        #expect(skipped.count == 1 && skipped[0]["step"] as? Int == 2)
        #expect(run.log.warnings.contains { $0.contains("left out (1 of at most 10)") })
        let sound = try TinyRun.onRanks(recipe("two"), ranks: 2, faults: plan("nan@rank=0,step=3")) { trainer, _ in
            _ = try trainer.run()
            return ModelFile.nonFinite(trainer.network)
        }
        #expect(sound.allSatisfy { $0 == nil })
    }

    /// Parameters, statistics, momentum and centres are those of before.
    @Test func aSkippedUpdateIsAsIfItHadNotBeen() throws {
        let folder = try TemporaryFolder()
        func recipe(_ name: String, steps: Int) -> Recipe {
            TinyRun.recipe(folder.file(name)) {
                $0.schedule.maxSteps = steps
                $0.stability.policy = .skip
                $0.head = TinyRun.head("{margin: curricularface, scale: 16}")
            }
        }
        let (before, after) = (recipe("before", steps: 1), recipe("after", steps: 2))
        try TinyRun.train(before, ranks: 2)
        try TinyRun.train(after, ranks: 2, faults: plan("nan@rank=0,step=2"))
        let differences = TinyRun.differences(
            try TinyRun.files(before, step: 1), try TinyRun.files(after, step: 2))
        #expect(differences == ["state.json"], "\(differences)")
    }

    @Test func aPassingFaultIsUndoneByGoingBack() throws {
        let folder = try TemporaryFolder()
        func recipe(_ name: String) -> Recipe {
            TinyRun.recipe(folder.file(name)) {
                $0.schedule.maxSteps = 4
                $0.checkpoint.everySteps = 2
                $0.stability.policy = .rollback
            }
        }
        let (whole, struck) = (recipe("whole"), recipe("struck"))
        try TinyRun.train(whole, ranks: 2)
        let run = try TinyRun.train(struck, ranks: 2, faults: plan("nan@rank=1,step=3"))
        #expect(run.states.allSatisfy { $0.step == 4 && $0.skippedUpdates == nil })
        #expect(try events(struck, "rollback").count == 1)
        #expect(TinyRun.differences(try TinyRun.files(whole, step: 4), try TinyRun.files(struck, step: 4)).isEmpty)
    }

    @Test func whatComesAgainAfterGoingBackIsLeftOut() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) {
            $0.schedule.maxSteps = 4
            $0.checkpoint.everySteps = 1
            $0.stability.policy = .rollback
        }
        let run = try TinyRun.train(recipe, ranks: 2, faults: plan("nan@rank=1,step=3,times=2"))
        #expect(run.states.allSatisfy { $0.step == 4 && $0.skippedUpdates == 1 })
        #expect(try events(recipe, "rollback").count == 1)
        #expect(try events(recipe, "skipped").count == 1)
    }

    @Test func policiesHaveAnEnd() throws {
        let folder = try TemporaryFolder()
        let skipping = TinyRun.recipe(folder.file("skipping")) {
            $0.stability.policy = .skip
            $0.stability.skipLimit = 2
        }
        for failure in try TinyRun.failures(skipping, ranks: 2, faults: plan("nan@rank=0")) {
            #expect(failure?.exitCode == 76 && failure?.message.contains("stability.skip_limit = 2") == true)
        }
        #expect(try events(skipping, "skipped").count == 2)
        let goingBack = TinyRun.recipe(folder.file("going-back")) { $0.stability.policy = .rollback }
        for failure in try TinyRun.failures(goingBack, ranks: 2, faults: plan("nan@rank=0,step=1")) {
            #expect(failure?.exitCode == 76 && failure?.message.contains("no checkpoint yet to go back to") == true)
        }
    }

    /// Weights that overflow: replay names their layer.
    @Test func replayNamesTheLayer() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) { $0.batch.accumulation = 2 }
        let results = try TinyRun.onRanks(recipe, ranks: 2) { trainer, _ -> (layer: String, code: Int32) in
            let steps = trainer.network.graph.steps
            guard let step = steps.first(where: { $0.layer.parameters.contains { $0.role == .convolution } }) else {
                return ("", 0)
            }
            for parameter in step.layer.parameters where parameter.role == .convolution { parameter.value.fill(3e38) }
            do {
                _ = try trainer.run()
            } catch let failure as RunFailure {
                return (step.name, failure.exitCode)
            }
            return (step.name, 0)
        }
        #expect(results.allSatisfy { $0.code == 76 })
        var replay = try Replay(try #require(try incidents(recipe).first), pool: ThreadPool(threads: 1))
        try replay.run(rank: 1)
        let first = try #require(replay.first)
        #expect(first.stage == .forward && first.rank == 1 && first.pass == 0, "\(first)")
        #expect(first.name == results[0].layer, "\(first)")
        #expect(first.place?.contains("image ") == true && replay.findings.count == 2)
    }

    @Test func aFolderThatIsNoIncidentIsRefused() throws {
        let folder = try TemporaryFolder()
        #expect(throws: ArtifactError.self) { try Replay(folder.file("nothing"), pool: ThreadPool(threads: 1)) }
        try folder.write("incident.json", Array("{\"schema\": 1}".utf8))
        #expect(throws: ArtifactError.self) { try Replay(folder.path, pool: ThreadPool(threads: 1)) }
    }

    // MARK: - Spikes

    @Test func aSpikeIsFarAboveTheMedian() {
        var guardian = SpikeGuard(factor: 3, window: 5)
        for loss in [10.0, 11, 9, 10] { guardian.add(loss) }
        // Too few to tell.
        #expect(guardian.isSpike(1000) == nil)
        guardian.add(50)
        #expect(guardian.isSpike(29) == nil && guardian.isSpike(31) == 10)
        // Only the last ones count.
        for loss in [20, 20, 20.0] { guardian.add(loss) }
        #expect(guardian.losses == [10, 50, 20, 20, 20] && guardian.isSpike(59) == nil && guardian.isSpike(61) == 20)
    }

    /// A factor of one makes a spike of every other loss: some updates are left out, alike on all ranks, and a resumed run
    /// leaves out the same.
    @Test func spikesAreLeftOutAlike() throws {
        let folder = try TemporaryFolder()
        func recipe(_ name: String, steps: Int) -> Recipe {
            TinyRun.recipe(folder.file(name)) {
                $0.schedule.maxSteps = steps
                $0.stability.policy = .skip
                $0.stability.skipLimit = 100
                $0.stability.spikeFactor = 1
                $0.stability.spikeWindow = 5
            }
        }
        let whole = recipe("whole", steps: 12)
        let run = try TinyRun.train(whole, ranks: 2)
        #expect(run.states[0] == run.states[1] && run.states[0].step == 12)
        let skipped = try events(whole, "skipped")
        #expect(skipped.count == run.states[0].skippedUpdates ?? 0)
        try TinyRun.train(recipe("parts", steps: 7), ranks: 2)
        let rest = recipe("parts", steps: 12)
        let resumed = try TinyRun.train(rest, ranks: 2, resume: true)
        #expect(resumed.states[0].recentLosses == run.states[0].recentLosses)
        #expect(TinyRun.differences(try TinyRun.files(whole, step: 12), try TinyRun.files(rest, step: 12)).isEmpty)
    }
}
