internal import Tensors

/// All pairs of a labelled set of images: genuine those of one identity, impostor all others. Images are left out one
/// by one, with all their pairs: pairs that share their lesser image have one quality.
///
/// Two scans over the cosines, and memory for the genuine pairs and for the nearest impostor pairs, as many as the
/// operating points need: the first scan counts impostor pairs in fine bins, which says how far they reach; the second
/// collects them, so that operating points are exact.
struct AllPairs: DiscardPairs {
    /// By place: images are numbered by quality, the worst first; equal ones in the order of the set.
    private let labels: [Int32]
    private let identities: Int
    private let genuine: PairList
    private let impostor: PairList
    private let genuineDistances: [Double]
    private let impostorDistances: [Double]
    private let listsFarthest: Bool
    private let rates: DiscardRates
    private let seed: UInt64
    let genuineCount: Int
    let heldPoints: [Int: [DiscardSample.OperatingPoint?]]
    let reachedRates: [Double]

    var pairCount: Int { labels.count * (labels.count - 1) / 2 }

    /// Impostor pairs that are kept in memory at most (some 30 bytes each); operating points beyond them are still exact,
    /// but resampling holds them.
    static let listLimit = 16 << 20

    /// - Parameters:
    ///   - unit: embeddings of unit length.
    ///   - labels: identities, not negative.
    ///   - progress: called with the share of the work done.
    /// - Throws: `EvaluationError.oneKindOnly`.
    init(
        _ unit: Embeddings, labels: [Int32], qualities: [Double], targets: [Double],
        threshold: ErrorVersusDiscard.Threshold, rates: DiscardRates, seed: UInt64, pool: ThreadPool,
        listLimit: Int = AllPairs.listLimit, progress: (Double) -> Void
    ) throws(EvaluationError) {
        precondition(unit.count == labels.count && labels.count == qualities.count, "one label and quality per image")
        let order = qualities.indices.sorted { (qualities[$0], $0) < (qualities[$1], $1) }.map { Int32($0) }
        let places = order.map { labels[Int($0)] }
        let identities = Int(places.max() ?? -1) + 1
        let discard = ImageDiscard(
            order: [Int32](0..<Int32(places.count)), labels: places, identities: identities, copies: nil, rates: rates)
        let scan = AllPairsScan(unit, order: order, pool: pool)

        let groups: [UInt8]? = threshold == .fixed ? nil : discard.retained
        let counts = ImpostorCounts(scan, labels: places, groups: groups, rates: rates, pool: pool) { progress($0 / 2) }
        let genuine = PairList.sorted(counts.genuine)
        let impostors = labels.count * (labels.count - 1) / 2 - genuine.count
        guard genuine.count > 0, impostors > 0 else {
            throw .oneKindOnly(genuine: genuine.count, impostor: impostors)
        }
        let need = ImpostorNeed(
            counts, targets: targets,
            totals: threshold == .fixed ? [discard.impostorTotals[0]] : discard.impostorTotals,
            limit: listLimit)
        let found = need.collect(scan, labels: places, pool: pool) { progress(0.5 + $0 / 2) }

        self.labels = places
        self.identities = identities
        self.genuine = genuine
        self.impostor = found.nearest
        self.rates = rates
        self.seed = seed
        genuineCount = genuine.count
        genuineDistances = genuine.cosines.map { -Double($0) }
        impostorDistances = found.nearest.cosines.map { -Double($0) }
        listsFarthest = need.listsAll
        reachedRates = discard.reached
        let genuineRetained = discard.retained(of: genuine)
        let distances = genuineDistances
        heldPoints = found.windows.mapValues { windows in
            let points = windows.enumerated().map { rate, window -> DiscardSample.OperatingPoint? in
                var nearer = [Int](repeating: 0, count: rates.count)
                nearer[rate] = window.nearer
                let sample = DiscardSample(
                    genuine: distances, impostor: window.pairs.cosines.map { -Double($0) },
                    genuineRetained: genuineRetained, impostorRetained: discard.retained(of: window.pairs),
                    impostorTotals: discard.impostorTotals, impostorsNearer: nearer, listsFarthest: false)
                return sample.operatingPoint(target: window.target, rate: rate)
            }
            return threshold == .fixed
                ? [DiscardSample.OperatingPoint?](repeating: points[0], count: rates.count) : points
        }
    }

    private func sample(order: [Int32], copies: [UInt32]?) -> DiscardSample {
        let discard = ImageDiscard(order: order, labels: labels, identities: identities, copies: copies, rates: rates)
        func weights(_ pairs: PairList, _ weight: (UInt32, UInt32) -> UInt32) -> [UInt32]? {
            guard let copies else { return nil }
            return (0..<pairs.count).map { pair in
                weight(
                    copies[Int(labels[Int(pairs.first[pair])])], copies[Int(labels[Int(pairs.second[pair])])])
            }
        }
        return DiscardSample(
            genuine: genuineDistances, impostor: impostorDistances, genuineRetained: discard.retained(of: genuine),
            impostorRetained: discard.retained(of: impostor),
            // The images of one copy of an identity are compared with one another, not with those of another copy.
            genuineWeights: weights(genuine) { own, _ in own }, impostorWeights: weights(impostor) { $0 * $1 },
            impostorTotals: discard.impostorTotals, impostorsNearer: [Int](repeating: 0, count: rates.count),
            listsFarthest: listsFarthest)
    }

    func byQuality() -> DiscardSample { sample(order: [Int32](0..<Int32(labels.count)), copies: nil) }

    func atRandom(_ number: Int) -> DiscardSample {
        sample(order: randomOrder(labels.count, seed: seed, number: number), copies: nil)
    }

    /// Identities drawn with replacement, each with all its images.
    func resampled(_ number: Int) -> DiscardSample {
        var present = [Bool](repeating: false, count: identities)
        for label in labels { present[Int(label)] = true }
        let drawn = (0..<identities).filter { present[$0] }
        var stream = RandomStream(seed: seed, purpose: .bootstrap, index: UInt64(number))
        var copies = [UInt32](repeating: 0, count: identities)
        for _ in drawn { copies[drawn[stream.below(drawn.count)]] += 1 }
        return sample(order: [Int32](0..<Int32(labels.count)), copies: copies)
    }
}

/// What discarding images in an order leaves of all pairs.
struct ImageDiscard {
    /// By image: the number of rates at which it is still there.
    let retained: [UInt8]
    /// By rate: impostor pairs still there.
    let impostorTotals: [Int]
    /// By rate: the share of all pairs that is gone. No rate is exceeded.
    let reached: [Double]

    /// - Parameters:
    ///   - order: images, the worst first.
    ///   - copies: by identity, how often it counts; once where nil.
    init(order: [Int32], labels: [Int32], identities: Int, copies: [UInt32]?, rates: DiscardRates) {
        // Pairs whose worse image stands at a place: with all better ones, counted from the best.
        var pairs = [Int](repeating: 0, count: order.count)
        var impostors = pairs
        var mates = [Int](repeating: 0, count: identities)
        var better = 0
        for place in stride(from: order.count - 1, through: 0, by: -1) {
            let label = Int(labels[Int(order[place])])
            let times = copies.map { Int($0[label]) } ?? 1
            impostors[place] = times * (better - times * mates[label])
            pairs[place] = impostors[place] + times * mates[label]
            mates[label] += 1
            better += times
        }
        let total = pairs.reduce(0, +)
        let cuts = rates.cuts(of: total)
        var retained = [UInt8](repeating: 0, count: order.count)
        // By the number of rates: pairs gone with images retained so often.
        var gone = [Int](repeating: 0, count: rates.count + 1)
        var impostorsGone = gone
        var (seen, rate) = (0, 0)
        for (place, image) in order.enumerated() {
            seen += pairs[place]
            // Still there at a rate if its pairs would exceed it.
            while rate < cuts.count, cuts[rate] < seen { rate += 1 }
            retained[Int(image)] = UInt8(rate)
            gone[rate] += pairs[place]
            impostorsGone[rate] += impostors[place]
        }
        var (pairsLeft, impostorsLeft) = (total, impostors.reduce(0, +))
        var (totals, reached): ([Int], [Double]) = ([], [])
        for rate in 0..<rates.count {
            pairsLeft -= gone[rate]
            impostorsLeft -= impostorsGone[rate]
            totals.append(impostorsLeft)
            reached.append(total > 0 ? 1 - Double(pairsLeft) / Double(total) : 0)
        }
        self.retained = retained
        impostorTotals = totals
        self.reached = reached
    }

    /// Of each pair the number of rates at which both its images are there.
    func retained(of pairs: PairList) -> [UInt8] {
        (0..<pairs.count).map { min(retained[Int(pairs.first[$0])], retained[Int(pairs.second[$0])]) }
    }
}
