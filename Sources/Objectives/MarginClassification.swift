package import Collectives
package import Tensors

/// Softmax cross-entropy with a margin over sharded class centres, as an objective.
package final class MarginClassification: Objective {
    package let classifier: ShardedClassifier<Float>
    private let pool: ThreadPool
    /// Sums the micro-batches' gradients of the centres; nil until there is a second micro-batch.
    private var accumulated: Tensor?
    private var usesAccumulated = false

    package init(_ classifier: ShardedClassifier<Float>, pool: ThreadPool) {
        self.classifier = classifier
        self.pool = pool
    }

    package func begin(
        labels: UnsafeBufferPointer<Int>, records: UnsafeBufferPointer<Int>, over channel: any Communicator
    ) throws {
        try classifier.begin(labels: labels, samples: records, over: channel)
    }

    package func step(_ pass: ObjectivePass, weight: Float, accumulate: Bool) throws -> ObjectiveOutcome {
        let result = try classifier.step(embeddings: pass.embeddings, step: pass.step)
        let source = classifier.embeddingGradient.floats
        let target = pass.embeddingGradient.floats
        for i in target.indices { target[i] += weight * source[i] }
        if weight != 1, !classifier.isFrozen { collect(weight: weight, accumulate: accumulate) }
        return ObjectiveOutcome(
            loss: result.loss, accuracy: result.accuracy, targetCosine: result.targetCosine)
    }

    private func collect(weight: Float, accumulate: Bool) {
        usesAccumulated = true
        let gradient = classifier.gradient
        guard gradient.count > 0 else { return }
        let sum = accumulated ?? Tensor(gradient.shape)
        accumulated = sum
        Vectors.scale(pool, gradient.floats, by: weight)
        if accumulate {
            Vectors.accumulate(pool, gradient.floats, into: sum.floats)
        } else {
            sum.bytes.copyMemory(from: UnsafeRawBufferPointer(gradient.bytes))
        }
    }

    private var effectiveGradient: Tensor { usesAccumulated ? accumulated ?? classifier.gradient : classifier.gradient }

    package func update(rate: Float, momentum: Float, decay: Float) {
        guard !classifier.isFrozen, classifier.centres.count > 0 else { return }
        let gradient = effectiveGradient
        Vectors.sgd(
            pool, parameters: classifier.centres.floats, velocity: classifier.momentum.floats,
            gradient: gradient.floats, rate: rate, momentum: momentum, decay: decay)
    }

    package func gradientSquares() -> Double {
        guard !classifier.isFrozen, classifier.centres.count > 0 else { return 0 }
        let gradient = effectiveGradient
        return Vectors.sumSquares(pool, gradient.floats)
    }
}
