import Foundation
import Objectives
import TestSupport
import Testing

/// Heads against values computed by an independent implementation in double, and against their definition.
@Suite struct HeadVectorTests {
    static func measured(_ outcome: HeadOutcome) -> [Double] {
        [
            outcome.loss, DenseHead.norm(outcome.embeddingGradient), DenseHead.norm(outcome.centreGradient),
            outcome.embeddingGradient[0], outcome.embeddingGradient[24], outcome.centreGradient[12],
        ]
    }

    @Test(arguments: HeadCase.tabled, [1, 5])
    func matchesReferenceVectorsInDouble(_ head: HeadCase, ranks: Int) throws {
        let outcome = try HeadProblem.closedForm(scaled: head.scaled).run(Double.self, head.margin, ranks: ranks)
        for (value, expected) in zip(Self.measured(outcome), head.expected) {
            #expect(abs(value - expected) < 1e-9, "\(value) against \(expected)")
        }
    }

    @Test(arguments: HeadCase.tabled, [1, 5])
    func matchesReferenceVectorsInSinglePrecision(_ head: HeadCase, ranks: Int) throws {
        let outcome = try HeadProblem.closedForm(scaled: head.scaled).run(Float.self, head.margin, ranks: ranks)
        for (value, expected) in zip(Self.measured(outcome), head.expected) {
            #expect(abs(value - expected) < 1e-4 * max(1, abs(expected)), "\(value) against \(expected)")
        }
    }

    @Test(arguments: HeadCase.all)
    func matchesTheDenseDefinition(_ head: HeadCase) throws {
        let problem = HeadProblem.closedForm(scaled: head.scaled)
        let outcome = try problem.run(Double.self, head.margin)
        let dense = head.dense.evaluate(
            problem.embeddings, problem.centres, problem.labels, dimension: problem.dimension)
        #expect(abs(outcome.loss - dense.loss) < 1e-12 * dense.loss)
        #expect(relativeDifference(outcome.embeddingGradient, dense.embeddingGradient) < 1e-12)
        #expect(relativeDifference(outcome.centreGradient, dense.centreGradient) < 1e-12)
        #expect(outcome.results[0].accuracy == dense.accuracy)
        #expect(abs(outcome.results[0].targetCosine - dense.targetCosine) < 1e-14)
    }

    @Test func cosinesAreThoseOfTheTable() throws {
        let outcome = try HeadProblem.closedForm().run(Double.self, NormFace())
        let own = [0.0888049958, 0.3239653783, 0.0248016209, 0.2538382586, -0.9943159965]
        let nearest = [0.1738752580, 0.1730738133, 0.7044351026, 0.2684180437, 0.9597858966]
        for i in 0..<5 {
            #expect(abs(outcome.targetCosines[0][i] - own[i]) < 1e-10)
            #expect(abs(outcome.nearestNegatives[0][i] - nearest[i]) < 1e-10)
        }
        #expect(outcome.results[0].accuracy == 0.2)
    }
}
