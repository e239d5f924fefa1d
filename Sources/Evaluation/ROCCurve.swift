/// A receiver operating characteristic: what a threshold accepts of each kind.
package struct ROCCurve: Sendable, Equatable, Codable {
    package struct Point: Sendable, Equatable, Codable {
        /// Accepted is what scores at least this; nil at (0, 0), where nothing is.
        package let threshold: Double?
        package let falsePositiveRate: Double
        package let truePositiveRate: Double
    }

    /// By descending threshold, from (0, 0) to (1, 1).
    package let points: [Point]

    /// The points at all distinct scores, as scikit-learn's `roc_curve` gives them.
    ///
    /// - Parameters:
    ///   - scores: larger for more alike.
    ///   - dropCollinear: leave out a point where the second differences of the cumulative counts of both kinds
    ///     vanish; ends stay. What `truePositiveRate(atFalsePositiveRate:)` picks depends on it.
    /// - Throws: `EvaluationError.nonFiniteScore`, `.oneKindOnly`.
    package init(scores: [Double], positive: [Bool], dropCollinear: Bool = true) throws(EvaluationError) {
        precondition(scores.count == positive.count, "\(scores.count) scores for \(positive.count) labels")
        if let pair = scores.firstIndex(where: { !$0.isFinite }) { throw .nonFiniteScore(pair: pair) }
        let positives = positive.count { $0 }
        let negatives = positive.count - positives
        guard positives > 0, negatives > 0 else { throw .oneKindOnly(genuine: positives, impostor: negatives) }

        let order = scores.indices.sorted { scores[$0] > scores[$1] }
        var (thresholds, truePositives, falsePositives): ([Double], [Int], [Int]) = ([], [], [])
        var (accepted, wrong) = (0, 0)
        for (position, item) in order.enumerated() {
            if positive[item] { accepted += 1 } else { wrong += 1 }
            guard position + 1 == order.count || scores[order[position + 1]] < scores[item] else { continue }
            thresholds.append(scores[item])
            truePositives.append(accepted)
            falsePositives.append(wrong)
        }
        func bends(_ counts: [Int], _ i: Int) -> Bool { counts[i + 1] - 2 * counts[i] + counts[i - 1] != 0 }
        var points = [Point(threshold: nil, falsePositiveRate: 0, truePositiveRate: 0)]
        for i in thresholds.indices {
            let end = i == 0 || i + 1 == thresholds.count
            guard end || !dropCollinear || bends(truePositives, i) || bends(falsePositives, i) else { continue }
            points.append(
                Point(
                    threshold: thresholds[i], falsePositiveRate: Double(falsePositives[i]) / Double(negatives),
                    truePositiveRate: Double(truePositives[i]) / Double(positives)))
        }
        self.points = points
    }

    /// - Throws: as `init(scores:positive:dropCollinear:)`.
    package init(_ pairs: PairScores, dropCollinear: Bool = true) throws(EvaluationError) {
        try self.init(scores: pairs.distances.map { -$0 }, positive: pairs.same, dropCollinear: dropCollinear)
    }

    /// The area under the curve: the probability that a genuine pair scores above an impostor pair, ties half.
    package var area: Double {
        Statistics.trapezoid(points.map(\.falsePositiveRate), points.map(\.truePositiveRate))
    }

    /// Where the false accept rate equals the false reject rate, on the straight lines between the points.
    package var equalErrorRate: Double {
        // FPR - (1 - TPR) rises from -1 at (0, 0) to 1 at (1, 1).
        func excess(_ point: Point) -> Double { point.falsePositiveRate + point.truePositiveRate - 1 }
        var before = points[0]
        for point in points.dropFirst() {
            let (low, high) = (excess(before), excess(point))
            if high >= 0 {
                let fraction = high > low ? -low / (high - low) : 1
                return before.falsePositiveRate + fraction * (point.falsePositiveRate - before.falsePositiveRate)
            }
            before = point
        }
        return 1
    }

    /// The IJB convention of insightface: the rate at the point whose false positive rate is nearest to `target`,
    /// with no interpolation; among equally near points the one with the largest false positive rate, then the largest
    /// true positive rate.
    ///
    /// This reads the curve with collinear points dropped and may pick a point above the target: it is a convention to
    /// compare with published IJB figures, not a guarantee about the false accept rate.
    package func truePositiveRate(atFalsePositiveRate target: Double) -> Double {
        var best = points[points.count - 1]
        for point in points.reversed()
        where abs(point.falsePositiveRate - target) < abs(best.falsePositiveRate - target) {
            best = point
        }
        return best.truePositiveRate
    }
}
