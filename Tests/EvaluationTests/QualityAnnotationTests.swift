import Evaluation
import Tensors
import Testing

@Suite struct QualityAnnotationTests {
    private let pool = ThreadPool(threads: 3)

    @Test func wassersteinDistances() {
        #expect(abs(QualityAnnotation.wasserstein([0.6, 0.7, 0.8], [0.1, 0.2]) - 0.55) < 1e-12)
        #expect(QualityAnnotation.wasserstein([0.5, 0.5], [0.5]) == 0)
        #expect(abs(QualityAnnotation.wasserstein([0.9, 0.1, 0.4, 0.4], [0, 0.3, -0.2, 0.1, 0.25]) - 0.36) < 1e-12)
        // Unsigned, and symmetric.
        #expect(abs(QualityAnnotation.wasserstein([0.1, 0.2], [0.6, 0.7, 0.8]) - 0.55) < 1e-12)
    }

    /// Random unit rows around one centre per identity.
    private func rows(_ labels: [Int32], dimension: Int, spread: Double = 0.7) -> Embeddings {
        var values: [Float] = []
        for (record, label) in labels.enumerated() {
            var centre = RandomStream(seed: 3, purpose: .test, index: UInt64(label))
            var noise = RandomStream(seed: 4, purpose: .test, index: UInt64(record))
            for _ in 0..<dimension { values.append(Float(centre.normal() + spread * noise.normal())) }
        }
        return try! Embeddings(values, dimension: dimension).normalised()
    }

    private func qualities(
        _ annotation: QualityAnnotation, _ rows: Embeddings, parts: Int = 1, pool: ThreadPool? = nil
    ) -> [Double] {
        let count = annotation.records.count
        // All parts see the extremes of all: first each finds its own, then they are told those of all.
        var extremes = [(Double, Double)](repeating: (.infinity, -.infinity), count: annotation.options.rounds)
        var result: [Double] = []
        for pass in 0..<2 {
            result = []
            for part in 0..<parts {
                var round = 0
                result += rows.values.withUnsafeBufferPointer { values in
                    annotation.qualities(
                        of: count * part / parts..<count * (part + 1) / parts, rows: values.baseAddress!,
                        dimension: rows.dimension, pool: pool ?? self.pool,
                        together: { least, greatest in
                            extremes[round] = (min(extremes[round].0, least), max(extremes[round].1, greatest))
                            if pass == 1 { (least, greatest) = extremes[round] }
                            round += 1
                        })
                }
            }
        }
        return result
    }

    @Test func sharesAndThreadsDoNotMatter() throws {
        let labels = (0..<90).map { Int32($0 * 7 % 11) }
        let rows = rows(labels, dimension: 37)
        let annotation = try QualityAnnotation(labels: labels, options: .init(rounds: 3, pairs: 6, seed: 9))
        let whole = qualities(annotation, rows)
        #expect(whole == qualities(annotation, rows, parts: 4))
        #expect(whole == qualities(annotation, rows, parts: 3, pool: ThreadPool(threads: 1)))
        #expect(whole.allSatisfy { $0 >= 0 && $0 <= 100 } && Set(whole).count > 80)
        let other = try QualityAnnotation(labels: labels, options: .init(rounds: 3, pairs: 6, seed: 10))
        #expect(whole != qualities(other, rows))
    }

    @Test func recordsAreGroupedAndSingleImagesDropped() throws {
        let annotation = try QualityAnnotation(labels: [2, 0, 1, 0, 2, 5, 2])
        #expect(annotation.records == [1, 3, 0, 4, 6])
        #expect(annotation.identities == 2 && annotation.droppedIdentities == 2)
        let without = try QualityAnnotation(labels: [2, 0, 1, 0, 2, 5, 2, 1], excluded: [3])
        #expect(without.records == [2, 7, 0, 4, 6] && without.droppedIdentities == 2)
        #expect(throws: EvaluationError.tooFewIdentities(found: 1)) {
            try QualityAnnotation(labels: [0, 0, 0, 1])
        }
    }

    @Test func similaritiesMayBeScaled() throws {
        // A direction that all rows have in common turns each cosine x into a x + b.
        let labels = (0..<60).map { Int32($0 / 6) }
        let plain = rows(labels, dimension: 12)
        let (a, b) = (0.36, 0.64)
        var mixed: [Float] = []
        for row in 0..<plain.count {
            mixed += plain.values[row * 12..<(row + 1) * 12].map { Float(a.squareRoot()) * $0 }
            mixed.append(Float(b.squareRoot()))
        }
        let annotation = try QualityAnnotation(labels: labels, options: .init(rounds: 2, pairs: 5))
        let (one, two) = (
            qualities(annotation, plain), qualities(annotation, Embeddings(mixed, dimension: 13))
        )
        for (x, y) in zip(one, two) { #expect(abs(x - y) < 1e-3) }
    }

    @Test func theBestPossibleImageHasAHundred() throws {
        // Identity 0 is one point, orthogonal to all others; identities 1 to 4 are spread in their own planes.
        var values: [Float] = []
        var labels: [Int32] = []
        for identity in 0..<5 {
            for image in 0..<5 {
                var row = [Float](repeating: 0, count: 10)
                let angle = identity == 0 ? 0 : 0.2 * Float(image)
                (row[2 * identity], row[2 * identity + 1]) = (1 - angle * angle / 2, angle)
                values += row
                labels.append(Int32(identity))
            }
        }
        let rows = try Embeddings(values, dimension: 10).normalised()
        let annotation = try QualityAnnotation(labels: labels, options: .init(rounds: 2))
        let found = qualities(annotation, rows)
        #expect(found[..<5].allSatisfy { $0 == 100 })
        #expect(found[5...].allSatisfy { $0 < 100 })
        #expect(found.min() == 0)
    }

    @Test func wherePointsAreAllAlikeNothingIsToldApart() throws {
        let rows = Embeddings([Float](repeating: 0.5, count: 6 * 4), dimension: 4)
        let annotation = try QualityAnnotation(labels: [0, 0, 0, 1, 1, 1], options: .init(rounds: 2))
        #expect(qualities(annotation, rows) == [Double](repeating: 50, count: 6))
    }
}
