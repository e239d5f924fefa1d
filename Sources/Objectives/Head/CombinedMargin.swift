#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// The multiplicative, additive angular and additive cosine margins together: φ = cos(m1·θ + m2) − m3 (Deng et al.,
/// "ArcFace", CVPR 2019, eq. 4). (1, m, 0) is ArcFace without a fallback, (1, 0, m) is CosFace.
package struct CombinedMargin: MarginFunction {
    package var multiplier: Double
    package var angle: Double
    package var offset: Double
    package var scale: Double
    package var gradient: MarginGradient

    /// - Parameters:
    ///   - multiplier: m1 > 0, without unit.
    ///   - angle: m2 in radians.
    ///   - offset: m3, in cosine.
    ///   - scale: s > 0.
    package init(
        multiplier: Double = 1, angle: Double = 0.3, offset: Double = 0.2, scale: Double = 64,
        gradient: MarginGradient = .exact
    ) {
        self.multiplier = multiplier
        self.angle = angle
        self.offset = offset
        self.scale = scale
        self.gradient = gradient
    }

    package func scale(_ row: MarginRow) -> LogitScale { LogitScale(scale) }

    package func target(_ row: MarginRow) -> MarginTarget {
        let cosine = row.guardedCosine
        let moved = multiplier * acos(cosine) + angle
        let slope = multiplier * sin(moved) / ((1 - cosine) * (1 + cosine)).squareRoot()
        return MarginTarget(value: cos(moved) - offset, slope: gradient == .exact ? slope : 1)
    }
}
