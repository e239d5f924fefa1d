package import Tensors

/// Image quality from how a recogniser does on the image: the distance between its similarities to images of its own
/// identity and to images of others (SDD-FIQA: Ou et al., CVPR 2021; the priors of quality self-distillation).
///
/// A round draws, for each image, some images of its identity and some of others, and takes the Wasserstein distance
/// between the two sets of cosines; all distances of the round are then scaled to 0...100 together. A quality is the mean
/// over the rounds. What is drawn hangs on (seed, round, record) alone, so the work may be shared out in any way.
package struct QualityAnnotation: Sendable {
    package struct Options: Sendable, Equatable, Codable {
        package var rounds: Int
        /// Images drawn of the own identity, and of others, at most: there may be fewer.
        package var pairs: Int
        package var seed: UInt64

        package init(rounds: Int = 12, pairs: Int = 24, seed: UInt64 = 0) {
            self.rounds = rounds
            self.pairs = pairs
            self.seed = seed
        }
    }

    package let options: Options
    /// The records that are annotated, identity by identity, and rising within each.
    package let records: [Int32]
    /// Identities with two images or more: those annotated.
    package var identities: Int { starts.count - 1 }
    /// Identities with a single image, which has nothing of its own to be compared with.
    package let droppedIdentities: Int
    /// Identity k has the positions starts[k]..<starts[k + 1] of `records`.
    private let starts: [Int32]

    /// - Parameters:
    ///   - labels: the identity of each record, not negative.
    ///   - excluded: records without an embedding; they count as absent.
    /// - Throws: `EvaluationError.tooFewIdentities`.
    package init(
        labels: [Int32], excluded: Set<Int> = [], options: Options = Options()
    ) throws(EvaluationError) {
        precondition(options.rounds > 0 && options.pairs > 0, "\(options.rounds) rounds of \(options.pairs) pairs")
        precondition(labels.count < Int(Int32.max), "\(labels.count) records")
        self.options = options
        // By identity, how many images it has; then the place of its next record, -1 for those left out.
        var places = [Int](repeating: 0, count: Int(labels.max() ?? -1) + 1)
        for (record, label) in labels.enumerated() where !excluded.contains(record) { places[Int(label)] += 1 }
        droppedIdentities = places.count { $0 == 1 }
        var starts: [Int32] = [0]
        var total = 0
        for identity in places.indices {
            let images = places[identity]
            places[identity] = images > 1 ? total : -1
            guard images > 1 else { continue }
            total += images
            starts.append(Int32(total))
        }
        guard starts.count > 2 else { throw .tooFewIdentities(found: starts.count - 1) }
        var records = [Int32](repeating: 0, count: total)
        for (record, label) in labels.enumerated() where !excluded.contains(record) {
            let place = places[Int(label)]
            guard place >= 0 else { continue }
            records[place] = Int32(record)
            places[Int(label)] += 1
        }
        self.records = records
        self.starts = starts
    }

    /// Qualities of a part of the records.
    ///
    /// - Parameters:
    ///   - positions: places in `records`.
    ///   - rows: the unit embedding of every record, `dimension` values each.
    ///   - together: makes the least and the greatest separation of the part those of all parts (over ranks, an
    ///     all-reduce); called once a round.
    ///   - progress: called with the number of rounds done.
    /// - Returns: for each position a value in 0...100.
    package func qualities(
        of positions: Range<Int>, rows: UnsafePointer<Float>, dimension: Int, pool: ThreadPool,
        together: (_ least: inout Double, _ greatest: inout Double) throws -> Void = { _, _ in },
        progress: (Int) -> Void = { _ in }
    ) rethrows -> [Double] {
        var means = [Double](repeating: 0, count: positions.count)
        for round in 0..<options.rounds {
            let separations = separations(
                of: positions, round: round, rows: rows, dimension: dimension, pool: pool)
            var (least, greatest) = (separations.min() ?? .infinity, separations.max() ?? -.infinity)
            try together(&least, &greatest)
            let scaled = Self.scaled(separations, least: least, greatest: greatest)
            for i in means.indices { means[i] += scaled[i] / Double(options.rounds) }
            progress(round + 1)
        }
        return means
    }

    /// 100 (D - least) / (greatest - least); where all are equal there is nothing to tell apart, and each is 50.
    static func scaled(_ separations: [Double], least: Double, greatest: Double) -> [Double] {
        guard greatest > least else { return separations.map { _ in 50 } }
        return separations.map { 100 * ($0 - least) / (greatest - least) }
    }

    /// The Wasserstein distances of one round.
    private func separations(
        of positions: Range<Int>, round: Int, rows: UnsafePointer<Float>, dimension: Int, pool: ThreadPool
    ) -> [Double] {
        var result = [Double](repeating: 0, count: positions.count)
        result.withUnsafeMutableBufferPointer { target in
            pool.forEachRange(positions.count) { range in
                var identity = self.identity(of: positions.lowerBound + (range.first ?? 0))
                var draw = Draw()
                for i in range {
                    let position = positions.lowerBound + i
                    while position >= Int(starts[identity + 1]) { identity += 1 }
                    target[i] = separation(position, identity, round, rows, dimension, &draw)
                }
            }
        }
        return result
    }

    private func separation(
        _ position: Int, _ identity: Int, _ round: Int, _ rows: UnsafePointer<Float>, _ dimension: Int,
        _ draw: inout Draw
    ) -> Double {
        let (first, end) = (Int(starts[identity]), Int(starts[identity + 1]))
        let record = Int(records[position])
        var stream = RandomStream(
            seed: options.seed, purpose: .annotation, index: UInt64(record), step: UInt64(round))
        func cosine(_ other: Int) -> Double {
            Double(
                Vectors.dot(rows + record * dimension, rows + Int(records[other]) * dimension, count: dimension))
        }
        let mates = end - first - 1
        draw.choose(min(options.pairs, mates), of: mates, &stream)
        draw.own.removeAll(keepingCapacity: true)
        for place in draw.chosen {
            let other = first + place
            draw.own.append(cosine(other < position ? other : other + 1))
        }
        let others = records.count - (end - first)
        draw.choose(min(options.pairs, others), of: others, &stream)
        draw.strange.removeAll(keepingCapacity: true)
        for place in draw.chosen { draw.strange.append(cosine(place < first ? place : place + end - first)) }
        draw.own.sort()
        draw.strange.sort()
        return Self.wasserstein(ascending: draw.own, ascending: draw.strange)
    }

    private func identity(of position: Int) -> Int {
        var (low, high) = (0, starts.count - 1)
        while high - low > 1 {
            let middle = (low + high) / 2
            if Int(starts[middle]) <= position { low = middle } else { high = middle }
        }
        return low
    }

    /// What a thread works with.
    private struct Draw {
        var chosen: [Int] = []
        var own: [Double] = []
        var strange: [Double] = []

        /// `count` different numbers below `total`, each set equally likely (R. Floyd; Bentley, CACM 30(9), 1987).
        mutating func choose(_ count: Int, of total: Int, _ stream: inout RandomStream) {
            chosen.removeAll(keepingCapacity: true)
            for last in total - count..<total {
                let candidate = stream.below(last + 1)
                chosen.append(chosen.contains(candidate) ? last : candidate)
            }
        }
    }

    /// The Wasserstein distance of order 1 between two empirical distributions: the integral of |F - G| over the merged
    /// support. The sets may differ in size.
    package static func wasserstein(_ a: [Double], _ b: [Double]) -> Double {
        wasserstein(ascending: a.sorted(), ascending: b.sorted())
    }

    private static func wasserstein(ascending a: [Double], ascending b: [Double]) -> Double {
        precondition(!a.isEmpty && !b.isEmpty, "distributions of \(a.count) and \(b.count) values")
        var (i, j, distance) = (0, 0, 0.0)
        var last = min(a[0], b[0])
        while i < a.count || j < b.count {
            let fromA = j == b.count || (i < a.count && a[i] <= b[j])
            let value = fromA ? a[i] : b[j]
            let gap = Double(i) / Double(a.count) - Double(j) / Double(b.count)
            distance += abs(gap) * (value - last)
            last = value
            if fromA { i += 1 } else { j += 1 }
        }
        return distance
    }
}
