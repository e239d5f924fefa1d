#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// ψ(θ) = (−1)^k cos(mθ) − 2k with k = ⌊mθ/π⌋: cos(mθ), continued so that it falls on all of [0, π].
enum MultiplicativeMargin {
    /// ψ and dψ/dcos θ, k being constant.
    static func value(_ margin: Double, cosine: Double) -> (value: Double, slope: Double) {
        let angle = margin * acos(cosine)
        let k = (angle / .pi).rounded(.down)
        let sign: Double = k.truncatingRemainder(dividingBy: 2) == 0 ? 1 : -1
        let sine = ((1 - cosine) * (1 + cosine)).squareRoot()
        return (sign * cos(angle) - 2 * k, sign * margin * sin(angle) / sine)
    }
}

/// The multiplicative angular margin with logits of the embedding's own length: z_c = ‖x‖·cos θ_c and
/// φ = (λ·cos θ + ψ(θ))/(1 + λ) for the target (Liu et al., "SphereFace", CVPR 2017).
///
/// λ falls from `start` to `floor` as max(floor, start/(1 + rate·iteration)).
package struct SphereFace: MarginFunction {
    package var margin: Double
    package var start: Double
    package var floor: Double
    package var rate: Double
    private var lambda: Double

    /// - Parameters:
    ///   - margin: m ≥ 1.
    ///   - start, floor, rate: λ's; ports use (1500, 5, 0.1) or (1000, 5, 0.12).
    package init(margin: Double = 4, start: Double = 1500, floor: Double = 5, rate: Double = 0.1) {
        self.margin = margin
        self.start = start
        self.floor = floor
        self.rate = rate
        lambda = start
    }

    package mutating func prepare(_ batch: MarginBatch) {
        // The first update is iteration 1.
        lambda = max(floor, start / (1 + rate * Double(batch.step + 1)))
    }

    package func metrics(_ outcome: MarginOutcome) -> Metrics {
        var metrics = Metrics()
        metrics.add("norm", outcome.meanNorm)
        metrics.add("lambda", lambda)
        return metrics
    }

    package func scale(_ row: MarginRow) -> LogitScale { LogitScale(row.norm, normSlope: 1) }

    package func target(_ row: MarginRow) -> MarginTarget {
        let psi = MultiplicativeMargin.value(margin, cosine: row.guardedCosine)
        return MarginTarget(
            value: (lambda * row.guardedCosine + psi.value) / (1 + lambda), slope: (lambda + psi.slope) / (1 + lambda))
    }
}
