#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// The additive angular margin: φ = cos(θ + m) (Deng et al., "ArcFace", CVPR 2019, eq. 3).
package struct ArcFace: MarginFunction {
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

    package var margin: Double
    package var scale: Double
    package var fallback: Fallback
    package var gradient: MarginGradient
    private static let clip = 1e-4

    /// - Parameters:
    ///   - margin: m in radians, 0 ≤ m ≤ π/2.
    ///   - scale: s > 0.
    package init(
        margin: Double = 0.5, scale: Double = 64, fallback: Fallback = .hard, gradient: MarginGradient = .exact
    ) {
        self.margin = margin
        self.scale = scale
        self.fallback = fallback
        self.gradient = gradient
    }

    package var modifiesNegatives: Bool { fallback == .clipped }

    package func scale(_ row: MarginRow) -> LogitScale { LogitScale(scale) }

    package func negatives(_ row: MarginRow) -> NegativeRule? {
        fallback == .clipped ? NegativeRule(limit: 1 - Self.clip) : nil
    }

    package func target(_ row: MarginRow) -> MarginTarget {
        var target = exactTarget(row)
        if gradient == .straightThrough { target.slope = 1 }
        return target
    }

    private func exactTarget(_ row: MarginRow) -> MarginTarget {
        switch fallback {
        case .plain: break
        case .hard where row.cosine <= cos(.pi - margin):
            return MarginTarget(value: row.cosine - margin * sin(margin), slope: 1)
        case .easy where row.cosine <= 0: return MarginTarget(value: row.cosine, slope: 1)
        case .hard, .easy: break
        case .clipped:
            let limit = 1 - Self.clip
            let angle = acos(min(max(row.cosine, -limit), limit)) + margin
            if angle < Self.clip || angle > .pi - Self.clip {
                return MarginTarget(value: cos(min(max(angle, Self.clip), .pi - Self.clip)), slope: 0)
            }
            if abs(row.cosine) > limit { return MarginTarget(value: cos(angle), slope: 0) }
        }
        return Self.added(margin, to: row.guardedCosine)
    }

    /// cos(θ + m) from cos θ by the addition theorem, and sin(θ + m)/sin θ.
    package static func added(_ margin: Double, to cosine: Double) -> MarginTarget {
        let sine = ((1 - cosine) * (1 + cosine)).squareRoot()
        return MarginTarget(
            value: cosine * cos(margin) - sine * sin(margin), slope: cos(margin) + sin(margin) * cosine / sine)
    }
}
