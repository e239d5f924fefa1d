/// The additive cosine margin: φ = cos θ − m (Wang et al., "CosFace", CVPR 2018, eq. 4).
package struct CosFace: MarginFunction {
    package var margin: Double
    package var scale: Double

    /// - Parameters:
    ///   - margin: m; 0.35 in the paper, 0.4 in arcface_torch's large-scale recipes.
    ///   - scale: s > 0.
    package init(margin: Double = 0.35, scale: Double = 64) {
        self.margin = margin
        self.scale = scale
    }

    package func scale(_ row: MarginRow) -> LogitScale { LogitScale(scale) }
    package func target(_ row: MarginRow) -> MarginTarget { MarginTarget(value: row.cosine - margin, slope: 1) }
}
