package import Collectives
import Objectives
package import Recipes
package import Tensors
import Training

/// The time of the head's part of a training step: embeddings are given, and all else is as in training: labels and
/// embeddings are gathered, cosines, margins and the softmax over all ranks, gradients of embeddings and centres, the update
/// of the centres.
package struct HeadBenchmark: Sendable {
    package var head: HeadSection
    package var classes = 10_000
    /// Of all ranks together.
    package var globalBatch = 64
    package var dimension = 512
    package var steps = 20
    package var warmup = 3
    /// Columns of logits computed together, and whether all logits are kept; chosen by size where nil.
    package var columns: Int?
    package var keepsLogits: Bool?
    /// The gradient of the centres is made as a whole before the update.
    package var keepsGradient = false

    package init(_ head: HeadSection) { self.head = head }

    package struct Result: Sendable {
        package var times: StepTimes
        /// Of rank 0, seconds of the parts of a mean step, in their order.
        package var parts: [(name: String, seconds: Double)]
    }

    /// - Throws: `CollectiveError`; `MappedFileError`.
    package func run(_ communicator: any Communicator, _ pool: ThreadPool) throws -> Result {
        precondition(globalBatch % communicator.size == 0, "the ranks do not divide the batch")
        let batch = globalBatch / communicator.size
        let classifier = ShardedClassifier<Float>(
            classes: classes, dimension: dimension, batch: batch,
            margin: RunSetup.margin(head, seed: 1, ranks: communicator.size), communicator: communicator, pool: pool,
            seed: 1, keepsGradient: keepsGradient, blockColumns: columns, keepsLogits: keepsLogits,
            sampling: RunSetup.sampling(head))
        let objective = MarginClassification(classifier, pool: pool)
        let recorder = TraceRecorder(capacity: 32 * steps, steps: 1)
        objective.trace = recorder
        let trace: TraceRecorder? = recorder
        let channel = try communicator.duplicate(channel: "labels")
        let (embeddings, gradient) = (Tensor([batch, dimension]), Tensor([batch, dimension]))
        var random = RandomStream(seed: 7, purpose: .augmentation, index: UInt64(communicator.rank), step: 0)
        let values = embeddings.floats
        for i in values.indices { values[i] = Float(random.normal()) }
        let labels = (0..<batch).map { _ in Int(random.uniform(0, Double(classes))) }
        let records = (0..<batch).map { communicator.rank * batch + $0 }
        var losses: [Double] = []
        let prepare: (Int) -> Void = { if $0 == warmup { recorder.start() } }
        let seconds = try communicator.stepSeconds(warmup + steps, prepare: prepare) { index in
            try trace.slice("labels") {
                try labels.withUnsafeBufferPointer { labels in
                    try records.withUnsafeBufferPointer {
                        try objective.begin(labels: labels, records: $0, step: index, over: channel)
                    }
                }
            }
            gradient.fill(0)
            let pass = ObjectivePass(embeddings: embeddings, embeddingGradient: gradient, step: index)
            losses.append(try objective.step(pass, weight: 1, accumulate: false).loss)
            let squares = try trace.slice("control") {
                try communicator.allReduce(objective.gradientSquares(), .sum, "benchmark")
            }
            guard squares.isFinite else {
                throw TrainingError.nonFinite(step: index + 1, what: "a gradient of the head")
            }
            trace.slice("update of the centres") { objective.update(rate: 0.01, momentum: 0.9, decay: 5e-4) }
        }
        recorder.stop()
        return Result(
            times: try StepTimes(seconds, warmup: warmup, rows: globalBatch, losses: losses, communicator),
            parts: parts(recorder))
    }

    private func parts(_ recorder: TraceRecorder) -> [(name: String, seconds: Double)] {
        var parts: [(name: String, seconds: Double)] = []
        for slice in recorder.slices {
            let seconds = Double(slice.end - slice.start) * 1e-9 / Double(steps)
            if let index = parts.firstIndex(where: { $0.name == slice.name }) {
                parts[index].seconds += seconds
            } else {
                parts.append((slice.name, seconds))
            }
        }
        return parts
    }
}
