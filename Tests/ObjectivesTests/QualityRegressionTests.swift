import Collectives
import Foundation
import Layers
import Objectives
import Tensors
import TestSupport
import Testing

/// CR-FIQA's targets against values computed independently, and the objective against its definition.
@Suite struct QualityRegressionTests {
    private static let own = [0.0888049958, 0.3239653783, 0.0248016209, 0.2538382586, -0.9943159965]
    private static let nearest = [0.1738752580, 0.1730738133, 0.7044351026, 0.2684180437, 0.9597858966]

    @Test func ratiosAreThoseOfTheTable() {
        let paper = [0.0756511351, 0.2761679396, 0.0145512263, 0.2001219233, -0.5073595017]
        let code = [0.5107396927, 1.8718335954, 0.0352078152, 0.9456825448, -1.0359768778]
        for i in 0..<5 {
            #expect(abs(CertaintyRatio.paper.value(own: Self.own[i], nearest: Self.nearest[i]) - paper[i]) < 1e-9)
            #expect(abs(CertaintyRatio.code.value(own: Self.own[i], nearest: Self.nearest[i]) - code[i]) < 1e-8)
        }
        // Where all others point away, the authors' code divides by −1e-12.
        #expect(CertaintyRatio.code.value(own: 0.5, nearest: -0.3) == 0.5 / -1e-12)
        for nearest in stride(from: -0.49, through: 1, by: 0.01) {
            #expect(abs(CertaintyRatio.paper.value(own: 1, nearest: nearest)) < 2)
        }
    }

    @Test func smoothL1IsThatOfTheTable() {
        let loss = SmoothL1(beta: 0.5)
        let predictions = [0.2, 0.1, 0.5, -0.4, -0.1]
        let slopes = [0.0497395460, -0.0704671758, 0.1941795095, -0.2, 0.1629438007]
        var sum = 0.0
        for i in 0..<5 {
            let difference = predictions[i] - CertaintyRatio.paper.value(own: Self.own[i], nearest: Self.nearest[i])
            sum += loss.value(difference) / 5
            #expect(abs(loss.slope(difference) / 5 - slopes[i]) < 1e-9)
        }
        #expect(abs(sum - 0.1596443964) < 1e-9)
    }

    private struct Outcome: Sendable {
        var outcome: ObjectiveOutcome
        var embeddings: [Double]
        var centres: [Double]
        /// Summed over ranks.
        var weight: [Double]
        var bias: Double
    }

    /// One step of ArcFace with the regression beside it on the closed-form problem.
    private func run(_ weight: Double?, ranks: Int, classOrder: [Int]? = nil) throws -> Outcome {
        var problem = HeadProblem.closedForm()
        if let classOrder {
            let (d, old) = (problem.dimension, problem.centres)
            for (new, c) in classOrder.enumerated() {
                for j in 0..<d { problem.centres[new * d + j] = old[c * d + j] }
            }
            problem.labels = problem.labels.map { classOrder.firstIndex(of: $0)! }
        }
        let data = problem
        let parts = try InProcessGroup.run(ranks: ranks) { communicator -> Outcome in
            let pool = ThreadPool(threads: 1)
            let classifier: ShardedClassifier<Float> = data.classifier(
                Float.self, ArcFace(fallback: .plain), communicator)
            let classification = MarginClassification(classifier, pool: pool)
            let regression = QualityRegression(
                dimension: 6, ratio: .paper, weight: weight ?? 0, beta: 0.5, communicator: communicator, seed: 1)
            for (i, value) in [0.3, -0.2, 0.1, 0.4, -0.5, 0.2].enumerated() {
                regression.layer.weight.value.floats[i] = Float(value)
            }
            regression.layer.bias.value.floats[0] = 0.05
            for parameter in regression.parameters { parameter.gradient = Tensor(parameter.shape) }
            let stack = ObjectiveStack(classification, weight == nil ? [] : [regression], demand: .single)
            let batch = data.rows / ranks
            let own = communicator.rank * batch..<(communicator.rank + 1) * batch
            let embeddings = Tensor([batch, 6], data.embeddings[own.lowerBound * 6..<own.upperBound * 6].map { Float($0) })
            let gradient = Tensor([batch, 6])
            let records = Array(own)
            try data.labels[own].withUnsafeBufferPointer { labels in
                try records.withUnsafeBufferPointer {
                    try stack.begin(labels: labels, records: $0, step: 0, over: communicator)
                }
            }
            let outcome = try stack.step(
                ObjectivePass(embeddings: embeddings, embeddingGradient: gradient, step: 0), weight: 1, accumulate: false)
            return Outcome(
                outcome: outcome, embeddings: gradient.floats.map(Double.init),
                centres: classifier.gradient.floats.map(Double.init),
                weight: regression.layer.weight.gradient!.floats.map(Double.init),
                bias: Double(regression.layer.bias.gradient!.floats[0]))
        }
        for part in parts { #expect(part.outcome == parts[0].outcome, "the same on every rank") }
        return Outcome(
            outcome: parts[0].outcome, embeddings: parts.flatMap(\.embeddings), centres: parts.flatMap(\.centres),
            weight: (0..<6).map { j in parts.reduce(0) { $0 + $1.weight[j] } }, bias: parts.reduce(0) { $0 + $1.bias })
    }

    /// The definition in double: the loss and its derivatives by prediction alone.
    @Test(arguments: [1, 5])
    func theGradientIsThatOfThePrediction(ranks: Int) throws {
        let plain = try run(nil, ranks: ranks)
        let joint = try run(10, ranks: ranks)
        let problem = HeadProblem.closedForm()
        let layer = [0.3, -0.2, 0.1, 0.4, -0.5, 0.2]
        let loss = SmoothL1(beta: 0.5)
        var (sum, weights, bias) = (0.0, [Double](repeating: 0, count: 6), 0.0)
        var embeddings = plain.embeddings
        for row in 0..<5 {
            let x = problem.embeddings[row * 6..<row * 6 + 6]
            let prediction = zip(x, layer).reduce(0.05) { $0 + $1.0 * $1.1 }
            let difference =
                prediction - CertaintyRatio.paper.value(own: Self.own[row], nearest: Self.nearest[row])
            sum += loss.value(difference) / 5
            let slope = 10 * loss.slope(difference) / 5
            for (j, value) in x.enumerated() {
                weights[j] += slope * value
                embeddings[row * 6 + j] += slope * layer[j]
            }
            bias += slope
        }
        #expect(abs(joint.outcome.loss - plain.outcome.loss - 10 * sum) < 1e-5)
        #expect(abs(joint.outcome.metrics["quality_loss"]! - sum) < 1e-6)
        #expect(relativeDifference(joint.embeddings, embeddings) < 1e-5)
        #expect(relativeDifference(joint.weight, weights) < 1e-5)
        #expect(abs(joint.bias - bias) < 1e-5)
        // Nothing of it reaches the centres.
        #expect(joint.centres == plain.centres)
    }

    @Test func weightZeroIsTheClassificationAlone() throws {
        let plain = try run(nil, ranks: 1)
        let joint = try run(0, ranks: 1)
        #expect(joint.outcome.loss == plain.outcome.loss && joint.embeddings == plain.embeddings)
    }

    @Test func theOrderOfClassesDoesNotMatter() throws {
        let one = try run(10, ranks: 1).outcome
        let other = try run(10, ranks: 1, classOrder: [3, 6, 0, 5, 1, 4, 2]).outcome
        #expect(abs(one.metrics["certainty_ratio"]! - other.metrics["certainty_ratio"]!) < 1e-6)
        #expect(abs(one.loss - other.loss) < 1e-4)
    }
}
