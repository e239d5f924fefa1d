package import Collectives
package import Tensors

/// Softmax cross-entropy with a margin over sharded class centres, as an objective.
package final class MarginClassification: Objective {
    package let classifier: ShardedClassifier<Float>
    private let pool: ThreadPool
    /// Sums the gradients of the centres over the passes of an update; nil where an update is one pass.
    private var accumulated: GradientSum<Float>?

    private let decaysBias: Bool

    package var trace: TraceRecorder? {
        get { classifier.trace }
        set { classifier.trace = newValue }
    }

    /// - Parameter decaysBias: whether weight decay holds for biases too.
    package init(_ classifier: ShardedClassifier<Float>, pool: ThreadPool, decaysBias: Bool = true) {
        self.classifier = classifier
        self.pool = pool
        self.decaysBias = decaysBias
    }

    package func begin(
        labels: UnsafeBufferPointer<Int>, records: UnsafeBufferPointer<Int>, step: Int,
        over channel: any Communicator
    ) throws {
        try classifier.begin(labels: labels, samples: records, step: step, over: channel)
    }

    package func step(_ pass: ObjectivePass, weight: Float, accumulate: Bool) throws -> ObjectiveOutcome {
        let outcome = try classify(pass, weight: weight)
        collect(weight: weight, accumulate: accumulate)
        return outcome
    }

    /// The loss and the gradient of the embeddings. The gradient of the centres is the classifier's, and further losses may
    /// add to it, until `collect`.
    func classify(_ pass: ObjectivePass, weight: Float) throws -> ObjectiveOutcome {
        let result = try classifier.step(embeddings: pass.classified.embeddings, step: pass.step)
        let source = classifier.embeddingGradient.floats
        let target = pass.classified.gradient.floats
        for i in target.indices { target[i] += weight * source[i] }
        return ObjectiveOutcome(loss: result.loss, metrics: metrics(result))
    }

    private func metrics(_ result: ClassificationResult) -> Metrics {
        var metrics = Metrics()
        // An accuracy over a sample of the classes must not pass for one over all.
        metrics.add(classifier.comparesEveryClass ? "accuracy" : "sampled_accuracy", result.accuracy)
        metrics.add(classifier.margin.normalisation == .unit ? "target_cosine" : "target_logit", result.targetCosine)
        if result.penalty != 0 { metrics.add("penalty", result.penalty) }
        metrics.add(result.metrics)
        return metrics
    }

    /// Adds the centres' gradient, times `weight`, to that of the update's other passes.
    func collect(weight: Float, accumulate: Bool) {
        if weight == 1 || classifier.isFrozen { return }
        precondition(classifier.holdsGradient, "several passes need a classifier that keeps its gradient")
        let sum =
            accumulated
            ?? GradientSum(
                classes: classifier.classRange.count, dimension: classifier.dimension,
                hasBias: classifier.bias != nil,
                // Each of the other passes may bring as many classes as it has rows.
                capacity: classifier.rowCapacity + (Int((1 / weight).rounded()) - 1) * classifier.globalBatch)
        accumulated = sum
        if !accumulate { sum.reset() }
        sum.add(classifier, weight: weight)
    }

    package func update(rate: Float, momentum: Float, decay: Float) {
        classifier.update(
            rate: rate, momentum: momentum, decay: decay, biasDecay: decaysBias ? decay : 0, with: accumulated)
    }

    /// Where the gradient of the centres is not held, the product of the squares of its two factors: at least as much as
    /// its own squares, and not finite where an element of it would not be.
    package func gradientSquares() -> Double {
        let biases = Vectors.sumSquares(pool, classifier.biasGradientElements(of: accumulated))
        if classifier.holdsGradient || classifier.isFrozen {
            return Vectors.sumSquares(pool, classifier.gradientElements(of: accumulated)) + biases
        }
        let bound =
            Vectors.sumSquares(pool, classifier.productGradients)
            * Vectors.sumSquares(pool, classifier.gatheredEmbeddings.floats)
        let largest = Double(Float.greatestFiniteMagnitude)
        return bound < largest * largest ? bound + biases : .nan
    }
}
