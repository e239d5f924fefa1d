/// Pairs of both kinds, nearest first, with what one order of discarding leaves of them: what error-versus-discard
/// curves are computed from, for listed pairs and for all pairs of a set alike.
struct DiscardSample {
    /// Ascending.
    let genuine: [Double]
    /// Ascending: all impostor pairs, or the nearest of them, or a stretch around an operating point.
    let impostor: [Double]
    /// Of each pair the number of rates, counted from the first, at which it is still there; at least 1.
    var genuineRetained: [UInt8]
    var impostorRetained: [UInt8]
    /// How often each pair counts (0 for not at all); once where nil.
    var genuineWeights: [UInt32]?
    var impostorWeights: [UInt32]?
    /// By rate: impostor pairs still there, those that are not listed included.
    var impostorTotals: [Int]
    /// By rate: impostor pairs still there that are nearer than the first listed.
    var impostorsNearer: [Int]
    /// No impostor pair is farther than those listed.
    var listsFarthest: Bool

    /// An operating point: what is accepted is strictly nearer than `distance`.
    struct OperatingPoint: Equatable {
        let distance: Double
        /// The share of impostor pairs not farther than it.
        let falseMatchRate: Double
    }

    private func isThere(_ retained: [UInt8], _ weights: [UInt32]?, _ pair: Int, at rate: Int) -> Bool {
        Int(retained[pair]) > rate && (weights.map { $0[pair] > 0 } ?? true)
    }

    /// The distance at which the share of impostor pairs not farther is nearest to the target; among equally near ones
    /// the largest of any pair's (CR-FIQA's rule). Nil without impostor pairs, or where the listed ones do not decide it.
    func operatingPoint(target: Double, rate: Int) -> OperatingPoint? {
        let total = Double(impostorTotals[rate])
        guard total > 0 else { return nil }
        var accepted = impostorsNearer[rate]
        var gap = abs(Double(accepted) / total - target)
        // The best so far: nothing beyond the impostors before the list; `bound` is the next impostor's distance.
        var (bestGap, best, bestAccepted, bound) = (Double.infinity, Double?.none, accepted, Double?.none)
        var position = nextImpostor(from: 0, rate)
        if let first = position, let point = farthestGenuine(before: impostor[first], beyond: nil, rate) {
            (bestGap, best, bound) = (gap, point, impostor[first])
        }
        while let start = position {
            let distance = impostor[start]
            var next: Int? = start
            while let pair = next, impostor[pair] == distance {
                accepted += impostorWeights.map { Int($0[pair]) } ?? 1
                next = nextImpostor(from: pair + 1, rate)
            }
            gap = abs(Double(accepted) / total - target)
            if gap <= bestGap {
                (bestGap, best, bestAccepted, bound) = (gap, distance, accepted, next.map { impostor[$0] })
            } else if Double(accepted) > target * total {
                break
            }
            position = next
        }
        guard let best, bound != nil || listsFarthest else { return nil }
        // Up to the next impostor all distances have the same share: the farthest genuine pair among them is taken.
        let point = farthestGenuine(before: bound ?? .infinity, beyond: best, rate) ?? best
        return OperatingPoint(distance: point, falseMatchRate: Double(bestAccepted) / total)
    }

    private func nextImpostor(from start: Int, _ rate: Int) -> Int? {
        var pair = start
        while pair < impostor.count {
            if isThere(impostorRetained, impostorWeights, pair, at: rate) { return pair }
            pair += 1
        }
        return nil
    }

    private func farthestGenuine(before bound: Double, beyond least: Double?, _ rate: Int) -> Double? {
        var pair = Statistics.countBelow(bound, in: genuine) - 1
        while pair >= 0, least.map({ genuine[pair] > $0 }) ?? true {
            if isThere(genuineRetained, genuineWeights, pair, at: rate) { return genuine[pair] }
            pair -= 1
        }
        return nil
    }

    /// By rate: the genuine pairs still there.
    func genuineTotals(rates: Int) -> [Int] { totals(from: 0, genuineRetained, genuineWeights, rates: rates) }

    /// By rate: the listed impostor pairs still there.
    func listedImpostors(rates: Int) -> [Int] { totals(from: 0, impostorRetained, impostorWeights, rates: rates) }

    /// By rate: pairs still there among those from `start` on.
    private func totals(from start: Int, _ retained: [UInt8], _ weights: [UInt32]?, rates: Int) -> [Int] {
        var counts = [Int](repeating: 0, count: rates + 1)
        if let weights {
            for pair in start..<retained.count { counts[Int(retained[pair])] += Int(weights[pair]) }
        } else {
            for pair in start..<retained.count { counts[Int(retained[pair])] += 1 }
        }
        var total = 0
        var totals = [Int](repeating: 0, count: rates)
        for rate in stride(from: rates - 1, through: 0, by: -1) {
            total += counts[rate + 1]
            totals[rate] = total
        }
        return totals
    }

    /// False non-match rates at given operating points; the pair at the point itself counts as not matched. Nil where
    /// there is no genuine pair or no point.
    func falseNonMatchRates(at points: [Double?]) -> [Double?] {
        let totals = genuineTotals(rates: points.count)
        var known: (point: Double, failed: [Int])?
        return points.indices.map { rate in
            guard let point = points[rate], totals[rate] > 0 else { return nil }
            if known?.point != point {
                let first = Statistics.countBelow(point, in: genuine)
                known = (point, self.totals(from: first, genuineRetained, genuineWeights, rates: points.count))
            }
            return known.map { Double($0.failed[rate]) / Double(totals[rate]) }
        }
    }

    /// Operating points by rate: all that of the first where the threshold is fixed.
    func operatingPoints(
        target: Double, threshold: ErrorVersusDiscard.Threshold, rates: Int
    ) -> [OperatingPoint?] {
        switch threshold {
        case .fixed: [OperatingPoint?](repeating: operatingPoint(target: target, rate: 0), count: rates)
        case .reselected: (0..<rates).map { operatingPoint(target: target, rate: $0) }
        }
    }
}

/// A cut of ordered things by the rates: of thing p in 0..<count, the worst first, the number of rates at which it is
/// still there, when the first cuts[k] are gone at rate k.
func retainedRates(count: Int, cuts: [Int]) -> [UInt8] {
    var retained = [UInt8](repeating: 0, count: count)
    for (rate, cut) in cuts.enumerated() {
        let end = rate + 1 < cuts.count ? min(count, cuts[rate + 1]) : count
        if cut < end { for p in cut..<end { retained[p] = UInt8(rate + 1) } }
    }
    return retained
}
