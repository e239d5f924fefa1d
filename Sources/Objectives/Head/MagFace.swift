/// The angular margin that grows with the embedding's length: φ = cos(θ + m(a)), a = ‖x‖ clamped to [l, u],
/// m(a) = lm + (um − lm)·(a − l)/(u − l), and the penalty λg·(a/u² + 1/a) (Meng et al., "MagFace", CVPR 2021).
///
/// The gradient runs through the length in both the margin and the penalty, and vanishes where a is clamped. The
/// penalty outweighs the margin's pull if λg ≥ s·K·u²l²/(u² − l²), K = (um − lm)/(u − l).
package struct MagFace: MarginFunction {
    package var scale: Double
    /// l, u: the lengths between which the margin changes.
    package var lengths: ClosedRange<Double>
    /// lm, um in radians: the margins at the ends.
    package var margins: ClosedRange<Double>
    package var penaltyWeight: Double
    package var fallback: AngularMargin.Fallback

    /// - Parameter fallback: the authors' code defaults to `easy`; their paper describes `plain`. Not `clipped`.
    package init(
        scale: Double = 64, lengths: ClosedRange<Double> = 10...110, margins: ClosedRange<Double> = 0.45...0.8,
        penaltyWeight: Double = 35, fallback: AngularMargin.Fallback = .easy
    ) {
        precondition(fallback != .clipped, "MagFace has no clipped form")
        precondition(lengths.lowerBound > 0 && lengths.lowerBound < lengths.upperBound, "lengths \(lengths)")
        self.scale = scale
        self.lengths = lengths
        self.margins = margins
        self.penaltyWeight = penaltyWeight
        self.fallback = fallback
    }

    /// The smallest λg whose penalty outweighs the margin's pull.
    package var penaltyBound: Double {
        let l = lengths.lowerBound * lengths.lowerBound
        let u = lengths.upperBound * lengths.upperBound
        return scale * rate * u * l / (u - l)
    }

    private var rate: Double {
        (margins.upperBound - margins.lowerBound) / (lengths.upperBound - lengths.lowerBound)
    }

    private func clamped(_ norm: Double) -> (length: Double, isInside: Bool) {
        (min(max(norm, lengths.lowerBound), lengths.upperBound), norm > lengths.lowerBound && norm < lengths.upperBound)
    }

    /// m(a) in radians for an embedding of length `norm`.
    package func margin(norm: Double) -> Double {
        margins.lowerBound + rate * (clamped(norm).length - lengths.lowerBound)
    }

    package func scale(_ row: MarginRow) -> LogitScale { LogitScale(scale) }

    package func target(_ row: MarginRow) -> MarginTarget {
        let moved = AngularMargin.of(margin(norm: row.norm), row, fallback: fallback)
        return MarginTarget(
            value: moved.value, slope: moved.slope,
            normSlope: clamped(row.norm).isInside ? moved.marginSlope * rate : 0)
    }

    /// ‖x‖ and m(‖x‖), means over the batch.
    package func metrics(_ outcome: MarginOutcome) -> Metrics {
        let margins = outcome.norms.reduce(0) { $0 + margin(norm: $1) }
        var metrics = Metrics()
        metrics.add("norm", outcome.meanNorm)
        metrics.add("margin", margins / Double(outcome.norms.count))
        return metrics
    }

    package func penalty(_ row: MarginRow) -> NormPenalty {
        let (length, isInside) = clamped(row.norm)
        let upper = lengths.upperBound * lengths.upperBound
        return NormPenalty(
            value: penaltyWeight * (length / upper + 1 / length),
            slope: isInside ? penaltyWeight * (1 / upper - 1 / (length * length)) : 0)
    }
}
