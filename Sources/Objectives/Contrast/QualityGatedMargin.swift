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
    /// b, and what it is at present, while it grows.
    package let threshold: Double
    package private(set) var presentThreshold: Double
    /// Updates in which b grows from 0.
    private let warmup: Int
    /// Of the rows, where only second views are classified.
    private let order: PairRows?
    private static let steepness = 64.0

    /// - Parameters:
    ///   - warmup: updates in which b grows linearly from 0; the authors' code lets it grow by epochs.
    ///   - onlySecondViews: B, records of a rank, where rows of first views shall not count.
    package init(_ base: AdaFace, threshold: Double, warmup: Int = 0, onlySecondViews: Int? = nil) {
        precondition((0...1).contains(threshold) && warmup >= 0, "a threshold of \(threshold) in \(warmup) updates")
        self.base = base
        self.threshold = threshold
        self.warmup = warmup
        order = onlySecondViews.map { PairRows(batch: $0) }
        presentThreshold = warmup > 0 ? 0 : threshold
    }

    package var modifiesNegatives: Bool { base.modifiesNegatives }
    package var statistics: [String: Double] {
        get { base.statistics }
        set { base.statistics = newValue }
    }

    package mutating func prepare(_ batch: MarginBatch) {
        base.prepare(batch)
        if warmup > 0 { presentThreshold = threshold * min(1, Double(batch.step) / Double(warmup)) }
    }

    package func weight(_ row: MarginRow) -> Double {
        guard let order else { return 1 }
        return order.isSecond(row.index) ? 2 : 0
    }

    package func target(_ row: MarginRow) -> MarginTarget { base.target(row) }
    package func negatives(_ row: MarginRow) -> NegativeRule? { base.negatives(row) }

    /// ν in [0, 1].
    package func quality(norm: Double) -> Double { (base.quality(norm: norm) + 1) / 2 }

    /// The gate of a quality z in [−1, 1].
    package static func gate(_ z: Double, threshold: Double) -> Double {
        threshold > 0 ? 1 / (1 + exp(-steepness * (z - (2 * threshold - 1)))) : 1
    }

    package func scale(_ row: MarginRow) -> LogitScale {
        LogitScale(base.scale * Self.gate(base.quality(norm: row.norm), threshold: presentThreshold))
    }

    package func metrics(_ outcome: MarginOutcome) -> Metrics {
        var metrics = base.metrics(outcome)
        let low = outcome.norms.reduce(0.0) { $0 + (quality(norm: $1) < presentThreshold ? 1 : 0) }
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

    /// - Parameter present: b while it still grows towards `threshold`.
    package func value(_ quality: Double, present: Double? = nil) -> Double {
        if threshold <= 0 { return 1 }
        let end = present ?? threshold
        if quality < end { return ramp(quality, end: end) }
        return range == .whole ? ramp(1 - quality, end: 1 - end) : 0
    }

    private func ramp(_ x: Double, end: Double) -> Double {
        switch shape {
        case .step: 1
        case .cosine: (1 - cos(.pi * x / (end + 1e-3))) / 2
        case .linear: x / (end + 1e-3)
        }
    }
}
