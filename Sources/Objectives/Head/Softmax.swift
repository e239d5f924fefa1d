/// Softmax regression on raw embeddings, z = x·w + b: no normalisation, no scale, no margin. The baseline that NormFace
/// and all that followed are measured against.
package struct Softmax: MarginFunction {
    /// Whether each class has a trained b.
    package var bias: Bool

    package init(bias: Bool = false) {
        self.bias = bias
    }

    package var normalisation: Normalisation { .none(bias: bias) }
    package func scale(_ row: MarginRow) -> LogitScale { LogitScale(1) }
    package func target(_ row: MarginRow) -> MarginTarget { MarginTarget(value: row.cosine, slope: 1) }

    package func metrics(_ outcome: MarginOutcome) -> Metrics {
        var metrics = Metrics()
        metrics.add("norm", outcome.meanNorm)
        return metrics
    }
}
