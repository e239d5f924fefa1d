package import Collectives
package import Tensors

/// What an objective sees of one pass of the backbone over this rank's images.
package struct ObjectivePass {
    /// Raw embeddings, (B x d).
    package let embeddings: Tensor
    /// Where dL/d(embedding) goes, (B x d): zero at first, objectives add.
    package let embeddingGradient: Tensor
    /// Updates completed before this one.
    package let step: Int

    package init(embeddings: Tensor, embeddingGradient: Tensor, step: Int) {
        self.embeddings = embeddings
        self.embeddingGradient = embeddingGradient
        self.step = step
    }
}

/// A loss with what it measures on the way, means over the global batch; the same on every rank.
package struct ObjectiveOutcome: Sendable, Equatable {
    package var loss = 0.0
    /// Such as `accuracy`, `target_cosine`.
    package var metrics = Metrics()

    package init(loss: Double = 0, metrics: Metrics = Metrics()) {
        self.loss = loss
        self.metrics = metrics
    }

    /// Adds 1/count of another outcome: for means over micro-batches and over steps.
    package mutating func add(_ other: Self, of count: Int = 1) {
        loss += other.loss / Double(count)
        metrics.add(other.metrics, of: count)
    }

    /// 1/count of it.
    package func mean(of count: Int) -> Self {
        var mean = Self()
        mean.add(self, of: count)
        return mean
    }
}

/// A plug-in over one training step: embeddings and labels to a scalar loss with explicit gradients.
///
/// Every loss is divided by its global count; the trainer sums gradients over ranks and knows no method.
package protocol Objective: AnyObject {
    /// Whether the loss, or what it is compared with, needs the cosines to every class: such an objective cannot be
    /// combined with a sample of the classes.
    var needsEveryClass: Bool { get }
    /// Where the parts of a step are noted; nil for nowhere.
    var trace: TraceRecorder? { get set }

    /// Collectives that need no embeddings; runs before or beside the backbone's forward.
    ///
    /// - Parameters:
    ///   - labels: this rank's B labels.
    ///   - records: the global record indices of the same images.
    ///   - step: updates completed before this one.
    ///   - channel: the communicator for these collectives, its own so that they may run beside others.
    /// - Throws: `CollectiveError`, `ClassificationError`.
    func begin(
        labels: UnsafeBufferPointer<Int>, records: UnsafeBufferPointer<Int>, step: Int, over channel: any Communicator)
        throws

    /// Computes the loss and adds its gradient to `pass.embeddingGradient`, all times `weight`; the gradients of the
    /// objective's own parameters are kept until `update`.
    ///
    /// - Parameters:
    ///   - weight: 1 / micro-batches of the update.
    ///   - accumulate: add to the own parameters' gradients instead of replacing them.
    func step(_ pass: ObjectivePass, weight: Float, accumulate: Bool) throws -> ObjectiveOutcome

    /// Updates the objective's own parameters by SGD with the gradients of the last steps.
    func update(rate: Float, momentum: Float, decay: Float)

    /// Sum of squares of this rank's share of the own parameters' gradients, in any consistent unit, or NaN when one is
    /// not finite: the trainer's guard against bad updates.
    func gradientSquares() -> Double
}

extension Objective {
    package var needsEveryClass: Bool { false }
    /// One without parts worth telling apart.
    package var trace: TraceRecorder? {
        get { nil }
        set {}
    }
}
