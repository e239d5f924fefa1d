#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Error-versus-discard characteristic: how the false non-match rate falls as the pairs of lowest quality are left out
/// (Grother and Tabassi, PAMI 2007; Schlett et al., arXiv 2303.13294).
package struct ErrorVersusDiscard: Sendable, Equatable, Codable {
    /// At which pairs the operating point is chosen.
    package enum Threshold: String, Sendable, Codable, CaseIterable {
        /// On all pairs, once: the usual definition.
        case fixed
        /// On the retained pairs at each discard rate: what CR-FIQA's released code does, and its published areas mean.
        case reselected
    }

    package let targetFMR: Double
    package let threshold: Threshold
    /// 0, 0.05, … 0.95, unless other rates were asked for.
    package let discardRates: [Double]
    /// False non-match rate of the retained pairs; nil where none of a kind it needs is left.
    package let falseNonMatchRates: [Double?]
    /// Distances accepted are strictly below these.
    package let operatingPoints: [Double?]
    /// The share of the impostor pairs at discard rate 0 that are not farther than the operating point.
    package let reachedFMR: Double?

    /// Area under the curve up to discard rate `limit` (0.95: all of it; 0.3: the partial area of later papers), by the
    /// trapezoid rule, not divided by the limit; nil where a rate in it does not exist.
    package func area(upTo limit: Double = DiscardRates.last) -> Double? {
        let covered = discardRates.prefix { $0 <= limit + 1e-9 }.count
        let rates = falseNonMatchRates.prefix(covered).compactMap { $0 }
        guard rates.count == covered else { return nil }
        return Statistics.trapezoid(Array(discardRates.prefix(covered)), rates)
    }

    /// - Parameters:
    ///   - distances: smaller for more alike; `angularDistance(cosine:)` for embeddings.
    ///   - qualities: of each pair, larger for better: the lesser of its images' (see `pairQualities`). Equal qualities
    ///     keep the order of the list.
    /// - Throws: `EvaluationError.nonFiniteScore`, `.oneKindOnly`.
    package init(
        distances: [Double], same: [Bool], qualities: [Double], targetFMR: Double, threshold: Threshold,
        rates: DiscardRates = DiscardRates()
    ) throws(EvaluationError) {
        let pairs = try ListedPairs(distances: distances, same: same)
        precondition(same.count == qualities.count, "one quality per pair")
        if let pair = qualities.firstIndex(where: { !$0.isFinite }) { throw .nonFiniteScore(pair: pair) }
        self.init(
            pairs.sample(order: pairs.order(by: qualities), rates: rates), targetFMR: targetFMR, threshold: threshold,
            rates: rates)
    }

    /// - Parameter points: operating points by rate, where others than the sample's own are meant.
    init(
        _ sample: DiscardSample, targetFMR: Double, threshold: Threshold, rates: DiscardRates,
        at points: [DiscardSample.OperatingPoint?]? = nil
    ) {
        self.targetFMR = targetFMR
        self.threshold = threshold
        discardRates = rates.values
        let points = points ?? sample.operatingPoints(target: targetFMR, threshold: threshold, rates: rates.count)
        operatingPoints = points.map { $0?.distance }
        reachedFMR = points[0]?.falseMatchRate
        falseNonMatchRates = sample.falseNonMatchRates(at: operatingPoints)
    }

    /// The angle between unit embeddings as a fraction of half a turn: arccos(cos) / π.
    package static func angularDistance(cosine: Double) -> Double { acos(min(1, max(-1, cosine))) / Double.pi }

    /// The quality of each pair: the lesser of its two images'.
    package static func pairQualities(_ qualities: [Double], pairs: [VerificationPair]) -> [Double] {
        pairs.map { min(qualities[$0.first], qualities[$0.second]) }
    }
}
