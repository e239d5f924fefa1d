#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// The margin that adapts to image quality, read from the embedding's length: φ = cos(θ + g_angle) − g_add with
/// g_angle = −m·z, g_add = m + m·z and z = clip(h·(n − μ)/(σ + 1e-3), −1, 1) (Kim et al., "AdaFace", CVPR 2022).
///
/// n = clip(‖x‖, 0.001, 100) carries no gradient. μ and σ are moving averages of the lengths' mean and unbiased
/// standard deviation over the global batch, updated before use; the authors' code takes them over each rank's own batch, so
/// that their result depends on the number of ranks. θ + g_angle stays in [1e-3, π − 1e-3] and every cosine within
/// ±(1 − 1e-3), without gradient where clipped.
package struct AdaFace: MarginFunction {
    package var margin: Double
    package var concentration: Double
    package var scale: Double
    /// α, the share of the current batch in the moving averages.
    package var averaging: Double
    package private(set) var mean: Double
    package private(set) var deviation: Double
    private static let clip = 1e-3

    /// - Parameters:
    ///   - margin: m.
    ///   - concentration: h.
    ///   - mean: μ before the first step; 20 in the authors' code, 0 in QGFace's.
    ///   - deviation: σ before the first step; 100 and 0 likewise.
    package init(
        margin: Double = 0.4, concentration: Double = 0.333, scale: Double = 64, averaging: Double = 0.01,
        mean: Double = 20, deviation: Double = 100
    ) {
        self.margin = margin
        self.concentration = concentration
        self.scale = scale
        self.averaging = averaging
        self.mean = mean
        self.deviation = deviation
    }

    package var modifiesNegatives: Bool { true }
    package var statistics: [String: Double] {
        get { ["norm_mean": mean, "norm_deviation": deviation] }
        set {
            guard let mean = newValue["norm_mean"], let deviation = newValue["norm_deviation"] else {
                preconditionFailure("AdaFace keeps norm_mean and norm_deviation, got \(newValue.keys.sorted())")
            }
            self.mean = mean
            self.deviation = deviation
        }
    }

    private static func clipped(_ norm: Double) -> Double { min(max(norm, 0.001), 100) }

    package mutating func prepare(_ batch: MarginBatch) {
        let count = Double(batch.norms.count)
        let average = batch.norms.reduce(0) { $0 + Self.clipped($1) } / count
        mean = averaging * average + (1 - averaging) * mean
        // One row has no spread to learn from.
        guard batch.norms.count > 1 else { return }
        let squares = batch.norms.reduce(0) { sum, norm in
            let difference = Self.clipped(norm) - average
            return sum + difference * difference
        }
        deviation = averaging * (squares / (count - 1)).squareRoot() + (1 - averaging) * deviation
    }

    /// z in [−1, 1]: how long an embedding is among the recent ones.
    package func quality(norm: Double) -> Double {
        min(max(concentration * (Self.clipped(norm) - mean) / (deviation + 1e-3), -1), 1)
    }

    /// ‖x‖ of the batch beside μ and σ, which should follow it.
    package func metrics(_ outcome: MarginOutcome) -> Metrics {
        var metrics = Metrics()
        metrics.add("norm", outcome.meanNorm)
        metrics.add("norm_mean", mean)
        metrics.add("norm_deviation", deviation)
        return metrics
    }

    package func scale(_ row: MarginRow) -> LogitScale { LogitScale(scale) }
    package func negatives(_ row: MarginRow) -> NegativeRule? { NegativeRule(limit: 1 - Self.clip) }

    package func target(_ row: MarginRow) -> MarginTarget {
        let z = quality(norm: row.norm)
        let limit = 1 - Self.clip
        let cosine = min(max(row.cosine, -limit), limit)
        let angle = acos(cosine) - margin * z
        let isInside = angle >= Self.clip && angle <= .pi - Self.clip && abs(row.cosine) <= limit
        return MarginTarget(
            value: cos(min(max(angle, Self.clip), .pi - Self.clip)) - margin * (1 + z),
            slope: isInside ? sin(angle) / ((1 - cosine) * (1 + cosine)).squareRoot() : 0)
    }
}
