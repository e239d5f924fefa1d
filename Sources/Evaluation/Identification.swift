package import Tensors

/// Closed-set 1:N identification: TinyFace's form, where an identity may have several gallery images and distractors
/// have none among the probes.
package struct Identification: Sendable, Equatable, Codable {
    /// Where a probe's mates come among the gallery images in the order of their scores.
    ///
    /// Ties count against the probe: of equal scores those of other identities come first, so that embeddings that are all
    /// alike find nobody.
    package struct Placement: Sendable, Equatable {
        /// Of the best mate, from 1: 1 plus the number of images of others that score as high or higher.
        package let rank: Int
        /// As TinyFace's own evaluation computes it: the area under precision over recall by the trapezoid rule. With
        /// the j-th of M mates at rank r, the mean over j of the means of j/r and (j - 1)/(r - 1), where the latter is 1
        /// for r = 1.
        package let averagePrecision: Double

        package init(rank: Int, averagePrecision: Double) {
            self.rank = rank
            self.averagePrecision = averagePrecision
        }

        /// - Returns: nil where the gallery has no mate.
        package init?(scores: UnsafeBufferPointer<Float>, galleryLabels: [Int], label: Int) {
            precondition(scores.count == galleryLabels.count, "\(scores.count) scores, \(galleryLabels.count) labels")
            var mates: [Float] = []
            for item in scores.indices where galleryLabels[item] == label { mates.append(scores[item]) }
            guard !mates.isEmpty else { return nil }
            mates.sort(by: >)
            // others[j]: images of others that come before mate j, but not before mate j - 1.
            var others = [Int](repeating: 0, count: mates.count)
            let lowest = mates[mates.count - 1]
            for item in scores.indices where scores[item] >= lowest && galleryLabels[item] != label {
                var mate = 0
                while scores[item] < mates[mate] { mate += 1 }
                others[mate] += 1
            }
            var before = 0
            var area = 0.0
            for mate in mates.indices {
                before += others[mate]
                let rank = before + mate + 1
                let precision = Double(mate + 1) / Double(rank)
                let precisionBefore = rank == 1 ? 1 : Double(mate) / Double(rank - 1)
                area += (precision + precisionBefore) / 2
            }
            rank = others[0] + 1
            averagePrecision = area / Double(mates.count)
        }
    }

    package let probes: Int
    /// Gallery images, distractors included.
    package let gallery: Int
    package let distractors: Int
    /// Cumulative match characteristic: at k - 1 the fraction of probes with a mate among the k most similar.
    package let matchCharacteristic: [Double]
    /// mAP: the mean of the probes' average precisions.
    package let meanAveragePrecision: Double

    /// The fraction of probes with a mate among the `k` most similar gallery images (rank-k).
    package func rate(rank k: Int) -> Double {
        precondition(k >= 1, "rank \(k)")
        return matchCharacteristic[min(k, matchCharacteristic.count) - 1]
    }

    /// - Parameters:
    ///   - placements: at least one, by probe.
    ///   - maximumRank: the length of the characteristic.
    package init(_ placements: [Placement], gallery: Int, distractors: Int, maximumRank: Int = 20) {
        precondition(!placements.isEmpty && maximumRank > 0, "\(placements.count) probes, ranks up to \(maximumRank)")
        probes = placements.count
        self.gallery = gallery
        self.distractors = distractors
        var found = [Int](repeating: 0, count: maximumRank)
        for placement in placements where placement.rank <= maximumRank { found[placement.rank - 1] += 1 }
        var total = 0
        matchCharacteristic = found.map { count in
            total += count
            return Double(total) / Double(placements.count)
        }
        meanAveragePrecision = Statistics.mean(placements.map(\.averagePrecision))
    }

    /// Searches for each probe in the gallery by inner product.
    ///
    /// - Parameters:
    ///   - probes: unit embeddings.
    ///   - gallery: unit embeddings; a distractor is an image whose label no probe has (TinyFace: -100).
    /// - Returns: by probe.
    /// - Throws: `EvaluationError.probeWithoutMate`; `.nonFiniteEmbedding` with the row among probes, or among the
    ///   gallery.
    package static func placements(
        probes: Embeddings, labels: [Int], gallery: Embeddings, galleryLabels: [Int], pool: ThreadPool
    ) throws(EvaluationError) -> [Placement] {
        precondition(probes.dimension == gallery.dimension, "embeddings of \(probes.dimension), \(gallery.dimension)")
        precondition(probes.count == labels.count && gallery.count == galleryLabels.count, "one label per embedding")
        _ = try probes.norms()
        _ = try gallery.norms()
        let known = Set(galleryLabels)
        if let probe = labels.firstIndex(where: { !known.contains($0) }) {
            throw .probeWithoutMate(probe: probe, identity: labels[probe])
        }
        // A block of probes against the whole gallery: 64 MiB of scores at most, or one row.
        let block = max(1, min(probes.count, (16 << 20) / max(1, gallery.count)))
        let scores = Tensor([block, gallery.count])
        var found = [Placement?](repeating: nil, count: probes.count)
        for start in stride(from: 0, to: probes.count, by: block) {
            let rows = min(block, probes.count - start)
            probes.values.withUnsafeBufferPointer { a in
                gallery.values.withUnsafeBufferPointer { b in
                    BLAS.gemm(
                        pool, transposeB: true, m: rows, n: gallery.count, k: probes.dimension,
                        a: a.baseAddress! + start * probes.dimension, lda: probes.dimension, b: b.baseAddress!,
                        ldb: probes.dimension, c: scores.pointer, ldc: gallery.count)
                }
            }
            found.withUnsafeMutableBufferPointer { buffer in
                let slots = buffer
                pool.forEachRange(rows) { range in
                    for row in range {
                        let line = UnsafeBufferPointer(
                            start: scores.pointer + row * gallery.count, count: gallery.count)
                        slots[start + row] = Placement(
                            scores: line, galleryLabels: galleryLabels, label: labels[start + row])
                    }
                }
            }
        }
        return found.map { placement in
            guard let placement else { preconditionFailure("a probe without a mate") }
            return placement
        }
    }
}
