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
    package static func of(_ margin: Double, _ row: MarginRow, fallback: Fallback) -> AngularMargin {
        switch fallback {
        case .hard where row.cosine <= cos(.pi - margin):
            return AngularMargin(
                value: row.cosine - margin * sin(margin), slope: 1, marginSlope: -sin(margin) - margin * cos(margin))
        case .easy where row.cosine <= 0:
            return AngularMargin(value: row.cosine, slope: 1, marginSlope: 0)
        case .clipped: return clipped(margin, row)
        case .plain, .hard, .easy: return sum(row.guardedCosine, margin)
        }
    }

    private static func clipped(_ margin: Double, _ row: MarginRow) -> AngularMargin {
        let limit = 1 - clip
        let angle = acos(min(max(row.cosine, -limit), limit)) + margin
        let isInside = angle >= clip && angle <= .pi - clip
        if isInside && abs(row.cosine) <= limit { return sum(row.cosine, margin) }
        return AngularMargin(
            value: cos(min(max(angle, clip), .pi - clip)), slope: 0, marginSlope: isInside ? -sin(angle) : 0)
    }

    /// cos(θ + m) by the addition theorem, and sin(θ + m)/sin θ.
    private static func sum(_ cosine: Double, _ margin: Double) -> AngularMargin {
        let sine = ((1 - cosine) * (1 + cosine)).squareRoot()
        return AngularMargin(
            value: cosine * cos(margin) - sine * sin(margin), slope: cos(margin) + sin(margin) * cosine / sine,
            marginSlope: -(sine * cos(margin) + cosine * sin(margin)))
    }
}
