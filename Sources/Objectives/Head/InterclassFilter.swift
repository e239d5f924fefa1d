/// Any margin function, with every other class whose cosine exceeds a threshold set to 0: such a class is taken for the
/// same person under another name (An et al., "Killing Two Birds with One Stone", CVPR 2022; arcface_torch's
/// interclass filtering). The zero stays in the softmax and carries no gradient.
package struct InterclassFilter: MarginFunction {
    package var base: any MarginFunction
    package var threshold: Double

    /// - Parameter threshold: τ in cosine, 0.4 in arcface_torch's recipes for noisy data.
    package init(_ base: any MarginFunction, threshold: Double = 0.4) {
        precondition(threshold > 0, "filtering above \(threshold)")
        precondition(base.normalisation == .unit, "there are no cosines to filter by")
        self.base = base
        self.threshold = threshold
    }

    package var needsTargetCosines: Bool { base.needsTargetCosines }
    package var modifiesNegatives: Bool { true }
    package var normalisesCentres: Bool { base.normalisesCentres }
    package var statistics: [String: Double] {
        get { base.statistics }
        set { base.statistics = newValue }
    }

    package mutating func prepare(_ batch: MarginBatch) { base.prepare(batch) }
    package func scale(_ row: MarginRow) -> LogitScale { base.scale(row) }
    package func target(_ row: MarginRow) -> MarginTarget { base.target(row) }
    package func weight(_ row: MarginRow) -> Double { base.weight(row) }
    package func penalty(_ row: MarginRow) -> NormPenalty { base.penalty(row) }

    /// Adds the share of rows with a class that was taken out.
    package func metrics(_ outcome: MarginOutcome) -> Metrics {
        var metrics = base.metrics(outcome)
        let filtered = outcome.nearestNegatives.count { $0 > threshold }
        metrics.add("filtered_rows", Double(filtered) / Double(outcome.nearestNegatives.count))
        return metrics
    }

    package func negatives(_ row: MarginRow) -> NegativeRule? {
        var rule = base.negatives(row) ?? NegativeRule()
        rule.cutoff = min(rule.cutoff, threshold)
        return rule
    }
}
