#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// cos(θ + m) and its derivatives with respect to cos θ and m, shared by the heads with an additive angle.
package struct AngularMargin: Sendable {
    /// What happens where θ + m exceeds π and cos(θ + m) would rise again. Published code does each of these.
    package enum Fallback: String, Sendable, CaseIterable {
        /// cos θ − m·sin m there: monotone in θ, with a step down at θ = π − m.
        case hard
        /// cos(θ + m) everywhere.
        case plain
        /// The margin applies only where cos θ > 0.
        case easy
        /// θ + m is clipped to [1e-4, π − 1e-4] and all cosines to ±(1 − 1e-4), without gradient where clipped.
        case clipped
    }

    package var value: Double
    /// ∂value/∂cos θ
    package var slope: Double
    /// ∂value/∂m
    package var marginSlope: Double

    static let clip = 1e-4

    /// - Parameters:
    ///   - margin: m in radians.
    ///   - row: the row, whose cosine is θ's.
    package init(_ margin: Double, _ row: MarginRow, fallback: Fallback) {
        switch fallback {
        case .hard where row.cosine <= cos(.pi - margin):
            value = row.cosine - margin * sin(margin)
            slope = 1
            marginSlope = -sin(margin) - margin * cos(margin)
        case .easy where row.cosine <= 0:
            (value, slope, marginSlope) = (row.cosine, 1, 0)
        case .clipped:
            let limit = 1 - Self.clip
            let angle = acos(min(max(row.cosine, -limit), limit)) + margin
            let isInside = angle >= Self.clip && angle <= .pi - Self.clip
            self.init(sum: row.guardedCosine, margin)
            if !isInside || abs(row.cosine) > limit {
                value = cos(min(max(angle, Self.clip), .pi - Self.clip))
                slope = 0
                marginSlope = isInside ? -sin(angle) : 0
            }
        case .plain, .hard, .easy:
            self.init(sum: row.guardedCosine, margin)
        }
    }

    /// cos(θ + m) by the addition theorem, and sin(θ + m)/sin θ.
    private init(sum cosine: Double, _ margin: Double) {
        let sine = ((1 - cosine) * (1 + cosine)).squareRoot()
        value = cosine * cos(margin) - sine * sin(margin)
        slope = cos(margin) + sin(margin) * cosine / sine
        marginSlope = -(sine * cos(margin) + cosine * sin(margin))
    }
}
