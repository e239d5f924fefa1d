package import Collectives
package import Layers
package import Tensors

/// What the objectives of a run ask of a step: which views of a record there are, and how they pass through the backbone.
package struct StepDemand: Sendable, Equatable {
    /// V, views of a record in a batch.
    package var views: Int
    /// The views that go through the backbone together, so that their norms share a batch's statistics; pass by pass, and
    /// together all views in their order.
    package var passes: [Range<Int>]
    /// How many of the views, from the first on, are classified.
    package var classified: Int
    /// Taps of the backbone whose spatial energies the objectives compare.
    package var taps: [String]
    /// The classified views that another backbone, which does not learn, sees, too.
    package var teacher: Range<Int>
    /// What of itself that backbone keeps in an update, in which it takes the rest from the one that learns; nil where it
    /// stays as it is.
    package var teacherMomentum: Double?

    package init(
        views: Int = 1, passes: [Range<Int>] = [0..<1], classified: Int = 1, taps: [String] = [],
        teacher: Range<Int> = 0..<0, teacherMomentum: Double? = nil
    ) {
        precondition(
            passes.first?.lowerBound == 0 && passes.last?.upperBound == views && classified >= 1 && classified <= views
                && zip(passes, passes.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound }
                && teacher.upperBound <= classified,
            "passes \(passes) of \(views) views, \(classified) classified")
        self.views = views
        self.passes = passes
        self.classified = classified
        self.taps = taps
        self.teacher = teacher
        self.teacherMomentum = teacherMomentum
    }

    /// The views that the teacher sees where its embeddings of the first one may be known already.
    package func taughtViews(knowsFirst: Bool) -> Range<Int> {
        knowsFirst ? teacher.clamped(to: 1..<max(1, views)) : teacher
    }

    /// One view, one pass.
    package static let single = StepDemand()
}

/// The spatial energies of a tap's maps, and where the gradient with respect to them goes.
package final class TapMaps {
    package let name: String
    /// Positions of a map, h·w.
    package let positions: Int
    /// (V·B x positions), all of the first view, then all of the second, ….
    package let energies: Tensor
    /// The same; zero at first, objectives add.
    package let gradient: Tensor

    package init(_ name: String, rows: Int, positions: Int) {
        self.name = name
        self.positions = positions
        energies = Tensor([rows, positions])
        gradient = Tensor([rows, positions])
    }
}

/// What an objective sees of one step of this rank: what the backbone made of its images. Rows are all of the first view,
/// then all of the second, ….
package struct ObjectivePass {
    /// Raw embeddings, (V·B x d).
    package let embeddings: Tensor
    /// Where dL/d(embedding) goes, (V·B x d): zero at first, objectives add.
    package let embeddingGradient: Tensor
    /// The rows of both that are classified: the first ones.
    package let classified: (embeddings: Tensor, gradient: Tensor)
    /// B, records of this rank.
    package let batch: Int
    /// V·B global record indices, and B labels, the same for every view.
    package let records: UnsafeBufferPointer<Int>
    package let labels: UnsafeBufferPointer<Int>
    package let taps: [TapMaps]
    /// Raw embeddings of the classified rows by the teacher, where one was asked for; rows of views that it does not see
    /// say nothing.
    package let teacher: Tensor?
    /// Updates completed before this one.
    package let step: Int

    package init(
        embeddings: Tensor, embeddingGradient: Tensor, classified: (embeddings: Tensor, gradient: Tensor)? = nil,
        batch: Int? = nil, labels: UnsafeBufferPointer<Int> = .init(start: nil, count: 0),
        records: UnsafeBufferPointer<Int> = .init(start: nil, count: 0), taps: [TapMaps] = [],
        teacher: Tensor? = nil, step: Int
    ) {
        self.embeddings = embeddings
        self.embeddingGradient = embeddingGradient
        self.classified = classified ?? (embeddings, embeddingGradient)
        self.batch = batch ?? embeddings.shape[0]
        self.labels = labels
        self.records = records
        self.taps = taps
        self.teacher = teacher
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

/// What a training step minimises: embeddings and labels to a scalar loss with explicit gradients.
///
/// Every loss is divided by its global count; the trainer sums gradients over ranks and knows no method.
package protocol Objective: AnyObject {
    var demand: StepDemand { get }
    /// Parameters of its own that every rank holds and that are trained like the backbone's: their gradients are summed
    /// over the ranks with those of the backbone.
    var parameters: [Parameter] { get }
    /// Whether the loss, or what it is compared with, needs the cosines to every class: such an objective cannot be
    /// combined with a sample of the classes.
    var needsEveryClass: Bool { get }
    /// Where the parts of a step are noted; nil for nowhere.
    var trace: TraceRecorder? { get set }

    /// Collectives that need no embeddings; runs before or beside the backbone's forward.
    ///
    /// - Parameters:
    ///   - labels: of this rank's rows that are classified.
    ///   - records: the global record indices of the same images.
    ///   - step: updates completed before this one.
    ///   - channel: the communicator for these collectives, its own so that they may run beside others.
    /// - Throws: `CollectiveError`, `ClassificationError`.
    func begin(
        labels: UnsafeBufferPointer<Int>, records: UnsafeBufferPointer<Int>, step: Int, over channel: any Communicator)
        throws

    /// Computes the loss and adds its gradients to the pass's, all times `weight`; the gradients of the objective's own
    /// shards are kept until `update`.
    ///
    /// - Parameters:
    ///   - weight: 1 / micro-batches of the update.
    ///   - accumulate: add to the own parameters' gradients instead of replacing them.
    func step(_ pass: ObjectivePass, weight: Float, accumulate: Bool) throws -> ObjectiveOutcome

    /// Updates the objective's own shards by SGD with the gradients of the last steps.
    func update(rate: Float, momentum: Float, decay: Float)

    /// Sum of squares of this rank's share of the shards' gradients, in any consistent unit, or NaN when one is
    /// not finite: the trainer's guard against bad updates.
    func gradientSquares() -> Double
}

extension Objective {
    package var demand: StepDemand { .single }
    package var parameters: [Parameter] { [] }
    package var needsEveryClass: Bool { false }
    /// One without parts worth telling apart.
    package var trace: TraceRecorder? {
        get { nil }
        set {}
    }
}
