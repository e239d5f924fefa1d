import Foundation
import Objectives
import TestSupport
import Testing

/// Backward against central differences of the loss, in double.
@Suite struct HeadGradientTests {
    static let problem = HeadProblem.random(rows: 5, classes: 7, dimension: 6, seed: 21)

    /// dL/dE and dL/dW by central differences of the classifier's own loss.
    static func differences(_ problem: HeadProblem, _ margin: any MarginFunction) throws -> ([Double], [Double]) {
        let h = 1e-5
        func slope(_ change: (inout HeadProblem, Double) -> Void) throws -> Double {
            var (plus, minus) = (problem, problem)
            change(&plus, h)
            change(&minus, -h)
            let high = try plus.run(Double.self, margin).loss
            return (high - (try minus.run(Double.self, margin).loss)) / (2 * h)
        }
        let embeddings = try problem.embeddings.indices.map { i in try slope { $0.embeddings[i] += $1 } }
        return (embeddings, try problem.centres.indices.map { i in try slope { $0.centres[i] += $1 } })
    }

    @Test(arguments: HeadCase.all.filter { $0.derivative != .straightThrough })
    func gradientsAreTheDerivativesOfTheLoss(_ head: HeadCase) throws {
        let margin = head.atRest ?? head.margin
        let outcome = try Self.problem.run(Double.self, margin)
        var (embeddings, centres) = try Self.differences(Self.problem, margin)
        if head.derivative == .tangential { embeddings = Self.tangential(embeddings, Self.problem) }
        #expect(relativeDifference(outcome.embeddingGradient, embeddings) < 1e-6)
        #expect(relativeDifference(outcome.centreGradient, centres) < 1e-6)
    }

    /// The part of a gradient that is orthogonal to the embeddings.
    static func tangential(_ gradient: [Double], _ problem: HeadProblem) -> [Double] {
        var result = gradient
        let d = problem.dimension
        for start in stride(from: 0, to: gradient.count, by: d) {
            let x = Array(problem.embeddings[start..<start + d])
            let along = DenseHead.dot(x, Array(gradient[start..<start + d])) / DenseHead.dot(x, x)
            for k in 0..<d { result[start + k] -= along * x[k] }
        }
        return result
    }

    @Test(arguments: HeadCase.all.filter { $0.derivative == .straightThrough })
    func straightThroughIsNotTheDerivative(_ head: HeadCase) throws {
        let outcome = try Self.problem.run(Double.self, head.margin)
        let (embeddings, centres) = try Self.differences(Self.problem, head.margin)
        #expect(relativeDifference(outcome.embeddingGradient, embeddings) > 1e-3)
        #expect(relativeDifference(outcome.centreGradient, centres) > 1e-3)
        // It is the gradient with ∂z/∂cos θ = s in every column: s(p − y) through the normalisation.
        let dense = head.dense.evaluate(
            Self.problem.embeddings, Self.problem.centres, Self.problem.labels, dimension: 6)
        #expect(relativeDifference(outcome.embeddingGradient, dense.embeddingGradient) < 1e-12)
        #expect(relativeDifference(outcome.centreGradient, dense.centreGradient) < 1e-12)
    }
}
