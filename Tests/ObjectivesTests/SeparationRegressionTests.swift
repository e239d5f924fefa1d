import Collectives
import Foundation
import Layers
import Objectives
import Tensors
import TestSupport
import Testing

/// The regression of annotated qualities against its definition in double.
@Suite struct SeparationRegressionTests {
    private static let layer = [0.3, -0.2, 0.1, 0.4, -0.5, 0.2]
    private static let qualities: [Float] = [20, 55, .nan, 80, 64.5]

    private struct Outcome: Sendable {
        var outcome: ObjectiveOutcome
        var embeddings: [Double]
        /// Summed over ranks.
        var weight: [Double]
        var bias: Double
        /// The layer's bias at the start.
        var start: Float
    }

    /// One step on the rows of the closed-form problem, nothing classified.
    private func run(
        ranks: Int, dropout: Double = 0, weight: Double = 2, beta: Double = 0.05, step: Int = 0, share: Float = 1,
        qualities: [Float] = Self.qualities
    ) throws -> Outcome {
        let problem = HeadProblem.closedForm()
        let parts = try InProcessGroup.run(ranks: ranks) { communicator -> Outcome in
            let pool = ThreadPool(threads: 1)
            let batch = problem.rows / ranks
            let classifier = ShardedClassifier<Float>(
                classes: 7, dimension: 6, batch: batch, margin: ArcFace(), communicator: communicator, pool: pool,
                seed: 1,
                frozen: true)
            let regression = SeparationRegression(
                qualities: qualities, batch: batch, dimension: 6, weight: weight, beta: beta, dropout: dropout,
                communicator: communicator, seed: 9)
            let start = regression.layer.bias.value.floats[0]
            for (i, value) in Self.layer.enumerated() { regression.layer.weight.value.floats[i] = Float(value) }
            regression.layer.bias.value.floats[0] = 0.05
            for parameter in regression.parameters { parameter.gradient = Tensor(parameter.shape) }
            let stack = ObjectiveStack(
                MarginClassification(classifier, pool: pool), [regression], demand: .single, classifies: false)
            let own = communicator.rank * batch..<(communicator.rank + 1) * batch
            let embeddings = Tensor(
                [batch, 6], problem.embeddings[own.lowerBound * 6..<own.upperBound * 6].map { Float($0) })
            let gradient = Tensor([batch, 6])
            let records = Array(own)
            let outcome = try records.withUnsafeBufferPointer { records in
                try stack.step(
                    ObjectivePass(
                        embeddings: embeddings, embeddingGradient: gradient, records: records, step: step),
                    weight: share,
                    accumulate: false)
            }
            #expect(stack.gradientSquares() == 0)
            return Outcome(
                outcome: outcome, embeddings: gradient.floats.map(Double.init),
                weight: regression.layer.weight.gradient!.floats.map(Double.init),
                bias: Double(regression.layer.bias.gradient!.floats[0]), start: start)
        }
        for part in parts { #expect(part.outcome == parts[0].outcome, "the same on every rank") }
        return Outcome(
            outcome: parts[0].outcome, embeddings: parts.flatMap(\.embeddings),
            weight: (0..<6).map { j in parts.reduce(0) { $0 + $1.weight[j] } }, bias: parts.reduce(0) { $0 + $1.bias },
            start: parts[0].start)
    }

    @Test(arguments: [1, 5])
    func theGradientIsThatOfTheDefinition(ranks: Int) throws {
        let found = try run(ranks: ranks, share: 0.5)
        let problem = HeadProblem.closedForm()
        let loss = SmoothL1(beta: 0.05)
        var (sum, predicted) = (0.0, 0.0)
        var (embeddings, weights, bias) = ([Double](repeating: 0, count: 30), [Double](repeating: 0, count: 6), 0.0)
        for row in [0, 1, 3, 4] {
            let x = problem.embeddings[row * 6..<row * 6 + 6]
            let prediction = zip(x, Self.layer).reduce(0.05) { $0 + $1.0 * $1.1 }
            let difference = prediction - Double(Self.qualities[row]) / 100
            sum += loss.value(difference) / 4
            predicted += prediction / 4
            let slope = 0.5 * 2 * loss.slope(difference) / 4
            for (j, value) in x.enumerated() {
                weights[j] += slope * value
                embeddings[row * 6 + j] = slope * Self.layer[j]
            }
            bias += slope
        }
        #expect(abs(found.outcome.loss - 2 * sum) < 1e-6)
        #expect(abs(found.outcome.metrics["regression_loss"]! - sum) < 1e-6)
        #expect(abs(found.outcome.metrics["predicted_quality"]! - 100 * predicted) < 1e-4)
        #expect(abs(found.outcome.metrics["annotated_quality"]! - 54.875) < 1e-4)
        #expect(relativeDifference(found.embeddings, embeddings) < 1e-5)
        #expect(relativeDifference(found.weight, weights) < 1e-5)
        #expect(abs(found.bias - bias) < 1e-6)
        #expect(abs(found.start - 0.54875) < 1e-6)
    }

    /// Masks hang on record and step alone; what is left out teaches nothing, and the others weigh double.
    @Test func dropoutIsTheSameOnAnyNumberOfRanks() throws {
        let one = try run(ranks: 1, dropout: 0.5)
        let five = try run(ranks: 5, dropout: 0.5)
        #expect(one.embeddings == five.embeddings)
        #expect(abs(one.outcome.loss - five.outcome.loss) < 1e-12)
        #expect(relativeDifference(one.weight, five.weight) < 1e-6)
        let later = try run(ranks: 1, dropout: 0.5, step: 1)
        func dropped(_ outcome: Outcome) -> [Bool] { outcome.embeddings.map { $0 == 0 } }
        #expect(dropped(one) != dropped(later))
        // With an absolute loss the slopes have one size, so that a component's gradient is 0 or twice the plain one's.
        let masked = try run(ranks: 1, dropout: 0.5, beta: 1e-6)
        let plain = try run(ranks: 1, beta: 1e-6)
        for (a, b) in zip(masked.embeddings, plain.embeddings) { #expect(abs(abs(a) - 2 * abs(b)) < 1e-6 || a == 0) }
        #expect(masked.embeddings.contains { $0 != 0 })
        let left = dropped(masked).enumerated().filter { $0.offset / 6 != 2 && $0.element }.count
        #expect((4...20).contains(left), "\(left) of 24 components left out")
    }

    @Test func imagesWithoutQualityTeachNothing() throws {
        let found = try run(ranks: 5)
        #expect(found.embeddings[12..<18].allSatisfy { $0 == 0 })
        let none = try run(ranks: 5, qualities: [.nan, .nan, .nan, .nan, .nan, 50])
        #expect(none.outcome.loss == 0 && none.embeddings.allSatisfy { $0 == 0 } && none.weight.allSatisfy { $0 == 0 })
    }
}
