/// Scaled cosines without a margin: z = s·cos θ (Wang et al., "NormFace", ACM MM 2017).
package struct NormFace: MarginFunction {
    package var scale: Double

    /// - Parameter scale: s > 0, usually 16 to 64.
    package init(scale: Double = 64) {
        self.scale = scale
    }

    package func scale(_ row: MarginRow) -> LogitScale { LogitScale(scale) }
    package func target(_ row: MarginRow) -> MarginTarget { MarginTarget(value: row.cosine, slope: 1) }
}
