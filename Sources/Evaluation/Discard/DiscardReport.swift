package import Tensors

/// What was compared, by what it was ordered, and how: an error-versus-discard curve without these facts cannot be compared
/// with another.
package struct DiscardFacts: Sendable, Equatable, Codable {
    /// Which pairs.
    package enum Pairs: String, Sendable, Codable {
        /// Those of a list; single pairs are left out.
        case listed = "listed pairs"
        /// All pairs of a labelled set; images are left out with all their pairs.
        case all = "all pairs"
    }

    package let dataset: String
    package let pairs: Pairs
    package let degradation: String
    package let flip: FlipFusion
    /// Whose embeddings were compared.
    package let embeddings: String
    /// Where the qualities come from.
    package let quality: String

    package init(
        dataset: String, pairs: Pairs, degradation: String, flip: FlipFusion, embeddings: String, quality: String
    ) {
        self.dataset = dataset
        self.pairs = pairs
        self.degradation = degradation
        self.flip = flip
        self.embeddings = embeddings
        self.quality = quality
    }
}

/// Error-versus-discard curves of one set, with what chance and knowledge of the errors themselves would give.
package struct DiscardReport: Sendable, Equatable, Codable {
    package struct Options: Sendable, Equatable {
        package var targetFMRs: [Double]
        package var threshold: ErrorVersusDiscard.Threshold
        package var rates: DiscardRates
        /// Random orders that the baseline is the mean of.
        package var randomOrders: Int
        /// Samples of the bootstrap; 0 for none.
        package var samples: Int
        package var seed: UInt64

        package init(
            targetFMRs: [Double] = [1e-2, 1e-3, 1e-4], threshold: ErrorVersusDiscard.Threshold = .fixed,
            rates: DiscardRates = DiscardRates(), randomOrders: Int = 20, samples: Int = 200, seed: UInt64 = 0
        ) {
            self.targetFMRs = targetFMRs
            self.threshold = threshold
            self.rates = rates
            self.randomOrders = randomOrders
            self.samples = samples
            self.seed = seed
        }
    }

    /// A figure and how it varies.
    package struct Spread: Sendable, Equatable, Codable {
        package let mean: Double
        /// Standard deviation (divides by n).
        package let deviation: Double

        init?(_ values: [Double?]) {
            let known = values.compactMap { $0 }
            guard !known.isEmpty, known.count == values.count else { return nil }
            mean = Statistics.mean(known)
            deviation = Statistics.deviation(known)
        }
    }

    package struct Area: Sendable, Equatable, Codable {
        /// The discard rate that it reaches to.
        package let upTo: Double
        package let quality: Double?
        /// Over the random orders.
        package let random: Spread?
        package let oracle: Double?
        /// Of `quality`, over the samples of the bootstrap.
        package let interval: ConfidenceInterval?
        /// Standard deviation over the samples; nil where fewer than two have an area.
        package let deviation: Double?
        /// By how much it lies below the area of a random order, over the samples; nil as `deviation` is. A sample in which
        /// the recogniser does badly raises both areas, so this varies less than they do.
        package let gain: Spread?
    }

    package struct Curve: Sendable, Equatable, Codable {
        package let targetFMR: Double
        /// The false match rate at the operating point of all pairs; differs from the target where there are few impostors.
        package let reachedFMR: Double?
        /// Cosines by discard rate; what is above is accepted.
        package let thresholds: [Double?]
        package let falseNonMatchRates: [Double?]
        /// By discard rate, over the random orders of the images.
        package let random: [Spread?]
        /// By discard rate, when genuine pairs that fail are left out first.
        package let oracle: [Double?]
        /// 95 % by discard rate, over the samples of the bootstrap.
        package let intervals: [ConfidenceInterval?]
        /// Whether the samples of the bootstrap choose operating points of their own.
        package let resamplesThreshold: Bool
        package let areas: [Area]
    }

    package let facts: DiscardFacts
    package let images: Int
    package let pairs: Int
    package let genuinePairs: Int
    package let impostorPairs: Int
    package let threshold: ErrorVersusDiscard.Threshold
    package let discardRates: [Double]
    /// The shares that are really left out: where whole images go, never more than the rate.
    package let discarded: [Double]
    package let randomOrders: Int
    package let samples: Int
    /// What the bootstrap draws.
    package let resampled: String
    package let curves: [Curve]

    package func curve(atFMR target: Double) -> Curve? { curves.first { $0.targetFMR == target } }

    /// The pairs of a list.
    ///
    /// - Parameters:
    ///   - similarities: cosines, one per pair.
    ///   - qualities: one per image, larger for better.
    /// - Throws: `EvaluationError.nonFiniteScore`, `.oneKindOnly`, `.nonFiniteQuality`.
    package init(
        similarities: [Double], pairs: [VerificationPair], qualities: [Double], facts: DiscardFacts,
        options: Options = Options(), pool: ThreadPool
    ) throws(EvaluationError) {
        precondition(similarities.count == pairs.count, "one similarity per pair")
        try Self.check(qualities)
        let discard = try ListedDiscard(
            distances: similarities.map { -$0 }, pairs: pairs, qualities: qualities, rates: options.rates,
            seed: options.seed)
        self.init(discard, images: qualities.count, facts, options, resampled: "pairs, each kind by itself", pool)
    }

    /// All pairs of a set: genuine those of one identity, impostor all others.
    ///
    /// - Parameters:
    ///   - unit: embeddings of unit length.
    ///   - labels: identities, not negative.
    ///   - qualities: one per image, larger for better.
    ///   - listLimit: impostor pairs kept in memory at most.
    ///   - progress: called with the share done.
    /// - Throws: `EvaluationError.oneKindOnly`, `.nonFiniteQuality`, `.nonFiniteEmbedding`.
    package init(
        allPairsOf unit: Embeddings, labels: [Int32], qualities: [Double], facts: DiscardFacts,
        options: Options = Options(), pool: ThreadPool, listLimit: Int? = nil, progress: (Double) -> Void = { _ in }
    ) throws(EvaluationError) {
        try Self.check(qualities)
        _ = try unit.norms()
        let discard = try AllPairs(
            unit, labels: labels, qualities: qualities, targets: options.targetFMRs, threshold: options.threshold,
            rates: options.rates, seed: options.seed, pool: pool, listLimit: listLimit ?? AllPairs.listLimit,
            progress: progress)
        self.init(discard, images: qualities.count, facts, options, resampled: "identities", pool)
    }

    private static func check(_ qualities: [Double]) throws(EvaluationError) {
        if let image = qualities.firstIndex(where: { !$0.isFinite }) { throw .nonFiniteQuality(image: image) }
    }

    private init(
        _ discard: some DiscardPairs, images: Int, _ facts: DiscardFacts, _ options: Options, resampled: String,
        _ pool: ThreadPool
    ) {
        self.facts = facts
        self.images = images
        pairs = discard.pairCount
        genuinePairs = discard.genuineCount
        impostorPairs = discard.pairCount - discard.genuineCount
        threshold = options.threshold
        discardRates = options.rates.values
        discarded = discard.reachedRates
        randomOrders = options.randomOrders
        samples = options.samples
        self.resampled = resampled
        let plain = Self.evaluated(discard.byQuality(), discard, options)
        let random = Self.evaluated(options.randomOrders, pool, discard, options) { discard.atRandom($0) }
        let drawn = Self.evaluated(options.samples, pool, discard, options) { discard.resampled($0) }
        curves = options.targetFMRs.indices.map { target in
            Self.curve(
                plain[target], random: random.map { $0[target] }, samples: drawn.map { $0[target] },
                resamplesThreshold: discard.heldPoints[target] == nil, discard, options.rates)
        }
    }

    /// The curves of several samples, by sample and target.
    private static func evaluated(
        _ count: Int, _ pool: ThreadPool, _ discard: some DiscardPairs, _ options: Options,
        _ sample: (Int) -> DiscardSample
    ) -> [[ErrorVersusDiscard]] {
        var results = [[ErrorVersusDiscard]](repeating: [], count: count)
        results.withUnsafeMutableBufferPointer { results in
            pool.forEachRange(count) { range in
                for number in range { results[number] = evaluated(sample(number), discard, options) }
            }
        }
        return results
    }

    private static func evaluated(
        _ sample: DiscardSample, _ discard: some DiscardPairs, _ options: Options
    ) -> [ErrorVersusDiscard] {
        options.targetFMRs.enumerated().map { place, target in
            ErrorVersusDiscard(
                sample, targetFMR: target, threshold: options.threshold, rates: options.rates,
                at: discard.heldPoints[place])
        }
    }

    private static func curve(
        _ plain: ErrorVersusDiscard, random: [ErrorVersusDiscard], samples: [ErrorVersusDiscard],
        resamplesThreshold: Bool, _ discard: some DiscardPairs, _ rates: DiscardRates
    ) -> Curve {
        let oracle = oracle(plain.falseNonMatchRates[0], discard, rates)
        let areas = [DiscardRates.last, 0.3].map { limit in
            let drawn = samples.map { $0.area(upTo: limit) }
            // A random order leaves the rate of errors as it is, but for chance.
            let gains = samples.map { sample in
                sample.area(upTo: limit).flatMap { area in
                    sample.falseNonMatchRates[0].map {
                        rates.area([Double?](repeating: $0, count: rates.values.count), upTo: limit)! - area
                    }
                }
            }
            return Area(
                upTo: limit, quality: plain.area(upTo: limit), random: Spread(random.map { $0.area(upTo: limit) }),
                oracle: rates.area(oracle, upTo: limit), interval: interval(drawn),
                deviation: overSamples(drawn)?.deviation, gain: overSamples(gains))
        }
        return Curve(
            targetFMR: plain.targetFMR, reachedFMR: plain.reachedFMR,
            thresholds: plain.operatingPoints.map { $0.map { -$0 } }, falseNonMatchRates: plain.falseNonMatchRates,
            random: rates.values.indices.map { rate in Spread(random.map { $0.falseNonMatchRates[rate] }) },
            oracle: oracle,
            intervals: rates.values.indices.map { rate in interval(samples.map { $0.falseNonMatchRates[rate] }) },
            resamplesThreshold: resamplesThreshold, areas: areas)
    }

    /// Genuine pairs below the threshold are left out first, then others, genuine ones last: no order does better.
    private static func oracle(_ rate: Double?, _ discard: some DiscardPairs, _ rates: DiscardRates) -> [Double?] {
        guard let rate else { return rates.values.map { _ in nil } }
        let failing = Int((rate * Double(discard.genuineCount)).rounded())
        return rates.cuts(of: discard.pairCount).map { cut in
            let left = max(0, failing - cut)
            return left == 0 ? 0 : Double(left) / Double(discard.genuineCount - cut)
        }
    }

    /// nil where fewer than two are known: one says nothing about how they vary.
    private static func overSamples(_ values: [Double?]) -> Spread? {
        let known = values.filter { $0 != nil }
        return known.count > 1 ? Spread(known) : nil
    }

    /// Percentiles of what is known; nil where less than half is.
    private static func interval(_ values: [Double?]) -> ConfidenceInterval? {
        let known = values.compactMap { $0 }.sorted()
        guard known.count >= 2, 2 * known.count >= values.count else { return nil }
        return ConfidenceInterval(
            lower: Statistics.quantile(known, 0.025), upper: Statistics.quantile(known, 0.975), level: 0.95,
            method: .bootstrap)
    }
}
