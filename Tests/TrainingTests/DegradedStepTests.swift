import Collectives
import FaceData
import Layers
import Networks
import Objectives
import Recipes
import Tensors
import Testing
import Training

/// Updates of a small backbone that learns from records and their degraded copies, on one rank.
@Suite(.serialized) struct DegradedStepTests {
    enum Method: String, Sendable, CaseIterable {
        case relation, contrast, predictor, softTargets, queue
    }

    /// A step over four records in two views and ten classes, at a rate of 0: nothing moves but queues.
    private struct Fixture {
        let stack: ObjectiveStack
        let training: TrainingStep
        let input: StepInput

        init(_ method: Method) throws {
            let pool = ThreadPool(threads: 2)
            let communicator = SoloCommunicator()
            let added: any AddedObjective
            let margin: any MarginFunction
            if method == .queue {
                var options = QueueContrast.Options()
                // The batch and nothing else.
                options.capacity = 8
                options.scale = 8
                options.gate.threshold = 0
                added = QueueContrast(
                    options, classes: 10, batch: 4, dimension: 32, communicator: communicator, pool: pool)
                margin = QualityGatedMargin(AdaFace(scale: 16, averaging: 0), threshold: 0)
            } else {
                let resolution = ResolutionDistillation(
                    Self.options(method), batch: 4, dimension: 32, communicator: communicator, pool: pool, seed: 2)
                added = resolution
                margin = resolution.marginFunction
            }
            let classifier = ShardedClassifier<Float>(
                classes: 10, dimension: 32, batch: 8, margin: margin, communicator: communicator, pool: pool, seed: 2,
                frozen: method != .queue)
            stack = ObjectiveStack(MarginClassification(classifier, pool: pool), [added], demand: added.demand)
            var recipe = Recipe()
            recipe.optimizer.learningRate = 0
            recipe.optimizer.weightDecay = 0
            training = try TrainingStep(
                network: Self.network(seed: 2), objective: stack, communicator: communicator, pool: pool, batch: 4,
                recipe: recipe,
                schedule: LearningRateSchedule(recipe.schedule, recipe.optimizer, globalBatch: 4, stepsPerEpoch: 100),
                teacher: method == .queue ? nil : Self.network(seed: 3))
            let faces = SyntheticFaces(seed: 3)
            let images = (0..<8).map { faces.image(identity: $0 % 4, index: $0 / 4).0 }
            input = StepInput(
                images: Preprocessing.arcFace.tensor(images), labels: [3, 1, 9, 3], records: [0, 1, 2, 3, 0, 1, 2, 3])
        }

        private static func options(_ method: Method) -> ResolutionDistillation.Options {
            var options = ResolutionDistillation.Options()
            options.scale = 16
            options.marginSource = .teacherHigh
            // One batch.
            options.capacity = 4
            options.hidden = 8
            switch method {
            case .contrast: options.cross = .contrast
            case .predictor: options.cross = .predictor
            case .softTargets: options.targets = .soft
            case .relation, .queue: break
            }
            return options
        }

        private static func network(seed: UInt64) throws -> Network {
            let network = try NetworkSpecification("mobilefacenet", embeddingSize: 32, width: 0.25).build()
            network.initialize(seed: seed)
            return network
        }

        func update(step: Int, count: Int = 1) throws -> StepReport {
            try training.update(step: step, count: count, flags: { StepFlags() }) { _ in input }
        }

        var gradients: [Float] { Array(training.reducer.gradients) }
    }

    /// The second update, when every queue holds what the batch itself puts there.
    @Test(arguments: Method.allCases)
    func theSameMicroBatchTwiceIsTheSameGradient(_ method: Method) throws {
        let one = try Fixture(method)
        let two = try Fixture(method)
        for fixture in [one, two] { _ = try fixture.update(step: 0) }
        let single = try one.update(step: 1)
        let double = try two.update(step: 1, count: 2)
        #expect(abs(single.loss - double.loss) < 1e-9 && single.loss > 0)
        let term = method == .queue ? "contrast_loss" : "cross_resolution_loss"
        #expect((double.outcome.metrics[term] ?? 0) > 0)
        let squares = (one.stack.gradientSquares(), two.stack.gradientSquares())
        #expect(abs(squares.0 - squares.1) <= 1e-5 * squares.0 && (squares.0 > 0) == (method == .queue))
        let (a, b) = (one.gradients, two.gradients)
        let largest = a.reduce(0) { max($0, abs($1)) }
        #expect(largest > 0)
        for (parameter, range) in one.training.arena.parameters {
            let own = a[range].reduce(0) { max($0, abs($1)) }
            // Some are zero but for the rounding of sums.
            let tolerance = 1e-4 * max(own, 1e-3 * largest)
            #expect(zip(a[range], b[range]).allSatisfy { abs($0 - $1) <= tolerance }, "\(parameter.name)")
            if parameter.name.hasPrefix("predictor.") { #expect(own > 0, "\(parameter.name)") }
        }
        let learns = one.training.arena.parameters.contains { $0.parameter.name.hasPrefix("predictor.") }
        #expect(learns == (method == .predictor))
    }
}
