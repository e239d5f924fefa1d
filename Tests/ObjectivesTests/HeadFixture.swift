import Collectives
import Foundation
import Objectives
import Tensors

/// Embeddings, centres and labels of one problem.
struct HeadProblem: Sendable {
    var embeddings: [Double]
    var centres: [Double]
    var labels: [Int]
    var dimension: Int

    var rows: Int { labels.count }
    var classes: Int { centres.count / dimension }

    /// Five embeddings and seven centres in six dimensions from closed formulas; row 4 points away from its centre.
    /// With `scaled`, row i is 8 + 5i times as long.
    static func closedForm(scaled: Bool = false) -> HeadProblem {
        var centres: [Double] = []
        for c in 0..<7 {
            for j in 0..<6 {
                centres.append(cos(0.9 * Double(c) + 1.1 * Double(j) + 0.37 * Double(c) * Double(j)))
            }
        }
        var embeddings: [Double] = []
        for i in 0..<5 {
            for j in 0..<6 {
                let value =
                    i < 4
                    ? sin(1.3 * Double(i) + 0.7 * Double(j) + 0.1) : -centres[5 * 6 + j] + 0.1 * sin(Double(j))
                embeddings.append(scaled ? value * Double(8 + 5 * i) : value)
            }
        }
        return HeadProblem(embeddings: embeddings, centres: centres, labels: [2, 0, 6, 3, 5], dimension: 6)
    }

    /// Gaussian embeddings around their centres, from a fixed stream.
    static func random(rows: Int, classes: Int, dimension: Int, seed: UInt64, labels: [Int]? = nil) -> HeadProblem {
        var stream = RandomStream(seed: seed, purpose: .test, index: 0)
        let centres = (0..<classes * dimension).map { _ in stream.normal() }
        let labels = labels ?? (0..<rows).map { _ in stream.below(classes) }
        var embeddings: [Double] = []
        for label in labels {
            for j in 0..<dimension { embeddings.append(0.6 * centres[label * dimension + j] + stream.normal()) }
        }
        return HeadProblem(embeddings: embeddings, centres: centres, labels: labels, dimension: dimension)
    }
}

/// What a step of the sharded classifier gave, put together from all ranks.
struct HeadOutcome: Sendable {
    var results: [ClassificationResult]
    /// (N x d) and (C x d).
    var embeddingGradient: [Double]
    var centreGradient: [Double]
    /// cos θ_y and the largest other cosine of every row as each rank saw them.
    var targetCosines: [[Double]]
    var nearestNegatives: [[Double]]
    var statistics: [[String: Double]]

    var loss: Double { results[0].loss }
}

extension HeadProblem {
    /// Runs `steps` steps of the classifier on `ranks` ranks, on threads, and returns the last one's outcome.
    func run<Scalar: HeadScalar>(
        _ type: Scalar.Type, _ margin: any MarginFunction, ranks: Int = 1, blockColumns: Int? = nil,
        keepsLogits: Bool? = nil, frozen: Bool = false, steps: Range<Int> = 0..<1
    ) throws -> HeadOutcome {
        precondition(rows % ranks == 0, "\(rows) rows over \(ranks) ranks")
        let shards = try InProcessGroup.run(ranks: ranks) { communicator in
            let head = self.classifier(
                type, margin, communicator, threads: ranks == 1 ? 2 : 1, blockColumns: blockColumns,
                keepsLogits: keepsLogits, frozen: frozen)
            let batch = self.rows / ranks
            let own = communicator.rank * batch..<(communicator.rank + 1) * batch
            let embeddings = Tensor([batch, self.dimension], dtype: Scalar.dtype)
            let d = self.dimension
            _ = Scalar.elements(embeddings).update(
                fromContentsOf: self.embeddings[own.lowerBound * d..<own.upperBound * d].map { Scalar($0) })
            var result: ClassificationResult?
            for step in steps {
                try self.labels[own].withUnsafeBufferPointer { try head.begin(labels: $0) }
                result = try head.step(embeddings: embeddings, step: step)
            }
            return HeadOutcome(
                results: [result!], embeddingGradient: Scalar.elements(head.embeddingGradient).map { Double($0) },
                centreGradient: Scalar.elements(head.gradient).map { Double($0) },
                targetCosines: [Array(head.targetCosines)], nearestNegatives: [Array(head.nearestNegativeCosines)],
                statistics: [head.margin.statistics])
        }
        return HeadOutcome(
            results: shards.flatMap(\.results), embeddingGradient: shards.flatMap(\.embeddingGradient),
            centreGradient: shards.flatMap(\.centreGradient), targetCosines: shards.flatMap(\.targetCosines),
            nearestNegatives: shards.flatMap(\.nearestNegatives), statistics: shards.flatMap(\.statistics))
    }

    /// The classifier of one rank with this problem's centres.
    func classifier<Scalar: HeadScalar>(
        _ type: Scalar.Type, _ margin: any MarginFunction, _ communicator: any Communicator, threads: Int = 1,
        blockColumns: Int? = nil, keepsLogits: Bool? = nil, keepsGradient: Bool = true, frozen: Bool = false,
        sampling: ClassSampling? = nil, storage: HeadStorage? = nil
    ) -> ShardedClassifier<Scalar> {
        let head = ShardedClassifier<Scalar>(
            classes: classes, dimension: dimension, batch: rows / communicator.size, margin: margin,
            communicator: communicator, pool: ThreadPool(threads: threads), seed: 1, frozen: frozen,
            keepsGradient: keepsGradient, blockColumns: blockColumns, keepsLogits: keepsLogits, sampling: sampling,
            storage: storage)
        let all = Tensor([classes, dimension], dtype: Scalar.dtype)
        _ = Scalar.elements(all).update(fromContentsOf: centres.map { Scalar($0) })
        head.load(0..<classes, centres: all)
        return head
    }
}

/// The largest difference of two vectors, relative to the largest element of the second.
func relativeDifference(_ a: [Double], _ b: [Double]) -> Double {
    precondition(a.count == b.count, "\(a.count) against \(b.count) elements")
    let scale = b.reduce(1e-300) { max($0, abs($1)) }
    return zip(a, b).reduce(0) { max($0, abs($1.0 - $1.1)) } / scale
}
