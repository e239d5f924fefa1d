/// One row of the global batch as a margin function sees it. Every rank sees the same rows with the same values.
package struct MarginRow: Sendable {
    /// Row of the global batch, 0..<N, in the order of the ranks.
    package var index: Int
    /// The record's global index: the key of everything random about this row.
    package var sample: Int64
    /// cos θ between the embedding and its own class centre, in [-1, 1]; x·w_y + b_y for a function that does not
    /// normalise. On a rank that does not own the class it is known only if the function asks for it
    /// (`needsTargetCosines`), and 0 otherwise.
    package var cosine: Double
    /// ‖x‖ of the raw embedding.
    package var norm: Double

    package init(index: Int, sample: Int64, cosine: Double, norm: Double) {
        self.index = index
        self.sample = sample
        self.cosine = cosine
        self.norm = norm
    }

    /// The cosine kept 1e-7 away from ±1, where the derivative of the angle has a pole.
    package var guardedCosine: Double { min(max(cosine, -(1 - 1e-7)), 1 - 1e-7) }
}

/// The global batch of one step. The pointers are valid during the call only.
package struct MarginBatch {
    /// Steps completed before this one.
    package var step: Int
    /// ‖x‖ of every row, (N).
    package var norms: UnsafeBufferPointer<Double>
    /// Global record index of every row, (N).
    package var samples: UnsafeBufferPointer<Int64>
    /// cos θ_y of every row, (N), if the function asked for it; else empty.
    package var targetCosines: UnsafeBufferPointer<Double>

    package init(
        step: Int, norms: UnsafeBufferPointer<Double>, samples: UnsafeBufferPointer<Int64>,
        targetCosines: UnsafeBufferPointer<Double>
    ) {
        self.step = step
        self.norms = norms
        self.samples = samples
        self.targetCosines = targetCosines
    }
}

/// What turns a row's cosines into logits: z = value · cos. `normSlope` is its derivative with respect to ‖x‖.
package struct LogitScale: Sendable {
    package var value: Double
    package var normSlope: Double

    package init(_ value: Double, normSlope: Double = 0) {
        self.value = value
        self.normSlope = normSlope
    }
}

/// The modified cosine φ of the target column and its derivatives. The slopes are what backward uses: a
/// straight-through function reports 1 whatever φ's true derivative is.
package struct MarginTarget: Sendable {
    package var value: Double
    /// ∂φ/∂cos θ
    package var slope: Double
    /// ∂φ/∂‖x‖
    package var normSlope: Double

    package init(value: Double, slope: Double, normSlope: Double = 0) {
        self.value = value
        self.slope = slope
        self.normSlope = normSlope
    }
}

/// What a row does to the cosines of the other classes, as data rather than code, so that the loop over N x C elements
/// stays with the element type.
///
/// First c is clamped to ±limit. Then, where c > cutoff, it becomes 0; where it is only above threshold, it becomes
/// constant + linear·c + quadratic·c². The derivative is that of the polynomial, and 0 where clamped or cut off.
package struct NegativeRule: Sendable, Equatable {
    package var limit: Double
    package var cutoff: Double
    package var threshold: Double
    package var constant: Double
    package var linear: Double
    package var quadratic: Double

    package init(
        limit: Double = 1, cutoff: Double = .infinity, threshold: Double = .infinity, constant: Double = 0,
        linear: Double = 1, quadratic: Double = 0
    ) {
        self.limit = limit
        self.cutoff = cutoff
        self.threshold = threshold
        self.constant = constant
        self.linear = linear
        self.quadratic = quadratic
    }
}

/// A term of the loss that depends on a row's norm alone, and its derivative with respect to ‖x‖.
package struct NormPenalty: Sendable {
    package var value: Double
    package var slope: Double

    package init(value: Double, slope: Double) {
        self.value = value
        self.slope = slope
    }

    package static let none = NormPenalty(value: 0, slope: 0)
}

/// What the rows of the global batch came to in the forward pass, for `metrics`; the same on every rank. The pointers
/// are valid during the call only.
package struct MarginOutcome {
    /// ‖x‖, cos θ_y and the largest cosine to another class of every row, (N).
    package var norms: UnsafeBufferPointer<Double>
    package var targetCosines: UnsafeBufferPointer<Double>
    package var nearestNegatives: UnsafeBufferPointer<Double>

    package init(
        norms: UnsafeBufferPointer<Double>, targetCosines: UnsafeBufferPointer<Double>,
        nearestNegatives: UnsafeBufferPointer<Double>
    ) {
        self.norms = norms
        self.targetCosines = targetCosines
        self.nearestNegatives = nearestNegatives
    }

    /// The mean of ‖x‖.
    package var meanNorm: Double { norms.reduce(0, +) / Double(norms.count) }
}

/// What embedding and class centre are compared by.
package enum Normalisation: Sendable, Equatable {
    /// The cosine of the two, in [-1, 1].
    case unit
    /// The inner product x·w_c as it is, plus a trained b_c if there is a bias.
    case none(bias: Bool)
}

/// A margin head: how the cosines of one row become logits before the softmax.
///
/// It knows neither the ranks nor the shards nor the element type. Once per step `prepare` sees the whole batch (and is
/// the only call that may change state); after that every call is a pure function of its row. All ranks hold a copy in
/// the same state. Values are in double: there are N rows, and their cost does not count beside N x C logits.
package protocol MarginFunction: Sendable {
    /// Inner products instead of cosines. A function without normalisation must leave the other classes alone.
    var normalisation: Normalisation { get }
    /// Whether `prepare`, `scale` or `negatives` use target cosines, which costs one more all-reduce of N values.
    var needsTargetCosines: Bool { get }
    /// Whether `negatives` may return a rule.
    var modifiesNegatives: Bool { get }
    /// Whether centres are brought back to unit length before each step.
    var normalisesCentres: Bool { get }
    /// Statistics that persist over steps, by name: part of a checkpoint.
    var statistics: [String: Double] { get set }

    mutating func prepare(_ batch: MarginBatch)
    func scale(_ row: MarginRow) -> LogitScale
    /// φ(θ), called on the rank that owns the row's class.
    func target(_ row: MarginRow) -> MarginTarget
    /// The rule for the row's other classes; nil leaves them alone. A function whose scale depends on the norm may
    /// only return rules with f(c) = f'(c)·c (scaling by 0, for one).
    func negatives(_ row: MarginRow) -> NegativeRule?
    /// What the row's cross-entropy counts in the mean over the global batch.
    func weight(_ row: MarginRow) -> Double
    /// A term added to the row's loss; its mean over the global batch joins the loss.
    func penalty(_ row: MarginRow) -> NormPenalty
    /// What is worth watching beside loss and accuracy, by name; from state and `outcome` alone, so that all ranks agree.
    func metrics(_ outcome: MarginOutcome) -> Metrics
}

extension MarginFunction {
    package var normalisation: Normalisation { .unit }
    package var needsTargetCosines: Bool { false }
    package var modifiesNegatives: Bool { false }
    package var normalisesCentres: Bool { false }
    package var statistics: [String: Double] {
        get { [:] }
        set { precondition(newValue.isEmpty, "\(Self.self) keeps no statistics, got \(newValue.keys.sorted())") }
    }

    package mutating func prepare(_ batch: MarginBatch) {}
    package func negatives(_ row: MarginRow) -> NegativeRule? { nil }
    package func weight(_ row: MarginRow) -> Double { 1 }
    package func penalty(_ row: MarginRow) -> NormPenalty { .none }
    package func metrics(_ outcome: MarginOutcome) -> Metrics { Metrics() }
}

/// Which derivative of φ backward uses.
package enum MarginGradient: String, Sendable, CaseIterable {
    /// The derivative of φ.
    case exact
    /// 1, as in arcface_torch, whose angular margin is added outside automatic differentiation; its published models
    /// were trained so.
    case straightThrough
}
