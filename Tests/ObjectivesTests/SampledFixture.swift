import Collectives
import Objectives
import Tensors

/// What some updates of a sampled head left, put together from all ranks.
struct SampledOutcome: Sendable, Equatable {
    var losses: [Double] = []
    /// The sample of each step, by global class index, and how many classes of it each rank had.
    var samples: [[Int]] = []
    var counts: [[Int]] = []
    /// (C x d)
    var centres: [Double] = []
    var momentum: [Double] = []
    /// (N x d) of the last step.
    var embeddingGradient: [Double] = []
    /// One row per class of the last sample.
    var centreGradient: [Double] = []
}

extension HeadProblem {
    /// The labels of a step: the problem's, five rows further in each.
    func labels(ofStep step: Int) -> [Int] { (0..<rows).map { labels[($0 + 5 * step) % rows] } }

    /// Trains the centres for some steps on `ranks` ranks that are threads.
    ///
    /// - Parameters:
    ///   - start: centres and momentum to go on from.
    ///   - labels: the global batch of a step.
    func train<Scalar: HeadScalar>(
        _ type: Scalar.Type, _ margin: any MarginFunction = ArcFace(margin: 0.3, scale: 16), ranks: Int = 1,
        sampling: ClassSampling?, steps: Range<Int> = 0..<4, rate: Double = 0.5, momentum: Double = 0.9,
        decay: Double = 0.01, blockColumns: Int? = nil, keepsLogits: Bool? = nil, keepsGradient: Bool = true,
        storage: (@Sendable (Int) -> HeadStorage)? = nil, from start: SampledOutcome? = nil,
        labels: (@Sendable (Int) -> [Int])? = nil
    ) throws -> SampledOutcome {
        let parts = try InProcessGroup.run(ranks: ranks) { communicator -> SampledOutcome in
            let rows = ShardMap(classes: self.classes, ranks: ranks).range(ofRank: communicator.rank).count
            let head = self.classifier(
                type, margin, communicator, threads: ranks == 1 ? 2 : 1, blockColumns: blockColumns,
                keepsLogits: keepsLogits, keepsGradient: keepsGradient, sampling: sampling,
                storage: storage?(rows))
            let batch = self.rows / ranks
            let own = communicator.rank * batch..<(communicator.rank + 1) * batch
            let d = self.dimension
            let embeddings = Tensor([batch, d], dtype: Scalar.dtype)
            _ = Scalar.elements(embeddings).update(
                fromContentsOf: self.embeddings[own.lowerBound * d..<own.upperBound * d].map { Scalar($0) })
            if let start {
                let (centres, momentum) = (
                    Tensor([self.classes, d], dtype: Scalar.dtype), Tensor([self.classes, d], dtype: Scalar.dtype)
                )
                _ = Scalar.elements(centres).update(fromContentsOf: start.centres.map { Scalar($0) })
                _ = Scalar.elements(momentum).update(fromContentsOf: start.momentum.map { Scalar($0) })
                head.load(0..<self.classes, centres: centres, momentum: momentum)
            }
            var outcome = SampledOutcome()
            for step in steps {
                let labels = labels?(step) ?? self.labels(ofStep: step)
                try labels[own].withUnsafeBufferPointer { try head.begin(labels: $0, step: step) }
                outcome.losses.append(try head.step(embeddings: embeddings, step: step).loss)
                let first = head.classRange.lowerBound
                outcome.samples.append(
                    head.activeRows.map { $0.map { first + Int($0) } } ?? Array(head.classRange))
                outcome.counts.append([head.activeCount])
                outcome.centreGradient = head.gradientElements().map { Double($0) }
                head.update(rate: Scalar(rate), momentum: Scalar(momentum), decay: Scalar(decay))
            }
            outcome.centres = Scalar.elements(head.centres).map { Double($0) }
            outcome.momentum = Scalar.elements(head.momentum).map { Double($0) }
            outcome.embeddingGradient = Scalar.elements(head.embeddingGradient).map { Double($0) }
            return outcome
        }
        var whole = parts[0]
        for part in parts.dropFirst() {
            precondition(part.losses == whole.losses, "ranks disagree about the loss")
            for step in whole.samples.indices {
                whole.samples[step] += part.samples[step]
                whole.counts[step] += part.counts[step]
            }
            whole.centres += part.centres
            whole.momentum += part.momentum
            whole.embeddingGradient += part.embeddingGradient
            whole.centreGradient += part.centreGradient
        }
        return whole
    }

    /// The same problem with some of its classes only, which must hold all of the labels.
    func restricted(to classes: [Int], labels: [Int]) -> HeadProblem {
        HeadProblem(
            embeddings: embeddings,
            centres: classes.flatMap { centres[$0 * dimension..<($0 + 1) * dimension] },
            labels: labels.map { classes.firstIndex(of: $0)! }, dimension: dimension)
    }
}
