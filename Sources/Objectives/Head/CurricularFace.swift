#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// The angular margin with negatives that weigh more as training goes on: where another class's cosine c exceeds
/// cos(θ_y + m) it becomes c·(t + c); the target is ArcFace's with the hard fallback (Huang et al., "CurricularFace",
/// CVPR 2020).
///
/// t is a moving average of the mean target cosine over the global batch, updated before use, without gradient.
package struct CurricularFace: MarginFunction {
    package var margin: Double
    package var scale: Double
    /// The share of the current batch in the moving average.
    package var averaging: Double
    package private(set) var weight: Double

    /// - Parameters:
    ///   - margin: m in radians.
    ///   - weight: t before the first step.
    package init(margin: Double = 0.5, scale: Double = 64, averaging: Double = 0.01, weight: Double = 0) {
        self.margin = margin
        self.scale = scale
        self.averaging = averaging
        self.weight = weight
    }

    package var needsTargetCosines: Bool { true }
    package var modifiesNegatives: Bool { true }
    package var statistics: [String: Double] {
        get { ["target_cosine": weight] }
        set {
            guard let weight = newValue["target_cosine"] else {
                preconditionFailure("CurricularFace keeps target_cosine, got \(newValue.keys.sorted())")
            }
            self.weight = weight
        }
    }

    package mutating func prepare(_ batch: MarginBatch) {
        let mean = batch.targetCosines.reduce(0, +) / Double(batch.targetCosines.count)
        weight = averaging * mean + (1 - averaging) * weight
    }

    package func scale(_ row: MarginRow) -> LogitScale { LogitScale(scale) }

    package func negatives(_ row: MarginRow) -> NegativeRule? {
        NegativeRule(threshold: threshold(row.cosine), linear: weight, quadratic: 1)
    }

    /// cos(θ_y + m)
    private func threshold(_ cosine: Double) -> Double {
        let sine = ((1 - cosine) * (1 + cosine)).squareRoot()
        return cosine * cos(margin) - sine * sin(margin)
    }

    /// t, and the share of rows with a negative that it made harder.
    package func metrics(_ outcome: MarginOutcome) -> Metrics {
        let hard = zip(outcome.targetCosines, outcome.nearestNegatives).count { own, nearest in
            nearest > threshold(own)
        }
        var metrics = Metrics()
        metrics.add("t", weight)
        metrics.add("hard_rows", Double(hard) / Double(outcome.targetCosines.count))
        return metrics
    }

    package func target(_ row: MarginRow) -> MarginTarget {
        let moved = AngularMargin.of(margin, row, fallback: .hard)
        return MarginTarget(value: moved.value, slope: moved.slope)
    }
}
