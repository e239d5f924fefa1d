package import Collectives
package import Layers
import Tensors

/// Quality learnt while a recogniser learns: a linear layer on the raw embedding regresses each sample's certainty ratio
/// (Boutros et al., "CR-FIQA: Face Image Quality Assessment by Learning Sample Relative Classifiability", CVPR 2023).
///
/// The loss is weight · mean SmoothL1(ratio − prediction). Ratios are constants of the step; the gradient reaches the
/// backbone through the prediction alone. Both cosines come from the classification's own reductions, so no collective is
/// added; every rank predicts for all gathered embeddings, and has the same loss.
package final class QualityRegression: AddedObjective {
    package let name = "cr_fiqa"
    package let ratio: CertaintyRatio
    package let weight: Double
    package let loss: SmoothL1
    /// `qs` in the authors' state dict.
    package let layer: QualityLayer

    private let ranks: Int
    private let rank: Int

    /// - Parameters:
    ///   - dimension: d.
    ///   - weight: λ, 10 as published.
    ///   - beta: β, 0.5 as published.
    package init(
        dimension: Int, ratio: CertaintyRatio, weight: Double, beta: Double, communicator: any Communicator,
        seed: UInt64
    ) {
        self.ratio = ratio
        self.weight = weight
        loss = SmoothL1(beta: beta)
        layer = QualityLayer("qs", dimension: dimension, seed: seed)
        ranks = communicator.size
        rank = communicator.rank
    }

    package var parameters: [Parameter] { layer.parameters }
    package var needsEveryClass: Bool { true }

    package func step(
        _ pass: ObjectivePass, _ classification: MarginClassification, weight share: Float, accumulate: Bool
    ) throws -> ObjectiveOutcome {
        let classifier = classification.classifier
        let rows = classifier.globalBatch
        let d = classifier.dimension
        let embeddings = UnsafePointer(classifier.gatheredEmbeddings.floats.baseAddress!)
        let weights = UnsafePointer(layer.weight.value.floats.baseAddress!)
        let bias = Double(layer.bias.value.floats[0])
        let gradients = layer.gradients(accumulate: accumulate)
        let own = classifier.ownRows
        let target = pass.classified.gradient.floats.baseAddress!
        var (sum, predicted, ratios) = (0.0, 0.0, 0.0)
        for row in 0..<rows {
            let x = embeddings + row * d
            let prediction = Float.dot(x, weights, count: d) + bias
            let goal = ratio.value(
                own: classifier.targetCosines[row], nearest: classifier.nearestNegativeCosines[row])
            sum += loss.value(prediction - goal)
            predicted += prediction
            ratios += goal
            guard own.contains(row) else { continue }
            let slope = Float(weight * loss.slope(prediction - goal) / Double(rows)) * share
            let gradient = target + (row - own.lowerBound) * d
            for i in 0..<d {
                gradient[i] += slope * weights[i]
                gradients.weight[i] += slope * x[i]
            }
            gradients.bias[0] += slope
        }
        let count = Double(rows)
        var outcome = ObjectiveOutcome(loss: weight * sum / count)
        outcome.metrics.add("quality_loss", sum / count)
        outcome.metrics.add("quality", predicted / count)
        outcome.metrics.add("certainty_ratio", ratios / count)
        return outcome
    }
}
