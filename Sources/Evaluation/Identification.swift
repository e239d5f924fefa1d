package import Tensors

/// Closed-set 1:N identification: TinyFace's form, where an identity may have several gallery images and distractors
/// have none among the probes.
package struct Identification: Sendable, Equatable, Codable {
    package let probes: Int
    /// Gallery images, distractors included.
    package let gallery: Int
    package let distractors: Int
    /// Cumulative match characteristic: at k - 1 the fraction of probes with a mate among the k most similar.
    package let matchCharacteristic: [Double]

    /// The fraction of probes with a mate among the `k` most similar gallery images (rank-k).
    package func rate(rank k: Int) -> Double {
        precondition(k >= 1, "rank \(k)")
        return matchCharacteristic[min(k, matchCharacteristic.count) - 1]
    }

    /// - Parameters:
    ///   - ranks: for each probe the rank from 1 of its best mate.
    ///   - maximumRank: the length of the characteristic.
    package init(ranks: [Int], gallery: Int, distractors: Int, maximumRank: Int = 20) {
        precondition(!ranks.isEmpty && maximumRank > 0, "\(ranks.count) probes, ranks up to \(maximumRank)")
        probes = ranks.count
        self.gallery = gallery
        self.distractors = distractors
        var found = [Int](repeating: 0, count: maximumRank)
        for rank in ranks where rank <= maximumRank { found[rank - 1] += 1 }
        var total = 0
        matchCharacteristic = found.map { count in
            total += count
            return Double(total) / Double(ranks.count)
        }
    }

    /// The rank from 1 of the best mate among gallery scores: 1 plus the number of other images that score as high or
    /// higher. Ties count against the probe, so that embeddings that are all alike find nobody.
    ///
    /// - Returns: nil where the gallery has no mate.
    package static func rank(scores: UnsafeBufferPointer<Float>, galleryLabels: [Int], label: Int) -> Int? {
        precondition(scores.count == galleryLabels.count, "\(scores.count) scores, \(galleryLabels.count) labels")
        var best: Float?
        for item in scores.indices where galleryLabels[item] == label { best = max(best ?? scores[item], scores[item]) }
        guard let best else { return nil }
        var rank = 1
        for item in scores.indices where galleryLabels[item] != label && scores[item] >= best { rank += 1 }
        return rank
    }

    /// Searches for each probe in the gallery by inner product.
    ///
    /// - Parameters:
    ///   - probes: unit embeddings.
    ///   - gallery: unit embeddings; a distractor is an image whose label no probe has (TinyFace: -100).
    /// - Throws: `EvaluationError.probeWithoutMate`; `.nonFiniteEmbedding` with the row among probes, or among the
    ///   gallery.
    package static func search(
        probes: Embeddings, labels: [Int], gallery: Embeddings, galleryLabels: [Int], maximumRank: Int = 20,
        pool: ThreadPool
    ) throws(EvaluationError) -> Identification {
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
        var ranks: [Int] = []
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
            for row in 0..<rows {
                let line = UnsafeBufferPointer(
                    start: scores.pointer + row * gallery.count, count: gallery.count)
                guard let rank = rank(scores: line, galleryLabels: galleryLabels, label: labels[start + row]) else {
                    throw .probeWithoutMate(probe: start + row, identity: labels[start + row])
                }
                ranks.append(rank)
            }
        }
        let wanted = Set(labels)
        return Identification(
            ranks: ranks, gallery: gallery.count, distractors: galleryLabels.count { !wanted.contains($0) },
            maximumRank: maximumRank)
    }
}
