import Collectives
import Layers
import Networks
import Objectives
import Recipes
import Tensors
import Testing
import Training

/// Updates of a small backbone on one rank.
@Suite struct TrainingStepTests {
    /// A step over four images and ten classes.
    private struct Fixture {
        let network: Network
        let classifier: ShardedClassifier<Float>
        let training: TrainingStep
        let input: StepInput

        init(keepsGradient: Bool = true, _ change: (inout Recipe) -> Void) throws {
            let pool = ThreadPool(threads: 2)
            network = try NetworkSpecification("mobilefacenet", embeddingSize: 32, width: 0.25).build()
            network.initialize(seed: 2)
            let communicator = SoloCommunicator()
            classifier = ShardedClassifier<Float>(
                classes: 10, dimension: 32, batch: 4, margin: ArcFace(), communicator: communicator, pool: pool,
                seed: 2, keepsGradient: keepsGradient)
            var recipe = Recipe()
            recipe.optimizer.learningRate = 0.01
            recipe.optimizer.weightDecay = 0
            recipe.schedule.power = 0
            change(&recipe)
            training = try TrainingStep(
                network: network, objective: MarginClassification(classifier, pool: pool), communicator: communicator,
                pool: pool, batch: 4, recipe: recipe,
                schedule: LearningRateSchedule(recipe.schedule, recipe.optimizer, globalBatch: 4, stepsPerEpoch: 100))
            var stream = RandomStream(seed: 2, purpose: .test, index: 0)
            let images = (0..<4 * network.specification.inputShape.count).map { _ in Float(stream.uniform(-1, 1)) }
            input = StepInput(
                images: Tensor([4, 3, 112, 112], images), labels: [3, 1, 9, 3], records: [0, 1, 2, 3])
        }

        func update(step: Int = 0, count: Int = 1) throws -> StepReport {
            try training.update(step: step, count: count, flags: { StepFlags() }) { _ in input }
        }

        var values: [Float] { Array(training.arena.values.floats) + Array(classifier.centres.floats) }
    }

    @Test func theSameMicroBatchTwiceIsTheSameUpdate() throws {
        let one = try Fixture { $0.optimizer.clipNorm = 0 }
        let two = try Fixture { $0.optimizer.clipNorm = 0 }
        let start = one.values
        let single = try one.update()
        let double = try two.update(count: 2)
        #expect(abs(single.loss - double.loss) < 1e-9 && abs(single.gradientNorm - double.gradientNorm) < 1e-6)
        // Halves add up exactly but for the order of a few sums.
        for ((a, b), before) in zip(zip(one.values, two.values), start) {
            #expect(abs(a - b) <= 1e-5 * max(abs(a - before), 1e-3))
        }
        #expect(one.values != start)
    }

    @Test func clippingShortensTheBackbonesGradientOnly() throws {
        let free = try Fixture { $0.optimizer.clipNorm = 0 }
        let norm = try free.update().gradientNorm
        let clipped = try Fixture { $0.optimizer.clipNorm = norm / 4 }
        let start = Array(clipped.training.arena.values.floats)
        let report = try clipped.update()
        // The norm is that of before; the step is four times shorter.
        #expect(report.gradientNorm == norm)
        let steps = [free, clipped].map { run in
            zip(run.training.arena.values.floats, start).reduce(0.0) { sum, pair in
                let difference = Double(pair.0) - Double(pair.1)
                return sum + difference * difference
            }.squareRoot()
        }
        #expect(abs(steps[0] - 0.01 * norm) < 1e-3 * steps[0])
        #expect(abs(steps[1] - steps[0] / 4) < 1e-3 * steps[1])
        #expect(Array(clipped.classifier.centres.floats) == Array(free.classifier.centres.floats))
        // Longer than the gradient, it changes nothing.
        let loose = try Fixture { $0.optimizer.clipNorm = 4 * norm }
        _ = try loose.update()
        #expect(loose.values == free.values)
    }

    @Test(arguments: [true, false]) func refusesAnUpdateThatIsNotFinite(keepsGradient: Bool) throws {
        let fixture = try Fixture(keepsGradient: keepsGradient) { _ in }
        let start = fixture.values
        fixture.input.images.floats[5] = .nan
        #expect(throws: TrainingError.self) { try fixture.update(step: 6) }
        #expect(fixture.values == start)
    }

    @Test(arguments: [true, false]) func learns(keepsGradient: Bool) throws {
        let fixture = try Fixture(keepsGradient: keepsGradient) { $0.optimizer.learningRate = 0.02 }
        let losses = try (0..<12).map { try fixture.update(step: $0).loss }
        #expect(losses.allSatisfy { $0.isFinite } && losses.last! < 0.5 * losses.first!, "\(losses)")
    }
}
