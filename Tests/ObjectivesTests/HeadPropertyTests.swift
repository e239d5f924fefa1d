import Foundation
import Objectives
import Tensors
import TestSupport
import Testing

/// What must hold whatever the numbers are.
@Suite struct HeadPropertyTests {
    static let problem = HeadProblem.random(rows: 6, classes: 8, dimension: 5, seed: 8)

    static func expectSame(
        _ a: any MarginFunction, _ b: any MarginFunction, on problem: HeadProblem = problem,
        tolerance: Double = 1e-12, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let first = try problem.run(Double.self, a)
        let second = try problem.run(Double.self, b)
        #expect(abs(first.loss - second.loss) <= tolerance * second.loss, sourceLocation: sourceLocation)
        let embeddings = relativeDifference(first.embeddingGradient, second.embeddingGradient)
        #expect(embeddings <= tolerance, sourceLocation: sourceLocation)
        let centres = relativeDifference(first.centreGradient, second.centreGradient)
        #expect(centres <= tolerance, sourceLocation: sourceLocation)
    }

    @Test func marginsThatMeet() throws {
        for fallback in [ArcFace.Fallback.hard, .plain, .easy] {
            try Self.expectSame(ArcFace(margin: 0, fallback: fallback), NormFace())
        }
        try Self.expectSame(CosFace(margin: 0), NormFace())
        try Self.expectSame(
            CombinedMargin(multiplier: 1, angle: 0.4, offset: 0), ArcFace(margin: 0.4, fallback: .plain))
        try Self.expectSame(CombinedMargin(multiplier: 1, angle: 0, offset: 0.3), CosFace(margin: 0.3))
        try Self.expectSame(ArcFace(fallback: .clipped), ArcFace(fallback: .plain))
    }

    @Test(arguments: [0.2, 0.5, 0.8])
    func hardFallback(margin: Double) {
        let head = ArcFace(margin: margin, scale: 1, fallback: .hard)
        func target(_ angle: Double) -> MarginTarget {
            head.target(MarginRow(index: 0, sample: 0, cosine: cos(angle), norm: 1))
        }
        var last = target(0).value
        for step in 1...2000 {
            let value = target(.pi * Double(step) / 2000).value
            #expect(value < last)
            last = value
        }
        let left = target(.pi - margin - 1e-9)
        let right = target(.pi - margin + 1e-9)
        #expect(abs(left.value + 1) < 1e-8 && abs(left.slope) < 1e-7)
        #expect(abs(right.value - (-cos(margin) - margin * sin(margin))) < 1e-8 && right.slope == 1)
        if margin == 0.5 { #expect(abs(right.value + 1.1173) < 5e-5) }
    }

    @Test func poleOfTheAngleIsGuarded() {
        for cosine in [1.0, -1.0] {
            for fallback in ArcFace.Fallback.allCases {
                let row = MarginRow(index: 0, sample: 0, cosine: cosine, norm: 1)
                let target = ArcFace(fallback: fallback).target(row)
                #expect(target.value.isFinite && target.slope.isFinite && abs(target.slope) < 2000)
            }
            let combined = CombinedMargin().target(MarginRow(index: 0, sample: 0, cosine: cosine, norm: 1))
            #expect(combined.value.isFinite && combined.slope.isFinite)
        }
    }

    @Test func clippedAngles() {
        let head = ArcFace(fallback: .clipped)
        func target(_ cosine: Double) -> MarginTarget {
            head.target(MarginRow(index: 0, sample: 0, cosine: cosine, norm: 1))
        }
        #expect(target(-0.99).slope == 0 && abs(target(-0.99).value - cos(.pi - 1e-4)) < 1e-12)
        #expect(target(0.99995).slope == 0)
        #expect(abs(target(0.99995).value - cos(acos(0.9999) + 0.5)) < 1e-12)
        #expect(abs(target(0.3).value - cos(acos(0.3) + 0.5)) < 1e-12 && target(0.3).slope > 1)
    }

    @Test(arguments: HeadCase.all.filter { !$0.dependsOnNorm })
    func lengthsDoNotMatter(_ head: HeadCase) throws {
        var longer = Self.problem
        let d = longer.dimension
        for i in longer.embeddings.indices { longer.embeddings[i] *= 0.3 + Double(i / d) }
        for i in longer.centres.indices { longer.centres[i] *= 0.7 + 0.5 * Double(i / d) }
        let first = try Self.problem.run(Double.self, head.margin)
        let second = try longer.run(Double.self, head.margin)
        #expect(abs(first.loss - second.loss) < 1e-12 * first.loss)
        // The gradient shrinks as the vector grows.
        for i in first.embeddingGradient.indices {
            let expected = first.embeddingGradient[i] / (0.3 + Double(i / d))
            #expect(abs(second.embeddingGradient[i] - expected) < 1e-11)
        }
    }

    /// Heads that read ‖x‖ do not read ‖w‖.
    @Test(arguments: HeadCase.all)
    func lengthsOfCentresDoNotMatter(_ head: HeadCase) throws {
        var longer = Self.problem
        let d = longer.dimension
        for i in longer.centres.indices { longer.centres[i] *= 0.7 + 0.5 * Double(i / d) }
        let first = try Self.problem.run(Double.self, head.margin)
        let second = try longer.run(Double.self, head.margin)
        #expect(abs(first.loss - second.loss) < 1e-12 * first.loss)
        #expect(relativeDifference(second.embeddingGradient, first.embeddingGradient) < 1e-11)
    }

    @Test(arguments: HeadCase.all)
    func gradientsAreOrthogonalToDirections(_ head: HeadCase) throws {
        let problem = Self.problem
        let outcome = try problem.run(Double.self, head.margin)
        func along(_ x: [Double], _ g: [Double]) -> [Double] {
            let d = problem.dimension
            return stride(from: 0, to: x.count, by: d).map {
                DenseHead.dot(Array(x[$0..<$0 + d]), Array(g[$0..<$0 + d]))
            }
        }
        #expect(along(problem.centres, outcome.centreGradient).allSatisfy { abs($0) < 1e-12 })
        if head.derivative == .tangential || !head.dependsOnNorm {
            #expect(along(problem.embeddings, outcome.embeddingGradient).allSatisfy { abs($0) < 1e-12 })
        }
    }

    /// Adds a constant to all logits of a row, another one for each row.
    struct Shifted: MarginFunction {
        var shift: Double
        private func shift(_ row: MarginRow) -> Double { shift * Double(1 + row.index) }
        var modifiesNegatives: Bool { true }
        func scale(_ row: MarginRow) -> LogitScale { LogitScale(16) }
        func target(_ row: MarginRow) -> MarginTarget { MarginTarget(value: row.cosine + shift(row), slope: 1) }
        func negatives(_ row: MarginRow) -> NegativeRule? {
            NegativeRule(threshold: -2, constant: shift(row), linear: 1)
        }
    }

    @Test(arguments: [-3.0, 0, 0.25, 7])
    func shiftingARowsLogitsChangesNothing(_ shift: Double) throws {
        try Self.expectSame(Shifted(shift: shift), NormFace(scale: 16), tolerance: 1e-11)
        for ranks in [2, 3] {
            let sharded = try Self.problem.run(Double.self, Shifted(shift: shift), ranks: ranks, blockColumns: 2)
            let plain = try Self.problem.run(Double.self, NormFace(scale: 16))
            #expect(relativeDifference(sharded.embeddingGradient, plain.embeddingGradient) < 1e-11)
            #expect(relativeDifference(sharded.centreGradient, plain.centreGradient) < 1e-11)
        }
    }

    @Test(arguments: [1, 2, 3])
    func uniformLogits(ranks: Int) throws {
        // Embeddings live in dimensions that no centre uses, so every cosine is 0.
        var problem = Self.problem
        for i in problem.embeddings.indices where i % 5 < 3 { problem.embeddings[i] = 0 }
        for i in problem.centres.indices where i % 5 >= 3 { problem.centres[i] = 0 }
        let outcome = try problem.run(Double.self, NormFace(scale: 30), ranks: ranks)
        #expect(abs(outcome.loss - log(8)) < 1e-14)
        #expect(outcome.results[0].accuracy == 0)
        // dL/dW_c = s/(N‖w_c‖)·Σ_i (1/C − [y_i = c])·x̂_i, as x̂ is orthogonal to w.
        for c in 0..<8 {
            let w = Array(problem.centres[c * 5..<c * 5 + 5])
            for k in 0..<5 {
                var expected = 0.0
                for i in 0..<6 {
                    let x = Array(problem.embeddings[i * 5..<i * 5 + 5])
                    expected += (1.0 / 8 - (problem.labels[i] == c ? 1 : 0)) * x[k] / DenseHead.norm(x)
                }
                expected *= 30 / (6 * DenseHead.norm(w))
                #expect(abs(outcome.centreGradient[c * 5 + k] - expected) < 1e-12)
            }
        }
    }

    @Test(arguments: HeadCase.all)
    func lossIsBounded(_ head: HeadCase) throws {
        // log C + the spread of the logits bounds the cross-entropy; φ lies within ±3.
        let outcome = try Self.problem.run(Float.self, head.margin)
        #expect(outcome.loss > 0 && outcome.loss < log(8) + 64 * 4)
    }

    @Test func zeroEmbeddingStaysFinite() throws {
        var problem = Self.problem
        for i in 0..<5 { problem.embeddings[i] = 0 }
        let outcome = try problem.run(Float.self, ArcFace(), ranks: 2)
        #expect(outcome.loss.isFinite && outcome.centreGradient.allSatisfy(\.isFinite))
    }

    @Test func notANumberIsNotHidden() throws {
        var problem = Self.problem
        problem.embeddings[7] = .nan
        for ranks in [1, 3] {
            let outcome = try problem.run(Float.self, ArcFace(), ranks: ranks)
            #expect(outcome.results.allSatisfy { $0.loss.isNaN })
        }
    }
}
