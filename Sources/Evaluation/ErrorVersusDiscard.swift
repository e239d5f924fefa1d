#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Error-versus-discard characteristic: how the false non-match rate falls as the pairs of lowest quality are left out
/// (Grother and Tabassi, PAMI 2007; Schlett et al., arXiv 2303.13294).
package struct ErrorVersusDiscard: Sendable, Equatable, Codable {
    /// At which pairs the operating point is chosen.
    package enum Threshold: String, Sendable, Codable {
        /// On all pairs, once: the usual definition.
        case fixed
        /// On the retained pairs at each discard rate: what CR-FIQA's released code does, and its published areas mean.
        case reselected
    }

    package let targetFMR: Double
    package let threshold: Threshold
    /// 0, 0.05, … 0.95.
    package let discardRates: [Double]
    /// False non-match rate of the retained pairs; nil where none of a kind it needs is left.
    package let falseNonMatchRates: [Double?]
    /// Distances accepted are strictly below these.
    package let operatingPoints: [Double?]

    /// Area under the curve up to discard rate `limit` (0.95: all of it; 0.3: the partial area of later papers), by the
    /// trapezoid rule, not divided by the limit; nil where a rate in it does not exist.
    package func area(upTo limit: Double = 0.95) -> Double? {
        let covered = discardRates.prefix { $0 <= limit + 1e-9 }.count
        let rates = falseNonMatchRates.prefix(covered).compactMap { $0 }
        guard rates.count == covered else { return nil }
        return Statistics.trapezoid(Array(discardRates.prefix(covered)), rates)
    }

    /// - Parameters:
    ///   - distances: smaller for more alike; `angularDistance(cosine:)` for embeddings.
    ///   - qualities: of each pair, larger for better: the lesser of its images' (see `pairQualities`).
    /// - Throws: `EvaluationError.nonFiniteScore`, `.oneKindOnly`.
    package init(
        distances: [Double], same: [Bool], qualities: [Double], targetFMR: Double, threshold: Threshold
    ) throws(EvaluationError) {
        precondition(distances.count == same.count && same.count == qualities.count, "one quality per pair")
        if let pair = qualities.firstIndex(where: { !$0.isFinite }) { throw .nonFiniteScore(pair: pair) }
        let all = try PairScores(distances: distances, same: same)
        self.targetFMR = targetFMR
        self.threshold = threshold
        discardRates = (0..<20).map { Double($0) / 20 }
        // Lowest quality first; equal qualities keep the order of the list.
        let order = qualities.indices.sorted { (qualities[$0], $0) < (qualities[$1], $1) }
        let atAll = Self.operatingPoint(all.distances, all.same, target: targetFMR)
        var (rates, points): ([Double?], [Double?]) = ([], [])
        for rate in discardRates {
            let kept = order.dropFirst(Statistics.floorCount(rate, of: order.count))
            let (keptDistances, keptSame) = (kept.map { distances[$0] }, kept.map { same[$0] })
            let point =
                threshold == .fixed ? atAll : Self.operatingPoint(keptDistances, keptSame, target: targetFMR)
            points.append(point)
            rates.append(point.flatMap { Self.falseNonMatchRate(keptDistances, keptSame, at: $0) })
        }
        falseNonMatchRates = rates
        operatingPoints = points
    }

    /// The distance at which the share of impostors not farther is nearest to the target; among equally near ones the
    /// largest. Nil without impostors.
    private static func operatingPoint(_ distances: [Double], _ same: [Bool], target: Double) -> Double? {
        let impostors = zip(distances, same).filter { !$0.1 }.map(\.0).sorted()
        guard !impostors.isEmpty else { return nil }
        var (best, bestGap) = (Double?.none, Double.infinity)
        for candidate in distances.sorted(by: >) {
            let matches = Statistics.countBelow(candidate.nextUp, in: impostors)
            let gap = abs(Double(matches) / Double(impostors.count) - target)
            if gap < bestGap { (best, bestGap) = (candidate, gap) }
        }
        return best
    }

    /// The pair at the threshold itself counts as not matched. Nil without genuine pairs.
    private static func falseNonMatchRate(_ distances: [Double], _ same: [Bool], at threshold: Double) -> Double? {
        let genuine = zip(distances, same).filter { $0.1 }
        guard !genuine.isEmpty else { return nil }
        return Double(genuine.count { $0.0 >= threshold }) / Double(genuine.count)
    }

    /// The angle between unit embeddings as a fraction of half a turn: arccos(cos) / π.
    package static func angularDistance(cosine: Double) -> Double { acos(min(1, max(-1, cosine))) / Double.pi }

    /// The quality of each pair: the lesser of its two images'.
    package static func pairQualities(_ qualities: [Double], pairs: [VerificationPair]) -> [Double] {
        pairs.map { min(qualities[$0.first], qualities[$0.second]) }
    }
}
