package import Collectives
package import Tensors

/// Softmax cross-entropy with a margin over sharded class centres, as an objective.
package final class MarginClassification: Objective {
    package let classifier: ShardedClassifier<Float>
    private let pool: ThreadPool
    /// What trains: the centres, and the biases if there are any.
    private var parameters: [Parameter]
    private var usesAccumulated = false

    private struct Parameter {
        let values: Tensor
        let gradient: Tensor
        let momentum: Tensor
        let decays: Bool
        /// Sums the micro-batches' gradients; nil until there is a second micro-batch.
        var accumulated: Tensor?
    }

    /// - Parameter decaysBias: whether weight decay holds for biases too.
    package init(_ classifier: ShardedClassifier<Float>, pool: ThreadPool, decaysBias: Bool = true) {
        self.classifier = classifier
        self.pool = pool
        parameters = []
        guard !classifier.isFrozen, classifier.centres.count > 0 else { return }
        parameters.append(
            Parameter(
                values: classifier.centres, gradient: classifier.gradient, momentum: classifier.momentum, decays: true))
        if let bias = classifier.bias {
            parameters.append(
                Parameter(values: bias.values, gradient: bias.gradient, momentum: bias.momentum, decays: decaysBias))
        }
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
        if weight != 1 { collect(weight: weight, accumulate: accumulate) }
        return ObjectiveOutcome(loss: result.loss, metrics: metrics(result))
    }

    private func metrics(_ result: ClassificationResult) -> Metrics {
        var metrics = Metrics()
        metrics.add("accuracy", result.accuracy)
        metrics.add(classifier.margin.normalisation == .unit ? "target_cosine" : "target_logit", result.targetCosine)
        if result.penalty != 0 { metrics.add("penalty", result.penalty) }
        metrics.add(result.metrics)
        return metrics
    }

    private func collect(weight: Float, accumulate: Bool) {
        usesAccumulated = true
        for index in parameters.indices {
            let gradient = parameters[index].gradient
            let sum = parameters[index].accumulated ?? Tensor(gradient.shape)
            parameters[index].accumulated = sum
            Vectors.scale(pool, gradient.floats, by: weight)
            if accumulate {
                Vectors.accumulate(pool, gradient.floats, into: sum.floats)
            } else {
                sum.bytes.copyMemory(from: UnsafeRawBufferPointer(gradient.bytes))
            }
        }
    }

    private func effectiveGradient(_ parameter: Parameter) -> Tensor {
        usesAccumulated ? parameter.accumulated ?? parameter.gradient : parameter.gradient
    }

    package func update(rate: Float, momentum: Float, decay: Float) {
        for parameter in parameters {
            let gradient = effectiveGradient(parameter)
            Vectors.sgd(
                pool, parameters: parameter.values.floats, velocity: parameter.momentum.floats,
                gradient: gradient.floats, rate: rate, momentum: momentum, decay: parameter.decays ? decay : 0)
        }
    }

    package func gradientSquares() -> Double {
        parameters.reduce(0) { sum, parameter in
            let gradient = effectiveGradient(parameter)
            return sum + Vectors.sumSquares(pool, gradient.floats)
        }
    }
}
