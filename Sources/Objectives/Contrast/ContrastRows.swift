#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Rows of a contrast: each against its positive and all negatives, cross-entropy to the positive (QGFace, authors' code).
///
/// Logits are scale·γ·cosine. Negatives of the same class count with a cosine of 0; they stay in the denominator. Exponentials
/// are taken relative to a shift that every rank knows beforehand, so that one sum joins the ranks' shares: cosines lie
/// in [−1, 1], which keeps all of them representable in fp32 for scales up to 110.
package struct ContrastRow: Sendable {
    /// scale·γ.
    package var scale: Double
    /// The positive's cosine, margin included.
    package var positive: Double

    package init(scale: Double, positive: Double) {
        self.scale = scale
        self.positive = positive
    }

    package var shift: Double { scale * max(positive, 0.2) }
    private var own: Double { exp(scale * positive - shift) }

    /// −log of the positive's probability.
    /// - Parameter negatives: Σ exp(logit − shift) of all negatives.
    package func loss(negatives: Double) -> Double { log((own + negatives) / own) }

    /// d loss / d(positive's cosine).
    package func positiveSlope(negatives: Double) -> Double { -scale * negatives / (own + negatives) }

    /// d loss / d(a negative's cosine) is this times exp(logit − shift).
    package func negativeFactor(negatives: Double) -> Double { scale / (own + negatives) }

    /// What keeps the magnitude of a contrast with 128 negatives.
    package static func rescale(negatives count: Int) -> Double { log(129) / log(Double(1 + count)) }
}
