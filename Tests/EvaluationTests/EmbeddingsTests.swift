import Evaluation
import Foundation
import Tensors
import Testing

@Suite struct EmbeddingsTests {
    private let raw = Embeddings([3, 4, 0, 2], dimension: 2)
    private let mirrored = Embeddings([0, 1, 1, 0], dimension: 2)

    @Test func sumOfRawVectorsIsNormalisedOnce() throws {
        let fused = try FusedEmbeddings(raw: raw, mirrored: mirrored)
        // (3, 5) and (1, 2): the longer vector weighs more.
        let expected = [3 / 34.0.squareRoot(), 5 / 34.0.squareRoot(), 1 / 5.0.squareRoot(), 2 / 5.0.squareRoot()]
        for (value, wanted) in zip(fused.unit.values, expected) { #expect(abs(Double(value) - wanted) < 1e-7) }
        #expect(abs(fused.meanNorm - (5 + 2 + 1 + 1) / 4.0) < 1e-12)
    }

    @Test func concatenationWeighsBothAlike() throws {
        let fused = try FusedEmbeddings(raw: raw, mirrored: mirrored, fusion: .concatenation)
        let half = 0.5.squareRoot()
        let expected = [0.6 * half, 0.8 * half, 0, half, 0, half, half, 0]
        #expect(fused.unit.dimension == 4)
        for (value, wanted) in zip(fused.unit.values, expected) { #expect(abs(Double(value) - wanted) < 1e-7) }
    }

    @Test func withoutFlip() throws {
        let fused = try FusedEmbeddings(raw: raw, fusion: .none)
        #expect(fused.meanNorm == 3.5)
        #expect(abs(fused.unit.similarity(0, 1) - 0.8) < 1e-7)
        #expect(abs(fused.unit.squaredDistance(0, 1) - 0.4) < 1e-6)
    }

    @Test func damagedEmbeddingIsNamed() {
        #expect(throws: EvaluationError.nonFiniteEmbedding(row: 1)) {
            try FusedEmbeddings(raw: Embeddings([1, 2, .infinity, 0], dimension: 2), fusion: .none)
        }
        #expect(throws: EvaluationError.nonFiniteEmbedding(row: 0)) {
            try FusedEmbeddings(raw: raw, mirrored: Embeddings([.nan, 2, 1, 0], dimension: 2))
        }
    }

    @Test func verificationIsInvariantToARotation() throws {
        let (count, dimension) = (80, 6)
        var stream = RandomStream(seed: 11, purpose: .test, index: 0)
        var values = (0..<count * dimension).map { _ in Float(stream.normal()) }
        for row in stride(from: 0, to: count, by: 4) {
            for i in 0..<dimension { values[(row + 1) * dimension + i] = values[row * dimension + i] + 0.5 }
        }
        var turned = values
        // Givens rotations in all planes.
        for plane in 0..<dimension - 1 {
            let (cosine, sine) = (Float(cos(0.7 + Double(plane))), Float(sin(0.7 + Double(plane))))
            for row in 0..<count {
                let (a, b) = (turned[row * dimension + plane], turned[row * dimension + plane + 1])
                turned[row * dimension + plane] = cosine * a - sine * b
                turned[row * dimension + plane + 1] = sine * a + cosine * b
            }
        }
        let pairs = (0..<count / 2).map { VerificationPair(2 * $0, 2 * $0 + 1, same: $0 % 2 == 0) }
        let reports = try [values, turned].map { values in
            let unit = try FusedEmbeddings(raw: Embeddings(values, dimension: dimension), fusion: .none).unit
            return try VerificationReport(
                PairScores(unit: unit, pairs: pairs), facts: VerificationFacts(dataset: "turned", flip: .none),
                replicates: 20)
        }
        #expect(reports[0].accuracy.perFold == reports[1].accuracy.perFold)
        #expect(reports[0].tar.map(\.rate) == reports[1].tar.map(\.rate))
        #expect(abs(reports[0].areaUnderCurve - reports[1].areaUnderCurve) < 1e-12)
    }

    @Test func templatesPoolMediaFirst() throws {
        let images = Embeddings([1, 0, 0, 0.8, 0.6, 0, 0, 2, 0, 0, 0, 3, 1, 1, 1], dimension: 3)
        let pooled = try TemplatePooling(
            images: images, templates: [1, 1, 1, 2, 2], media: [10, 10, 11, 12, 13],
            weights: [0.9, 0.8, 1, 0.5, 0.7])
        #expect(pooled.templates == [1, 2])
        let expected = [0.3250797685, 0.9456865993, 0, 0.2901593353, 0.2901593353, 0.9119293395]
        for (value, wanted) in zip(pooled.embeddings.values, expected) { #expect(abs(Double(value) - wanted) < 1e-7) }
        #expect(abs(pooled.embeddings.similarity(0, 1) - 0.3687247246) < 1e-7)
    }
}
