/// The multiplicative angular margin on scaled cosines, φ = ψ(θ), whose difference to cos θ carries no gradient (Liu et
/// al., "SphereFace Revived", TPAMI 2022; characteristic gradient detachment).
package struct SphereFaceR: MarginFunction {
    package var margin: Double
    package var scale: Double
    /// Whether centres are brought back to unit length before each step, as in the authors' code.
    package var normalisesCentres: Bool

    /// - Parameters:
    ///   - margin: m ≥ 1.
    ///   - scale: s > 0.
    package init(margin: Double = 1.5, scale: Double = 30, normalisesCentres: Bool = true) {
        self.margin = margin
        self.scale = scale
        self.normalisesCentres = normalisesCentres
    }

    package func scale(_ row: MarginRow) -> LogitScale { LogitScale(scale) }

    package func target(_ row: MarginRow) -> MarginTarget {
        MarginTarget(value: MultiplicativeMargin.value(margin, cosine: row.cosine).value, slope: 1)
    }
}
