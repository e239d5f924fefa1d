#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// AdaFace's margin with a gate on the logits of each row, so that only recognisable samples train the classifier:
/// g = σ(64·(z − (2b − 1))), z AdaFace's quality, b the threshold of the normalised quality ν = (z + 1)/2 (QGFace, authors'
/// code).
///
/// All logits of a row are multiplied by its gate, which carries no gradient. A row that is gated off counts log C in the mean
/// over all rows, without gradient. b = 0 gates nothing.
package struct QualityGatedMargin: MarginFunction {
    package private(set) var base: AdaFace
    /// b.
    package let threshold: Double
    private static let steepness = 64.0

    package init(_ base: AdaFace, threshold: Double) {
        precondition((0...1).contains(threshold), "a threshold of \(threshold)")
        self.base = base
        self.threshold = threshold
    }

    package var modifiesNegatives: Bool { base.modifiesNegatives }
    package var statistics: [String: Double] {
        get { base.statistics }
        set { base.statistics = newValue }
    }

    package mutating func prepare(_ batch: MarginBatch) { base.prepare(batch) }
    package func target(_ row: MarginRow) -> MarginTarget { base.target(row) }
    package func negatives(_ row: MarginRow) -> NegativeRule? { base.negatives(row) }

    /// ν in [0, 1].
    package func quality(norm: Double) -> Double { (base.quality(norm: norm) + 1) / 2 }

    /// The gate of a quality z in [−1, 1].
    package static func gate(_ z: Double, threshold: Double) -> Double {
        threshold > 0 ? 1 / (1 + exp(-steepness * (z - (2 * threshold - 1)))) : 1
    }

    package func scale(_ row: MarginRow) -> LogitScale {
        LogitScale(base.scale * Self.gate(base.quality(norm: row.norm), threshold: threshold))
    }

    package func metrics(_ outcome: MarginOutcome) -> Metrics {
        var metrics = base.metrics(outcome)
        let low = outcome.norms.reduce(0.0) { $0 + (quality(norm: $1) < threshold ? 1 : 0) }
        metrics.add("low_quality", low / Double(outcome.norms.count))
        return metrics
    }
}

/// How much a pair of quality ν takes part in the contrast (QGFace, authors' code).
package struct ContrastGate: Sendable, Equatable {
    package enum Shape: String, Sendable, CaseIterable {
        /// 1.
        case step = "sgn"
        case cosine = "cos"
        case linear
    }
    package enum Range: String, Sendable, CaseIterable {
        /// Pairs below the threshold.
        case half
        /// Pairs above it too, on a ramp that falls to 0 at ν = 1.
        case whole
    }

    package var shape = Shape.step
    package var range = Range.half
    /// b.
    package var threshold = 0.2

    package init(shape: Shape = .step, range: Range = .half, threshold: Double = 0.2) {
        self.shape = shape
        self.range = range
        self.threshold = threshold
    }

    package func value(_ quality: Double) -> Double {
        if threshold <= 0 { return 1 }
        if quality < threshold { return ramp(quality, end: threshold) }
        return range == .whole ? ramp(1 - quality, end: 1 - threshold) : 0
    }

    private func ramp(_ x: Double, end: Double) -> Double {
        switch shape {
        case .step: 1
        case .cosine: (1 - cos(.pi * x / (end + 1e-3))) / 2
        case .linear: x / (end + 1e-3)
        }
    }
}
