import Collectives
import Foundation
import Objectives
import Tensors
import TestSupport
import Testing

/// What is particular to the heads with statistics, lengths, chance or multiples of the angle.
@Suite struct AdaptiveHeadTests {
    static let problem = HeadProblem.random(rows: 6, classes: 8, dimension: 5, seed: 8)

    static func row(_ angle: Double, norm: Double = 1) -> MarginRow {
        MarginRow(index: 0, sample: 0, cosine: cos(angle), norm: norm)
    }

    static func norms(_ problem: HeadProblem) -> [Double] {
        let d = problem.dimension
        return (0..<problem.rows).map { DenseHead.norm(Array(problem.embeddings[$0 * d..<($0 + 1) * d])) }
    }

    @Test func magFaceMarginsAndPenalty() throws {
        let problem = HeadProblem.closedForm(scaled: true)
        let expected = [0.4586143817, 0.5022410144, 0.5128949290, 0.5618311312, 0.5745141052]
        for (norm, expected) in zip(Self.norms(problem), expected) {
            #expect(abs(MagFace().margin(norm: norm) - expected) < 1e-10)
        }
        let outcome = try problem.run(Double.self, MagFace(), ranks: 5)
        for result in outcome.results { #expect(abs(result.penalty - 35 * 0.0429067480) < 35e-10) }
        #expect(MagFace().margin(norm: 1) == 0.45 && abs(MagFace().margin(norm: 500) - 0.8) < 1e-15)
        #expect(MagFace().penalty(Self.row(1, norm: 9)).slope == 0)
        #expect(MagFace().target(Self.row(1, norm: 111)).normSlope == 0)
    }

    @Test(arguments: [MagFace(fallback: .hard), MagFace(fallback: .plain), MagFace(fallback: .easy)])
    func magFaceFollowsTheLength(_ head: MagFace) {
        for angle in [0.4, 1.2, 2.0, 2.9] {
            let h = 1e-5
            let value = { (norm: Double) in head.target(Self.row(angle, norm: norm)).value }
            let slope = (value(40 + h) - value(40 - h)) / (2 * h)
            #expect(abs(head.target(Self.row(angle, norm: 40)).normSlope - slope) < 1e-9)
        }
    }

    @Test(arguments: [1, 5])
    func adaFaceStatistics(ranks: Int) throws {
        let problem = HeadProblem.closedForm(scaled: true)
        let cases: [(AdaFace, [Double], [Double])] = [
            (
                AdaFace(), [20.1057688923, 99.1342804320],
                [-0.0256782867, 0.0161913934, 0.0264162485, 0.0733816686, 0.0855538678]
            ),
            (
                AdaFace(mean: 30, deviation: 15), [30.0057688923, 14.9842804320],
                [-0.3898708589, -0.1128815492, -0.0452389131, 0.2654613184, 0.3459866302]
            ),
        ]
        for (head, moments, qualities) in cases {
            let outcome = try problem.run(Double.self, head, ranks: ranks)
            for statistics in outcome.statistics {
                #expect(statistics == outcome.statistics[0])
                #expect(abs(statistics["norm_mean"]! - moments[0]) < 1e-9)
                #expect(abs(statistics["norm_deviation"]! - moments[1]) < 1e-9)
            }
            var after = head
            after.statistics = outcome.statistics[0]
            for (norm, quality) in zip(Self.norms(problem), qualities) {
                #expect(abs(after.quality(norm: norm) - quality) < 1e-10)
            }
        }
    }

    @Test func adaFaceMeetsTheOthers() throws {
        func at(_ z: Double, _ angle: Double) -> Double {
            AdaFace(concentration: 1, averaging: 0, mean: 50 - 100 * z, deviation: 0.001)
                .target(Self.row(angle, norm: 50)).value
        }
        for angle in [0.5, 1.0, 1.7, 2.2] {
            #expect(abs(at(0, angle) - (cos(angle) - 0.4)) < 1e-12)
            #expect(abs(at(-1, angle) - cos(angle + 0.4)) < 1e-12)
            #expect(abs(at(1, angle) - (cos(angle - 0.4) - 0.8)) < 1e-12)
        }
        try HeadPropertyTests.expectSame(AdaFace(concentration: 0), CosFace(margin: 0.4))
    }

    /// Averages of the global batch of one row do not become NaN.
    @Test func adaFaceOfOneRow() throws {
        let problem = HeadProblem.random(rows: 1, classes: 3, dimension: 4, seed: 2)
        let outcome = try problem.run(Double.self, AdaFace())
        #expect(outcome.loss.isFinite && outcome.statistics[0]["norm_deviation"] == 100)
    }

    @Test(arguments: [1, 5])
    func curricularStatistics(ranks: Int) throws {
        let problem = HeadProblem.closedForm()
        let outcome = try problem.run(Double.self, CurricularFace(), ranks: ranks)
        for statistics in outcome.statistics { #expect(abs(statistics["target_cosine"]! + 0.0006058115) < 1e-10) }
        let twice = try problem.run(Double.self, CurricularFace(), ranks: ranks, steps: 0..<2)
        #expect(abs(twice.statistics[0]["target_cosine"]! + 0.0006058115 * 1.99) < 1e-9)
        let dense = problem.classifier(Double.self, NormFace(), SoloCommunicator())
        let x = Tensor([5, 6], dtype: .float64)
        _ = x.doubles.update(fromContentsOf: problem.embeddings)
        let cosines = Tensor([5, 7], dtype: .float64)
        dense.cosines(of: x, into: cosines)
        for (i, expected) in [6, 5, 7, 7, 6].enumerated() {
            let own = cosines.doubles[i * 7 + problem.labels[i]]
            let row = MarginRow(index: i, sample: 0, cosine: own, norm: 1)
            let threshold = CurricularFace().negatives(row)!.threshold
            #expect(cosines.doubles[i * 7..<(i + 1) * 7].filter { $0 > threshold }.count == expected)
        }
    }

    @Test func curricularWithoutHardNegativesIsArcFace() throws {
        // Embeddings close to their centres and centres far from one another.
        var problem = HeadProblem.random(rows: 4, classes: 4, dimension: 6, seed: 11, labels: [0, 1, 2, 3])
        for i in problem.centres.indices { problem.centres[i] = i / 6 == i % 6 ? 1 : 0.1 * problem.centres[i] }
        problem.embeddings = zip(problem.embeddings, problem.centres).map { 0.02 * $0 + $1 }
        try HeadPropertyTests.expectSame(CurricularFace(weight: 0.4), ArcFace(), on: problem)
    }

    @Test func constantMarginsMeetArcFace() throws {
        try HeadPropertyTests.expectSame(
            MagFace(margins: 0.5...0.5, penaltyWeight: 0), ArcFace(fallback: .easy), on: .closedForm(scaled: true))
        try HeadPropertyTests.expectSame(ElasticFace(deviation: 0, seed: 3), ArcFace(fallback: .plain))
        try HeadPropertyTests.expectSame(ElasticFace(kind: .cosine, deviation: 0, seed: 3), CosFace())
        try HeadPropertyTests.expectSame(InterclassFilter(ArcFace(), threshold: 1), ArcFace())
    }

    @Test func sphereFaceMeetsPlainCosines() throws {
        let plain = DenseHead(
            logits: { row in row.cosines.map { row.norm * $0 } },
            slopes: { row in row.cosines.map { _ in row.norm } }, normSlopes: \.cosines)
        let problem = Self.problem
        let dense = plain.evaluate(problem.embeddings, problem.centres, problem.labels, dimension: 5)
        for floor in [0.0, 5, 1000] {
            let outcome = try problem.run(Double.self, SphereFace(margin: 1, start: floor, floor: floor), ranks: 3)
            #expect(abs(outcome.loss - dense.loss) < 1e-12)
            #expect(relativeDifference(outcome.embeddingGradient, dense.embeddingGradient) < 1e-11)
            #expect(relativeDifference(outcome.centreGradient, dense.centreGradient) < 1e-11)
        }
    }

    @Test(arguments: [1.5, 2, 3, 4])
    func multiplicativeMarginFalls(margin: Double) {
        let head = SphereFaceR(margin: margin, scale: 1)
        var last = head.target(Self.row(0)).value
        #expect(abs(last - 1) < 1e-12)
        for step in 1...3000 {
            let value = head.target(Self.row(.pi * Double(step) / 3000)).value
            #expect(value < last && last - value < 0.01)
            last = value
        }
        if margin.rounded() == margin { #expect(abs(last - (1 - 2 * margin)) < 1e-6) }
    }

    @Test func sphereFaceAnneals() {
        func value(_ step: Int) -> Double {
            var head = SphereFace()
            let none = UnsafeBufferPointer<Double>(start: nil, count: 0)
            head.prepare(
                MarginBatch(step: step, norms: none, samples: .init(start: nil, count: 0), targetCosines: none))
            return head.target(Self.row(1)).value
        }
        func expected(_ lambda: Double) -> Double { (lambda * cos(1) - cos(4) - 2) / (1 + lambda) }
        #expect(abs(value(0) - expected(1500 / 1.1)) < 1e-12)
        #expect(abs(value(999) - expected(1500 / 101)) < 1e-12)
        #expect(abs(value(100_000) - expected(5)) < 1e-12)
    }

    @Test(arguments: [1, 2])
    func centresReturnToUnitLength(ranks: Int) throws {
        let problem = HeadProblem.random(rows: 4, classes: 5, dimension: 6, seed: 12)
        let plain = try problem.run(Double.self, SphereFaceR(normalisesCentres: false), ranks: ranks)
        let unit = try problem.run(Double.self, SphereFaceR(), ranks: ranks)
        #expect(abs(unit.loss - plain.loss) < 1e-12)
        for c in 0..<5 {
            let length = DenseHead.norm(Array(problem.centres[c * 6..<(c + 1) * 6]))
            for k in c * 6..<(c + 1) * 6 {
                #expect(abs(unit.centreGradient[k] - plain.centreGradient[k] * length) < 1e-12)
            }
        }
    }

    /// Cosines at and beyond the clamps: embeddings along other classes' centres and against them.
    @Test(arguments: HeadCase.all.filter { $0.name.hasPrefix("AdaFace") || $0.name == "ArcFace clipped" })
    func clampedCosinesCarryNoGradient(_ head: HeadCase) throws {
        var problem = HeadProblem.random(rows: 6, classes: 9, dimension: 5, seed: 13, labels: [0, 1, 2, 3, 4, 5])
        for (row, (centre, factor)) in [(7, 2.0), (8, -1.5), (6, 1), (3, 2.5)].enumerated() {
            for k in 0..<5 { problem.embeddings[row * 5 + k] = factor * problem.centres[centre * 5 + k] }
        }
        for ranks in [1, 3] {
            let outcome = try problem.run(Double.self, head.margin, ranks: ranks)
            HeadShardingTests.expectEqual(problem, head, outcome, tolerance: 1e-11)
        }
    }
}
