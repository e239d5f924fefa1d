package import Collectives
package import Layers
import Tensors

/// Annotated qualities learnt from the images alone: a linear layer on the raw embedding, after dropout, regresses what
/// similarity distributions gave each image (Ou et al., "SDD-FIQA: Unsupervised Face Image Quality Assessment with
/// Similarity Distribution Distance", CVPR 2021). Usually the backbone starts from the recogniser and learns with it.
///
/// Qualities count in hundredths of the table's scale, so that the layer's output is about one: the loss is weight · mean
/// SmoothL1(prediction − quality/100) over the annotated images of the global batch. Only a record's first view is
/// predicted. Collectives: one sum of four numbers.
///
/// The authors' layer reads the last stage's maps, flattened, through PReLU and dropout; this one reads the embedding, which
/// the backbone computes from them.
package final class SeparationRegression: AddedObjective {
    package let name = "sdd_fiqa"
    package let weight: Double
    package let loss: SmoothL1
    /// Probability with which a component of the embedding is left out in training; the others grow by 1/(1 − it).
    package let dropout: Float
    package let layer: QualityLayer

    private let communicator: any Communicator
    private let seed: UInt64
    private let dimension: Int
    /// By record, in hundredths; NaN where unknown.
    private let targets: [Float]
    /// What each component of this rank's rows is multiplied with, (B x d).
    private let factors: Tensor
    /// Prediction less target of this rank's rows; NaN where there is no target.
    private let differences: UnsafeMutableBufferPointer<Double>
    /// Annotated images of the global batch, and the sums of loss, prediction and target over them.
    private var sums = [Double](repeating: 0, count: 4)

    /// Masks are keyed like a network's dropout, beyond the indices of its layers.
    private static let firstMask = UInt64(1) << 63

    /// - Parameters:
    ///   - qualities: by global record index, as annotated (0...100); NaN where unknown, and at least one known.
    ///   - batch: B, records of this rank.
    ///   - dimension: d.
    ///   - weight: of the loss.
    ///   - beta: β of the smooth L1 loss, in hundredths; 0.01, one step of the table's scale, as the authors have it.
    ///   - dropout: 0.5 as published.
    package init(
        qualities: [Float], batch: Int, dimension: Int, weight: Double, beta: Double, dropout: Double,
        communicator: any Communicator, seed: UInt64
    ) {
        precondition((0..<1).contains(dropout), "dropout probability \(dropout)")
        self.weight = weight
        self.dropout = Float(dropout)
        self.communicator = communicator
        self.seed = seed
        self.dimension = dimension
        loss = SmoothL1(beta: beta)
        targets = qualities.map { $0 / 100 }
        let known = targets.filter { !$0.isNaN }
        precondition(!known.isEmpty, "no image has a quality")
        // As the authors' layer starts, in hundredths.
        layer = QualityLayer("sdd", dimension: dimension, scale: 0.01, seed: seed)
        // From the mean on, the layer learns what images differ in.
        layer.bias.value.floats[0] = Float(known.reduce(0) { $0 + Double($1) } / Double(known.count))
        factors = Tensor([batch, dimension])
        differences = .allocate(capacity: batch)
        differences.initialize(repeating: .nan)
    }

    deinit { differences.deallocate() }

    package var parameters: [Parameter] { layer.parameters }

    package func step(
        _ pass: ObjectivePass, _ classification: MarginClassification, weight share: Float, accumulate: Bool
    ) throws -> ObjectiveOutcome {
        precondition(pass.batch == differences.count, "a pass of \(pass.batch) records, not \(differences.count)")
        let gradients = layer.gradients(accumulate: accumulate)
        predict(pass)
        try sums.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "quality regression") }
        var outcome = ObjectiveOutcome()
        let count = sums[0]
        guard count > 0 else { return outcome }
        let embeddings = pass.embeddings.floats.baseAddress!
        let target = pass.embeddingGradient.floats.baseAddress!
        let factors = factors.floats.baseAddress!
        let weights = layer.weight.value.floats.baseAddress!
        for row in differences.indices where !differences[row].isNaN {
            let slope = Float(weight * loss.slope(differences[row]) / count) * share
            let first = row * dimension
            for i in 0..<dimension {
                let scaled = slope * factors[first + i]
                target[first + i] += scaled * weights[i]
                gradients.weight[i] += scaled * embeddings[first + i]
            }
            gradients.bias[0] += slope
        }
        outcome.loss = weight * sums[1] / count
        outcome.metrics.add("regression_loss", sums[1] / count)
        outcome.metrics.add("predicted_quality", 100 * sums[2] / count)
        outcome.metrics.add("annotated_quality", 100 * sums[3] / count)
        return outcome
    }

    /// Masks, differences and sums of this rank's rows.
    private func predict(_ pass: ObjectivePass) {
        let embeddings = pass.embeddings.floats.baseAddress!
        let factors = factors.floats.baseAddress!
        let weights = layer.weight.value.floats.baseAddress!
        let bias = Double(layer.bias.value.floats[0])
        for place in sums.indices { sums[place] = 0 }
        for row in differences.indices {
            let target = targets[pass.records[row]]
            differences[row] = .nan
            if target.isNaN { continue }
            let first = row * dimension
            mask(factors + first, record: pass.records[row], step: pass.step)
            var prediction = bias
            for i in 0..<dimension {
                prediction += Double(embeddings[first + i] * factors[first + i]) * Double(weights[i])
            }
            let difference = prediction - Double(target)
            differences[row] = difference
            sums[0] += 1
            sums[1] += loss.value(difference)
            sums[2] += prediction
            sums[3] += Double(target)
        }
    }

    /// The same for a record and step on any number of ranks.
    private func mask(_ factors: UnsafeMutablePointer<Float>, record: Int, step: Int) {
        var stream = RandomStream(
            seed: seed, purpose: .dropout, index: Self.firstMask | UInt64(record), step: UInt64(step))
        for i in 0..<dimension { factors[i] = stream.uniform() < dropout ? 0 : 1 / (1 - dropout) }
    }
}
