import Artifacts
import Recipes
import TestSupport
import Testing
import Training

/// When runs end: all ranks at the same step, with a checkpoint.
@Suite(.serialized) struct RunLimitTests {
    private func expectSaved(_ recipe: Recipe, _ run: TinyRun.Outcome, step: Int, _ ending: Trainer.Ending) throws {
        #expect(run.endings.allSatisfy { $0 == ending }, "\(run.endings)")
        #expect(run.states.allSatisfy { $0.step == step && $0.position == 12 * step })
        let saved = try TinyRun.checkpoint(recipe, step: step)
        #expect(saved.verify().isEmpty)
        #expect(try saved.state(RunState.self) == run.states[0])
    }

    @Test func theScheduleEnds() throws {
        let folder = try TemporaryFolder()
        // Two updates an epoch.
        let recipe = TinyRun.recipe(folder.file("run")) { $0.schedule.epochs = 1.5 }
        try expectSaved(recipe, try TinyRun.train(recipe, ranks: 2), step: 3, .complete)
    }

    @Test func maxSteps() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) { $0.schedule.maxSteps = 2 }
        try expectSaved(recipe, try TinyRun.train(recipe, ranks: 3), step: 2, .stopped("max_steps"))
    }

    /// Rank 0's clock decides for all; the step under way is finished.
    @Test func maxTime() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) { $0.schedule.maxTime = 0 }
        try expectSaved(recipe, try TinyRun.train(recipe, ranks: 2), step: 1, .stopped("max_time"))
    }

    @Test(arguments: [0, 1, 2]) func oneRankIsAskedToStop(_ asked: Int) throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run"))
        let questions = Box([0, 0, 0])
        // From its second update on.
        let run = try TinyRun.train(recipe, ranks: 3) { rank in
            questions.update { $0[rank] += 1 }
            return rank == asked && questions.value[rank] >= 2
        }
        try expectSaved(recipe, run, step: 2, .interrupted)

        // Interrupted and resumed is not interrupted.
        let rest = TinyRun.recipe(folder.file("run")) { $0.schedule.maxSteps = 3 }
        try TinyRun.train(rest, ranks: 3, resume: true)
        let whole = TinyRun.recipe(folder.file("whole")) { $0.schedule.maxSteps = 3 }
        try TinyRun.train(whole, ranks: 3)
        #expect(TinyRun.differences(try TinyRun.files(whole, step: 3), try TinyRun.files(rest, step: 3)).isEmpty)
    }

    /// Nothing is updated, and every rank says the same.
    @Test func aLossThatIsNotFiniteEndsTheRun() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) {
            $0.optimizer.learningRate = 1e30
            $0.schedule.warmupSteps = 0
            $0.optimizer.clipNorm = 0
        }
        for failure in try TinyRun.failures(recipe, ranks: 2) {
            #expect(failure?.exitCode == 76 && failure?.message.contains("is not finite") == true)
        }
    }
}
