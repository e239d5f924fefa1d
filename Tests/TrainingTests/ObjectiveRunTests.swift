import Artifacts
import Collectives
import FaceData
import Foundation
import Layers
import Networks
import Objectives
import Recipes
import Tensors
import Testing
import Training

/// Steps and runs with objectives beside the classification.
@Suite(.serialized) struct ObjectiveRunTests {
    /// One update over four pairs; the second views are the given images.
    private struct Fixture {
        let network: Network
        let training: TrainingStep
        let input: StepInput

        init(
            qualities: [Float]?, bothViews: Bool = false, second: ClosedRange<Int> = 4...7,
            _ change: (inout SelfDistillation.Options) -> Void = { _ in }
        ) throws {
            let pool = ThreadPool(threads: 2)
            network = try NetworkSpecification("mobilefacenet", embeddingSize: 32, width: 0.25).build()
            network.initialize(seed: 2)
            let communicator = SoloCommunicator()
            var options = SelfDistillation.Options()
            options.classifiesBothViews = bothViews
            change(&options)
            let distillation = qualities.map {
                SelfDistillation(
                    options, qualities: $0, batch: 4, dimension: 32, communicator: communicator, pool: pool)
            }
            let demand = distillation?.demand ?? .single
            let classifier = ShardedClassifier<Float>(
                classes: 10, dimension: 32, batch: 4 * demand.classified, margin: ArcFace(), communicator: communicator,
                pool: pool, seed: 2)
            let stack = ObjectiveStack(
                MarginClassification(classifier, pool: pool), distillation.map { [$0] } ?? [], demand: demand)
            var recipe = Recipe()
            recipe.optimizer.learningRate = 0.01
            recipe.optimizer.weightDecay = 0
            training = try TrainingStep(
                network: network, objective: stack, communicator: communicator, pool: pool, batch: 4, recipe: recipe,
                schedule: LearningRateSchedule(recipe.schedule, recipe.optimizer, globalBatch: 4, stepsPerEpoch: 100))
            let faces = SyntheticFaces(seed: 3)
            let views = [Array(0...3)] + (qualities == nil ? [] : [Array(second)])
            let indices = views.flatMap { $0 }
            input = StepInput(
                images: Preprocessing.arcFace.tensor(indices.map { faces.image(identity: $0 % 4, index: $0 / 4).0 }),
                labels: [3, 1, 9, 3], records: indices)
        }

        func update(count: Int = 1) throws -> StepReport {
            try training.update(step: 0, count: count, flags: { StepFlags() }) { _ in input }
        }

        var gradients: [Float] { Array(training.reducer.gradients) }
    }

    /// Where the qualities are equal the second view teaches nothing, and the gradient is that of the first alone.
    @Test func aViewThatTeachesNothingLeavesTheGradient() throws {
        let plain = try Fixture(qualities: nil)
        let loss = try plain.update().loss
        let silent = try Fixture(qualities: .init(repeating: 50, count: 8))
        #expect(try silent.update().loss == loss)
        #expect(silent.gradients == plain.gradients)
        let taught = try Fixture(qualities: [10, 90, 30, 70, 60, 40, 80, 20])
        let report = try taught.update()
        #expect(report.loss > loss && report.outcome.metrics["taught"]! > 0)
        #expect(taught.gradients != plain.gradients)
    }

    /// Both views classified, of the same images: the mean of two equal losses.
    @Test func bothViewsMayBeClassified() throws {
        let plain = try Fixture(qualities: nil)
        let loss = try plain.update().loss
        let both = try Fixture(qualities: .init(repeating: 50, count: 8), bothViews: true, second: 0...3)
        #expect(abs(try both.update().loss - loss) < 1e-6 * loss)
        let a = plain.gradients
        let b = both.gradients
        let scale = a.reduce(0) { max($0, abs($1)) }
        #expect(zip(a, b).allSatisfy { abs($0 - $1) < 1e-4 * scale })
    }

    /// What the stages' taps teach reaches the layers below them, and no layer above.
    @Test func tapsReachTheLayersBelowThem() throws {
        let qualities: [Float] = [10, 90, 30, 70, 60, 40, 80, 20]
        let plain = try Fixture(qualities: .init(repeating: 50, count: 8)) {
            $0.embedding = 0; $0.logits = 0
        }
        let taught = try Fixture(qualities: qualities) {
            $0.embedding = 0; $0.logits = 0
        }
        _ = try plain.update()
        _ = try taught.update()
        let (a, b) = (plain.gradients, taught.gradients)
        for (parameter, range) in taught.training.arena.parameters {
            let isAbove = ["conv2.", "linear7.", "linear1."].contains { parameter.name.hasPrefix($0) }
            #expect((a[range] == b[range]) == isAbove, "\(parameter.name)")
        }
    }

    // MARK: - Runs

    private func recipe(_ folder: String, steps: Int) -> Recipe {
        TinyRun.recipe(folder) {
            $0.objectives.certainty = CertaintySection()
            $0.head = TinyRun.head("{margin: arcface, scale: 16}")
            $0.schedule.maxSteps = steps
        }
    }

    @Test func qualityIsLearntAndResumed() throws {
        let folder = try TemporaryFolder()
        try TinyRun.train(recipe(folder.file("whole"), steps: 4), ranks: 2)
        try TinyRun.train(recipe(folder.file("parts"), steps: 2), ranks: 2)
        try TinyRun.train(recipe(folder.file("parts"), steps: 4), ranks: 2, resume: true)
        let whole = try TinyRun.files(recipe(folder.file("whole"), steps: 4), step: 4)
        let parts = try TinyRun.files(recipe(folder.file("parts"), steps: 4), step: 4)
        #expect(TinyRun.differences(whole, parts).isEmpty)
        let state = try TinyRun.checkpoint(recipe(folder.file("whole"), steps: 4), step: 4)
        let model = try state.tensors("model.safetensors")
        #expect(try model.tensor("qs.weight").shape == [1, 64])
        let events = try TinyRun.events(recipe(folder.file("whole"), steps: 4)).filter { $0["event"] as? String == "step" }
        #expect(events.allSatisfy { $0["quality_loss"] is Double && $0["certainty_ratio"] is Double })
    }

    /// The recogniser as it was; only the quality layer has moved.
    @Test func onTopOnlyTheQualityLayerLearns() throws {
        let folder = try TemporaryFolder()
        let base = TinyRun.recipe(folder.file("base")) {
            $0.head = TinyRun.head("{margin: arcface, scale: 16}")
            $0.schedule.maxSteps = 2
        }
        try TinyRun.train(base, ranks: 1)
        let model = try TinyRun.checkpoint(base, step: 2).folder + "/model.safetensors"
        let top = TinyRun.recipe(folder.file("top")) {
            $0.head = base.head
            $0.objectives.certainty = CertaintySection()
            $0.objectives.certainty?.onTop = true
            $0.start.weights = model
            $0.start.head = base.run.folder
            $0.schedule.maxSteps = 3
        }
        let results = try TinyRun.onRanks(top, ranks: 1) { trainer, _ in
            func layer() -> [Float] { trainer.objective.parameters.flatMap { Array($0.value.floats) } }
            func others() -> [[UInt8]] {
                trainer.network.state.map { Array($0.value.bytes) } + [Array(trainer.head.classifier.centres.bytes)]
            }
            let before = (layer(), others())
            _ = try trainer.run()
            return (before, (layer(), others()))
        }
        let (before, after) = results[0]
        #expect(before.1 == after.1 && before.0 != after.0)
    }

    @Test func objectivesThatCannotBeHadAreRefused() throws {
        let folder = try TemporaryFolder()
        let inner = TinyRun.recipe(folder.file("inner")) {
            $0.objectives.certainty = CertaintySection()
            $0.head = TinyRun.head("{margin: softmax}")
        }
        let sampled = TinyRun.recipe(folder.file("sampled")) {
            $0.objectives.certainty = CertaintySection()
            $0.head = TinyRun.head("{sampling: {rate: 0.5}}")
        }
        let table = TinyRun.recipe(folder.file("table")) {
            $0.objectives.distillation = SelfDistillationSection()
            $0.objectives.distillation?.qualities = folder.file("none.tsv")
        }
        for (recipe, code, text) in [(inner, 65, "cosines"), (sampled, 65, "every class"), (table, 66, "none.tsv")] {
            for failure in try TinyRun.failures(recipe, ranks: 2) {
                #expect(
                    failure?.exitCode == Int32(code) && failure?.message.contains(text) == true,
                    "\(String(describing: failure))")
            }
        }
    }
}
