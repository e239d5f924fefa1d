package import Collectives
package import Layers
package import Tensors

/// A loss beside the classification: it sees the same pass, and what the classification made of it.
///
/// One instance serves one run. Its gradients are divided by global counts, as every objective's; its loss and metrics are
/// the same on every rank.
package protocol AddedObjective: AnyObject {
    /// As recipes and messages call it.
    var name: String { get }
    var demand: StepDemand { get }
    var parameters: [Parameter] { get }
    var needsEveryClass: Bool { get }

    /// Whether there is anything to keep beside the parameters.
    var keepsState: Bool { get }
    /// What a checkpoint keeps of this rank beside the parameters, by name; nothing where another rank has it.
    var state: [(name: String, tensor: Tensor)] { get }
    /// Puts back what all ranks of a checkpoint kept, however many they were.
    ///
    /// - Throws: `ObjectiveStateError` where it does not fit.
    func restore(_ shares: [[String: Tensor]]) throws

    /// Runs before the classification of the same pass, which it may steer by its margin function.
    func prepare(_ pass: ObjectivePass, _ classification: MarginClassification) throws

    /// Runs after it. Adds gradients to the pass's and to the centres', all times `weight`; those of the centres without it
    /// (the classification weights what it collects).
    ///
    /// - Throws: `CollectiveError`.
    func step(
        _ pass: ObjectivePass, _ classification: MarginClassification, weight: Float, accumulate: Bool
    ) throws -> ObjectiveOutcome
}

extension AddedObjective {
    package var demand: StepDemand { .single }
    package var parameters: [Parameter] { [] }
    package var needsEveryClass: Bool { false }
    package var keepsState: Bool { false }
    package var state: [(name: String, tensor: Tensor)] { [] }
    package func restore(_ shares: [[String: Tensor]]) throws {}
    package func prepare(_ pass: ObjectivePass, _ classification: MarginClassification) throws {}
}

/// What a checkpoint kept of an objective does not fit the one that the recipe describes.
package struct ObjectiveStateError: Error, Equatable, CustomStringConvertible {
    package var objective: String
    package var reason: String

    package var description: String { "objectives.\(objective): \(reason)" }
}

/// A margin classification and what a recipe adds to it, as one objective: the sum of their losses.
package final class ObjectiveStack: Objective {
    package let classification: MarginClassification
    package let added: [any AddedObjective]
    package let demand: StepDemand
    /// Whether images are classified. If not, the classification is as if it were not there, and its centres stay.
    package let classifies: Bool

    /// - Parameter demand: what covers the demands of all.
    package init(
        _ classification: MarginClassification, _ added: [any AddedObjective], demand: StepDemand,
        classifies: Bool = true
    ) {
        precondition(
            classifies || !added.isEmpty && classification.classifier.isFrozen,
            "nothing to learn, or centres that learn")
        self.classification = classification
        self.added = added
        self.demand = demand
        self.classifies = classifies
    }

    package var parameters: [Parameter] { added.flatMap(\.parameters) }
    package var trace: TraceRecorder? {
        get { classification.trace }
        set { classification.trace = newValue }
    }
    package var needsEveryClass: Bool {
        classifies && classification.needsEveryClass || added.contains { $0.needsEveryClass }
    }

    package func begin(
        labels: UnsafeBufferPointer<Int>, records: UnsafeBufferPointer<Int>, step: Int, over channel: any Communicator
    ) throws {
        guard classifies else { return }
        try classification.begin(labels: labels, records: records, step: step, over: channel)
    }

    package func step(_ pass: ObjectivePass, weight: Float, accumulate: Bool) throws -> ObjectiveOutcome {
        var outcome = ObjectiveOutcome()
        if classifies {
            for objective in added {
                try trace.slice(objective.name) { try objective.prepare(pass, classification) }
            }
            outcome = try classification.classify(pass, weight: weight)
            if !added.isEmpty { outcome.metrics.add("classification_loss", outcome.loss) }
        }
        for objective in added {
            outcome.add(
                try trace.slice(objective.name) {
                    try objective.step(pass, classification, weight: weight, accumulate: accumulate)
                })
        }
        if classifies { classification.collect(weight: weight, accumulate: accumulate) }
        return outcome
    }

    package func update(rate: Float, momentum: Float, decay: Float) {
        if classifies { classification.update(rate: rate, momentum: momentum, decay: decay) }
    }

    package func gradientSquares() -> Double { classifies ? classification.gradientSquares() : 0 }
}
