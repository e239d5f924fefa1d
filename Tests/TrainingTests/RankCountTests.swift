import Collectives
import FaceData
import Layers
import Networks
import Objectives
import Recipes
import Tensors
import Testing
import Training

/// What does not depend on the number of ranks.
@Suite(.serialized) struct RankCountTests {
    @Test func everyRunStartsAlike() throws {
        let folder = try TemporaryFolder()
        func start(_ ranks: Int) throws -> (state: [[UInt8]], centres: [UInt8], labels: [Int64]) {
            let recipe = TinyRun.recipe(folder.file("run-\(ranks)")) { $0.schedule.maxSteps = 3 }
            let all = try TinyRun.onRanks(recipe, ranks: ranks) { trainer, _ in
                let state = trainer.network.state.map { Array($0.value.bytes) }
                let centres = Array(trainer.head.classifier.centres.bytes)
                _ = try trainer.run()
                return (state, centres, Array(trainer.head.classifier.gatheredLabels))
            }
            for rank in all { #expect(rank.0 == all[0].0 && rank.2 == all[0].2) }
            return (all[0].0, all.flatMap(\.1), all[0].2)
        }
        let one = try start(1)
        #expect(one.labels.count == 12 && Set(one.labels).count > 1)
        for ranks in [2, 3, 4] {
            let several = try start(ranks)
            #expect(several.state == one.state, "initial parameters on \(ranks) ranks")
            #expect(several.centres == one.centres, "initial centres on \(ranks) ranks")
            // Of the third step, which is the second epoch's first.
            #expect(several.labels == one.labels, "the global batch on \(ranks) ranks")
        }
    }

    /// Batch norm sees the images of its own rank, so in general the losses of 1 and W ranks differ. They agree when every
    /// rank has the same images (under labels of their own): statistics are equal then, and since equal images have equal
    /// Jacobians, so are the sums that reach the parameters. `period` images repeat through the global batch of 12.
    ///
    /// The first gradient is the test. Afterwards PReLU's kinks and norms over few images multiply the rounding of the
    /// sums by ten and more an update, so the later losses are compared at a small rate and loosely.
    @Test(arguments: [(ranks: 2, period: 6), (ranks: 3, period: 4)])
    func lossesAgreeWhereBatchNormDoes(ranks: Int, period: Int) throws {
        let one = try Self.train(ranks: 1, period: period)
        let several = try Self.train(ranks: ranks, period: period)
        let zero = [Float](repeating: 0, count: one.gradient.count)
        #expect(Self.distance(several.gradient, one.gradient) < 1e-4 * Self.distance(one.gradient, zero))
        for (index, (a, b)) in zip(one.losses, several.losses).enumerated() {
            #expect(abs(a - b) < (index == 0 ? 1e-6 : 1e-4) * a, "\(one.losses) \(several.losses)")
        }
        #expect(one.losses[3] < 0.95 * one.losses[0], "it must learn something: \(one.losses)")
        // Other images on each rank: what batch norm does to the comparison, and that it can fail.
        let mixed = try Self.train(ranks: ranks, period: 12)
        let whole = try Self.train(ranks: 1, period: 12)
        #expect(abs(mixed.losses[0] - whole.losses[0]) > 1e-3 * whole.losses[0])
    }

    private static func distance(_ a: [Float], _ b: [Float]) -> Double {
        zip(a, b).reduce(0.0) { sum, pair in
            let difference = Double(pair.0) - Double(pair.1)
            return sum + difference * difference
        }.squareRoot()
    }

    /// Four updates: their losses, and the backbone's gradient of the first.
    private static func train(ranks: Int, period: Int) throws -> (losses: [Double], gradient: [Float]) {
        let results = try InProcessGroup.run(ranks: ranks) { communicator in
            let pool = ThreadPool(threads: 1)
            let network = try NetworkSpecification("mobilefacenet", embeddingSize: 64, width: 0.25).build()
            network.initialize(seed: 2)
            let batch = 12 / ranks
            let classifier = ShardedClassifier<Float>(
                classes: 10, dimension: 64, batch: batch, margin: ArcFace(scale: 16), communicator: communicator,
                pool: pool, seed: 2, initializer: .unitUniform)
            var recipe = Recipe()
            recipe.optimizer.learningRate = 0.001
            let step = try TrainingStep(
                network: network, objective: MarginClassification(classifier, pool: pool), communicator: communicator,
                pool: pool, batch: batch, recipe: recipe,
                schedule: LearningRateSchedule(recipe.schedule, recipe.optimizer, globalBatch: 12, stepsPerEpoch: 100))
            let rows = communicator.rank * batch..<(communicator.rank + 1) * batch
            let faces = SyntheticFaces(seed: 3)
            let input = StepInput(
                images: Preprocessing.arcFace.tensor(rows.map { faces.image(identity: $0 % period, index: 0).0 }),
                labels: rows.map { $0 * 7 % 10 }, records: Array(rows))
            func update(_ index: Int) throws -> Double {
                try step.update(step: index, count: 1, flags: { StepFlags() }) { _ in input }.loss
            }
            let first = try update(0)
            let gradient = Array(step.reducer.gradients)
            return ([first] + (try (1..<4).map(update)), gradient)
        }
        for rank in results { #expect(rank.0 == results[0].0 && rank.1 == results[0].1) }
        return results[0]
    }
}
