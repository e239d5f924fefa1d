import Foundation
import Objectives
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

    @Test(arguments: HeadCase.all.filter(\.isExact))
    func gradientsAreTheDerivativesOfTheLoss(_ head: HeadCase) throws {
        let outcome = try Self.problem.run(Double.self, head.margin)
        let (embeddings, centres) = try Self.differences(Self.problem, head.margin)
        #expect(relativeDifference(outcome.embeddingGradient, embeddings) < 1e-6)
        #expect(relativeDifference(outcome.centreGradient, centres) < 1e-6)
    }

    @Test(arguments: HeadCase.all.filter { !$0.isExact })
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
