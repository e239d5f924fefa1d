/// The additive angular margin: φ = cos(θ + m) (Deng et al., "ArcFace", CVPR 2019, eq. 3).
package struct ArcFace: MarginFunction {
    package typealias Fallback = AngularMargin.Fallback

    package var margin: Double
    package var scale: Double
    package var fallback: Fallback
    package var gradient: MarginGradient

    /// - Parameters:
    ///   - margin: m in radians, 0 ≤ m ≤ π/2.
    ///   - scale: s > 0.
    package init(
        margin: Double = 0.5, scale: Double = 64, fallback: Fallback = .hard,
        gradient: MarginGradient = .exact
    ) {
        self.margin = margin
        self.scale = scale
        self.fallback = fallback
        self.gradient = gradient
    }

    package var modifiesNegatives: Bool { fallback == .clipped }

    package func scale(_ row: MarginRow) -> LogitScale { LogitScale(scale) }

    package func negatives(_ row: MarginRow) -> NegativeRule? {
        fallback == .clipped ? NegativeRule(limit: 1 - AngularMargin.clip) : nil
    }

    package func target(_ row: MarginRow) -> MarginTarget {
        let moved = AngularMargin.of(margin, row, fallback: fallback)
        return MarginTarget(value: moved.value, slope: gradient == .exact ? moved.slope : 1)
    }
}
