/// How much of the angular margin each row of the global batch gets, in [0, 1], and what its loss weighs: set before each
/// step by whoever knows.
package final class RowMargins: @unchecked Sendable {
    /// By row of the global batch in gathered order.
    package var shares: [Double]
    package var weights: [Double]

    package init(rows: Int) {
        shares = .init(repeating: 1, count: rows)
        weights = .init(repeating: 1, count: rows)
    }
}

/// The angular margin that follows how recognisable a sample is: φ = cos(θ + m₀·a_i), a_i in [0, 1] (CCFace's adaptive angular
/// penalty, as reconstructed in `docs/methods.md`). a_i = 1 is ArcFace, m₀ = 0 NormFace.
package struct AdaptiveAngularMargin: MarginFunction {
    /// m₀.
    package var margin: Double
    package var scale: Double
    package let rows: RowMargins
    /// Whether a_i is the student's own cosine to its class, of this very step.
    package let followsStudent: Bool
    /// Rows that `followsStudent` concerns; the others keep what `rows` says.
    private let followers: @Sendable (Int) -> Bool

    package init(
        margin: Double = 0.5, scale: Double = 64, rows: RowMargins, followsStudent: Bool = false,
        followers: @escaping @Sendable (Int) -> Bool = { _ in true }
    ) {
        self.margin = margin
        self.scale = scale
        self.rows = rows
        self.followsStudent = followsStudent
        self.followers = followers
    }

    package var needsTargetCosines: Bool { followsStudent }

    package mutating func prepare(_ batch: MarginBatch) {
        guard followsStudent else { return }
        for row in batch.targetCosines.indices where followers(row) {
            rows.shares[row] = min(1, max(0, batch.targetCosines[row]))
        }
    }

    package func scale(_ row: MarginRow) -> LogitScale { LogitScale(scale) }
    package func weight(_ row: MarginRow) -> Double { rows.weights[row.index] }

    package func target(_ row: MarginRow) -> MarginTarget {
        let moved = AngularMargin.of(margin * rows.shares[row.index], row, fallback: .hard)
        return MarginTarget(value: moved.value, slope: moved.slope)
    }

    /// Mean a_i.
    package func metrics(_ outcome: MarginOutcome) -> Metrics {
        var metrics = Metrics()
        metrics.add("margin_share", rows.shares.reduce(0, +) / Double(rows.shares.count))
        return metrics
    }
}
