import Collectives
import Foundation
import Objectives
import TestSupport
import Testing

/// Statistics over each rank's own rows: the heads of as many processes, side by side.
@Suite struct LocalStatisticsTests {
    static let problem = HeadProblem.random(rows: 12, classes: 17, dimension: 9, seed: 3)

    struct Case: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var margin: any MarginFunction
    }

    static let cases: [Case] = {
        // The same numbers for the same place among a rank's rows, whatever the number of ranks.
        func elastic(_ rows: Int) -> ElasticFace {
            var head = ElasticFace(deviation: 1, assignment: .ranked, seed: 0)
            head.noise = { sample, _ in 0.1 * sin(3.1 * Double(Int(sample) % rows)) }
            return head
        }
        return [
            Case(testDescription: "AdaFace", margin: AdaFace(averaging: 0.5, mean: 3, deviation: 2)),
            Case(testDescription: "CurricularFace", margin: CurricularFace(averaging: 0.5, weight: 0.1)),
            Case(testDescription: "ElasticFace, 2 ranks", margin: elastic(6)),
            Case(testDescription: "ElasticFace, 3 ranks", margin: elastic(4)),
        ]
    }()

    /// The rows of one of `ranks` ranks as a problem of their own.
    static func part(_ rank: Int, of ranks: Int) -> HeadProblem {
        let rows = rank * 12 / ranks..<(rank + 1) * 12 / ranks
        var part = problem
        part.embeddings = Array(problem.embeddings[rows.lowerBound * 9..<rows.upperBound * 9])
        part.labels = Array(problem.labels[rows])
        return part
    }

    /// Each rank's rows through a head of their own: the mean of the losses, and its derivatives.
    static func sideBySide(_ margin: any MarginFunction, ranks: Int) throws -> HeadOutcome {
        let parts = try (0..<ranks).map { try part($0, of: ranks).run(Double.self, margin) }
        var whole = parts[0]
        whole.results[0].loss = parts.reduce(0) { $0 + $1.loss } / Double(ranks)
        whole.embeddingGradient = parts.flatMap { $0.embeddingGradient.map { $0 / Double(ranks) } }
        whole.centreGradient = whole.centreGradient.indices.map { i in
            parts.reduce(0) { $0 + $1.centreGradient[i] } / Double(ranks)
        }
        return whole
    }

    @Test(arguments: cases, [2, 3])
    func aRanksRowsSeeOnlyThemselves(_ example: Case, ranks: Int) throws {
        if example.testDescription.hasPrefix("ElasticFace"), !example.testDescription.contains("\(ranks)") { return }
        let expected = try Self.sideBySide(example.margin, ranks: ranks)
        let outcome = try Self.problem.run(
            Double.self, LocalStatistics(example.margin, ranks: ranks), ranks: ranks)
        #expect(abs(outcome.loss - expected.loss) < 1e-12 * expected.loss)
        #expect(relativeDifference(outcome.embeddingGradient, expected.embeddingGradient) < 1e-11)
        #expect(relativeDifference(outcome.centreGradient, expected.centreGradient) < 1e-11)
        for result in outcome.results { #expect(result == outcome.results[0]) }
        // What is carried on is rank 0's.
        for statistics in outcome.statistics { #expect(statistics == expected.statistics[0]) }
        // And it is another training than that with the statistics of the global batch.
        let global = try Self.problem.run(Double.self, example.margin, ranks: ranks)
        #expect(relativeDifference(outcome.embeddingGradient, global.embeddingGradient) > 1e-6)
    }

    @Test func oneRankIsGlobal() throws {
        for example in Self.cases {
            let local = try Self.problem.run(Double.self, LocalStatistics(example.margin, ranks: 1))
            let global = try Self.problem.run(Double.self, example.margin)
            #expect(local.loss == global.loss && local.embeddingGradient == global.embeddingGradient)
            #expect(local.statistics == global.statistics && local.results == global.results)
        }
    }

    /// Every rank starts the next step from rank 0's averages.
    @Test func rankZerosAveragesAreCarriedOn() throws {
        let start = AdaFace(averaging: 0.5, mean: 3, deviation: 2)
        let twice = try Self.problem.run(
            Double.self, LocalStatistics(start, ranks: 2), ranks: 2, steps: 0..<2)
        var next = start
        next.statistics = try Self.part(0, of: 2).run(Double.self, start).statistics[0]
        let expected = try Self.sideBySide(next, ranks: 2)
        #expect(abs(twice.loss - expected.loss) < 1e-12 * expected.loss)
        #expect(relativeDifference(twice.embeddingGradient, expected.embeddingGradient) < 1e-11)
        #expect(twice.statistics[1] == expected.statistics[0])
    }

    @Test func aFilterStaysOnTop() throws {
        let filtered = InterclassFilter(LocalStatistics(CurricularFace(weight: 0.3), ranks: 3), threshold: 0.2)
        let expected = try Self.sideBySide(InterclassFilter(CurricularFace(weight: 0.3), threshold: 0.2), ranks: 3)
        let outcome = try Self.problem.run(Double.self, filtered, ranks: 3)
        #expect(relativeDifference(outcome.embeddingGradient, expected.embeddingGradient) < 1e-11)
        #expect(outcome.results[0].metrics.named.map(\.name).sorted() == ["filtered_rows", "hard_rows", "t"])
    }
}
