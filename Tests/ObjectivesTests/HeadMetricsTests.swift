import Foundation
import Objectives
import TestSupport
import Testing

/// What heads tell beside loss and accuracy.
@Suite struct HeadMetricsTests {
    static let problem = HeadProblem.closedForm(scaled: true)
    static let norms = AdaptiveHeadTests.norms(problem)
    static let meanNorm = norms.reduce(0, +) / 5

    static func metrics(_ margin: any MarginFunction, ranks: Int) throws -> Metrics {
        let outcome = try problem.run(Double.self, margin, ranks: ranks)
        for result in outcome.results { #expect(result.metrics == outcome.results[0].metrics) }
        return outcome.results[0].metrics
    }

    @Test(arguments: [1, 5]) func ofEachHead(ranks: Int) throws {
        func expect(_ margin: any MarginFunction, _ wanted: [String: Double]) throws {
            let found = try Self.metrics(margin, ranks: ranks)
            #expect(found.named.map(\.name).sorted() == wanted.keys.sorted())
            for (name, value) in wanted { #expect(abs((found[name] ?? .nan) - value) < 1e-9, "\(name)") }
        }
        try expect(ArcFace(), [:])
        try expect(
            AdaFace(), ["norm": Self.meanNorm, "norm_mean": 20.1057688923, "norm_deviation": 99.1342804320])
        let margins = [0.4586143817, 0.5022410144, 0.5128949290, 0.5618311312, 0.5745141052]
        try expect(MagFace(), ["norm": Self.meanNorm, "margin": margins.reduce(0, +) / 5])
        try expect(SphereFace(), ["norm": Self.meanNorm, "lambda": 1500 / 1.1])
        // Every row has a column other than its own above cos(θ_y + m).
        try expect(CurricularFace(), ["t": -0.0006058115, "hard_rows": 1])
        var elastic = ElasticFace(deviation: 1, seed: 0)
        elastic.noise = { sample, _ in 0.1 * Double(sample) }
        try expect(elastic, ["margin": 0.7])
        // The largest cosines to other classes: .17, .17, .70, .27, .96.
        try expect(InterclassFilter(CosFace(), threshold: 0.25), ["filtered_rows": 0.6])
    }

    @Test func hardRowsAreCounted() throws {
        // Row 0 lies on its centre, row 1 beside another one.
        let problem = HeadProblem(
            embeddings: [1, 0, 0, 0, 1, 0.1], centres: [1, 0, 0, 0, 1, 0, 0, 0, 1], labels: [0, 2], dimension: 3)
        let outcome = try problem.run(Double.self, CurricularFace())
        #expect(outcome.results[0].metrics["hard_rows"] == 0.5)
    }
}
