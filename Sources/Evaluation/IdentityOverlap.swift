package import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// People that two data sets share, found by the mean directions of their identities' embeddings.
package enum IdentityOverlap {
    /// An identity of one set, one of the other, and how much they look alike.
    package struct Candidate: Sendable, Equatable {
        package let identity: Int
        package let other: Int
        /// Of the two mean directions.
        package let cosine: Float

        package init(identity: Int, other: Int, cosine: Float) {
            self.identity = identity
            self.other = other
            self.cosine = cosine
        }
    }

    /// For each row of `a` the rows of `b` with the largest inner products, the largest first; rows of zeros are left
    /// out on both sides.
    ///
    /// The products are formed for as many rows of `a` at a time as 64 MiB hold.
    ///
    /// - Parameters:
    ///   - a: unit vectors; zeros stand for identities without an image.
    ///   - b: the same.
    ///   - top: how many are kept of each row.
    /// - Throws: `EvaluationError.nonFiniteEmbedding`.
    package static func nearest(
        _ a: Embeddings, _ b: Embeddings, top: Int, pool: ThreadPool
    ) throws(EvaluationError) -> [[Candidate]] {
        precondition(top > 0, "the \(top) most similar")
        let isUsed = try a.norms().map { $0 > 0 }
        let isFound = try b.norms().map { $0 > 0 }
        var results = [[Candidate]](repeating: [], count: a.count)
        products(of: a, b, pool: pool) { rows, scores in
            results.withUnsafeMutableBufferPointer { results in
                pool.forEachRange(rows.count) { range in
                    for place in range where isUsed[rows.lowerBound + place] {
                        let row = rows.lowerBound + place
                        let line = UnsafeBufferPointer(start: scores + place * b.count, count: b.count)
                        results[row] = largest(line, isFound: isFound, identity: row, top: top)
                    }
                }
            }
        }
        return results
    }

    private static func largest(
        _ scores: UnsafeBufferPointer<Float>, isFound: [Bool], identity: Int, top: Int
    ) -> [Candidate] {
        var kept: [Candidate] = []
        for other in scores.indices where isFound[other] {
            let cosine = scores[other]
            if kept.count == top {
                if cosine <= kept[top - 1].cosine { continue }
                kept.removeLast()
            }
            var place = kept.count
            while place > 0, kept[place - 1].cosine < cosine { place -= 1 }
            kept.insert(Candidate(identity: identity, other: other, cosine: cosine), at: place)
        }
        return kept
    }

    /// Calls `body` with ranges of rows of `a` and their inner products with all rows of `b`.
    private static func products(
        of a: Embeddings, _ b: Embeddings, pool: ThreadPool,
        _ body: (_ rows: Range<Int>, _ scores: UnsafeMutablePointer<Float>) -> Void
    ) {
        precondition(a.dimension == b.dimension, "embeddings of \(a.dimension) and \(b.dimension)")
        guard a.count > 0, b.count > 0 else { return }
        let block = max(1, min(a.count, (16 << 20) / b.count))
        let scores = Tensor([block, b.count])
        for start in stride(from: 0, to: a.count, by: block) {
            let rows = min(block, a.count - start)
            a.values.withUnsafeBufferPointer { left in
                b.values.withUnsafeBufferPointer { right in
                    BLAS.gemm(
                        pool, transposeB: true, m: rows, n: b.count, k: a.dimension,
                        a: left.baseAddress! + start * a.dimension, lda: a.dimension, b: right.baseAddress!,
                        ldb: a.dimension, c: scores.pointer, ldc: b.count)
                }
            }
            body(start..<start + rows, scores.pointer)
        }
    }

    // MARK: - Threshold

    /// A cosine above which two identities are taken for one person, and where it comes from.
    package struct Threshold: Sendable, Equatable {
        package let cosine: Double
        /// Pairs of identities whose cosines it comes from.
        package let pairs: Int
        /// Two points of their distribution: the share of pairs above, and the cosine.
        package let lower: (tail: Double, cosine: Double)
        package let upper: (tail: Double, cosine: Double)
        /// The share of pairs of different people that is to lie above the threshold.
        package let tail: Double

        package static func == (a: Self, b: Self) -> Bool {
            a.cosine == b.cosine && a.pairs == b.pairs && a.lower == b.lower && a.upper == b.upper && a.tail == b.tail
        }
    }

    /// A threshold from how much the identities of the two sets look alike, nearly all pairs of whom are different people.
    ///
    /// Of all pairs no more than one for each identity of the smaller set can show one person. Two points of the upper
    /// tail are read off that these cannot move far: the one that a thousandth of the pairs lies above (or ten pairs for
    /// each identity of the smaller set, or 30, whichever is most), and the one that ten times as many do. From there
    /// the tail is taken to fall as that of a normal distribution through the two points, and followed to the share of
    /// pairs at which an identity of `a` has a chance of `falseAlarms` to be taken for one of `b` that it is not. A share
    /// that lies within the points is read from the distribution itself.
    ///
    /// - Parameters:
    ///   - a: unit vectors; zeros are left out. Of more than `sample` rows that many, evenly spread, are compared.
    ///   - b: the same, all of which are compared.
    /// - Returns: nil where the sets are too small for two such points.
    /// - Throws: `EvaluationError.nonFiniteEmbedding`.
    package static func threshold(
        _ a: Embeddings, _ b: Embeddings, falseAlarms: Double = 0.01, sample: Int = 2000, pool: ThreadPool
    ) throws(EvaluationError) -> Threshold? {
        precondition(falseAlarms > 0 && sample > 0, "a threshold for nothing")
        let usable = try a.norms().enumerated().filter { $0.element > 0 }.map(\.offset)
        let others = try b.norms().enumerated().filter { $0.element > 0 }.map(\.offset)
        let probes = min(sample, usable.count)
        let pairs = probes * others.count
        guard pairs > 0 else { return nil }
        let mates = 1 / Double(max(usable.count, others.count))
        let upperTail = max(1e-3, 30 / Double(pairs), 10 * mates)
        guard upperTail <= 0.1 else { return nil }
        let chosen = (0..<probes).map { usable[$0 * usable.count / probes] }
        var histogram = Histogram()
        products(of: rows(chosen, of: a), rows(others, of: b), pool: pool) { range, scores in
            for score in UnsafeBufferPointer(start: scores, count: range.count * others.count) { histogram.add(score) }
        }
        let lowerTail = min(0.5, 10 * upperTail)
        let upper = (tail: upperTail, cosine: histogram.value(tail: upperTail))
        let lower = (tail: lowerTail, cosine: histogram.value(tail: lowerTail))
        let tail = min(0.5, falseAlarms / Double(others.count))
        var cosine = histogram.value(tail: tail)
        if tail < upperTail {
            let slope = (upper.cosine - lower.cosine) / (normalQuantile(upper.tail) - normalQuantile(lower.tail))
            cosine = upper.cosine + slope * (normalQuantile(tail) - normalQuantile(upper.tail))
        }
        return Threshold(cosine: min(cosine, 0.999), pairs: pairs, lower: lower, upper: upper, tail: tail)
    }

    private static func rows(_ rows: [Int], of all: Embeddings) -> Embeddings {
        var values: [Float] = []
        values.reserveCapacity(rows.count * all.dimension)
        for row in rows { values += all.values[row * all.dimension..<(row + 1) * all.dimension] }
        return Embeddings(values, dimension: all.dimension)
    }

    /// Cosines in bins of 1/2000.
    private struct Histogram {
        private var counts = [Int](repeating: 0, count: 4001)
        private(set) var total = 0

        mutating func add(_ cosine: Float) {
            counts[min(4000, max(0, Int((cosine + 1) * 2000)))] += 1
            total += 1
        }

        /// The cosine that a share `tail` lies above, interpolated within its bin.
        func value(tail: Double) -> Double {
            var above = 0
            let wanted = tail * Double(total)
            for bin in counts.indices.reversed() where counts[bin] > 0 {
                if Double(above + counts[bin]) >= wanted {
                    let share = (wanted - Double(above)) / Double(counts[bin])
                    return (Double(bin) + 1 - share) / 2000 - 1
                }
                above += counts[bin]
            }
            return -1
        }
    }

    /// The point of the standard normal distribution that a share `tail` lies above, by bisection.
    static func normalQuantile(_ tail: Double) -> Double {
        var (low, high) = (-40.0, 40.0)
        for _ in 0..<100 {
            let middle = (low + high) / 2
            if 0.5 * erfc(middle / 2.0.squareRoot()) > tail { low = middle } else { high = middle }
        }
        return (low + high) / 2
    }
}
