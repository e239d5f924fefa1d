package import Collectives
package import Tensors

/// How class centres start. Row c is drawn from the stream (seed, class centres, c), so it does not depend on the
/// number of ranks.
package enum CentreInitializer: Sendable, Equatable {
    /// Each element N(0, σ²); arcface_torch, CurricularFace, ElasticFace and CR-FIQA use σ = 0.01.
    case normal(standardDeviation: Double)
    /// Uniform in (−1, 1), then scaled to unit length; AdaFace, QGFace and MagFace.
    case unitUniform
}

/// What one step of the head measured; the same on every rank.
package struct ClassificationResult: Sendable, Equatable {
    /// Cross-entropy and the margin function's penalty, mean over the global batch.
    package var loss: Double
    /// The penalty's share of the loss.
    package var penalty: Double
    /// Fraction of rows whose own centre is strictly nearer than every other, by raw cosine.
    package var accuracy: Double
    /// Mean cosine to the own centre.
    package var targetCosine: Double
}

/// Why a step of the head was refused; every rank throws the same.
package enum ClassificationError: Error, Equatable, CustomStringConvertible {
    case labelOutOfRange(label: Int64, rank: Int, row: Int, sample: Int64, classes: Int)

    package var description: String {
        switch self {
        case .labelOutOfRange(let label, let rank, let row, let sample, let classes):
            "record \(sample) (row \(row) of rank \(rank)) has label \(label), but the head has classes "
                + "0..<\(classes); rebuild the class list from the data set"
        }
    }
}

/// Softmax classification against class centres that are sharded over the ranks (An et al., "Partial FC", ICCVW 2021).
///
/// Embeddings travel, centres and logits never do: each rank compares the whole global batch with its own classes, and
/// two small reductions, of 2N and 3N values, join the softmax. The loss is divided by the global batch N = B·P, and
/// gradients are summed: `gradient` is that of the shard's centres, complete as it is; `embeddingGradient` is that of
/// the rank's own raw embeddings, complete as it is. Neither may be averaged over ranks.
///
/// A step is `begin` (labels; may run beside the backbone's forward pass) and `step` (embeddings). All buffers are
/// allocated at the start. The logits take N x `blockColumns` elements; where a shard has more classes than that, or
/// a rule for negatives took effect, its cosines are computed twice.
package final class ShardedClassifier<Scalar: HeadScalar> {
    package let shards: ShardMap
    /// The global class indices of this rank's rows.
    package let classRange: Range<Int>
    /// d, the length of an embedding.
    package let dimension: Int
    /// B, rows per rank.
    package let batch: Int
    package let isFrozen: Bool
    package var margin: any MarginFunction

    /// Class centres of the shard, (C_local x d).
    package let centres: Tensor
    /// dL/dW of the last step and the optimizer's momentum, (C_local x d); (0 x d) where the centres are frozen.
    package let gradient: Tensor
    package let momentum: Tensor
    /// dL/dx of the last step with respect to this rank's raw embeddings, (B x d).
    package let embeddingGradient: Tensor

    let communicator: any Communicator
    let pool: ThreadPool
    let blockColumns: Int
    let work: HeadWorkspace<Scalar>

    /// - Parameters:
    ///   - classes: C over all ranks.
    ///   - dimension: d.
    ///   - batch: B, rows per rank and step; the same on every rank.
    ///   - margin: the head; all ranks pass the same function in the same state.
    ///   - initializer: how the centres start.
    ///   - frozen: centres are given and not trained: no gradient or momentum is held.
    ///   - blockColumns: at most this many columns of logits exist at a time; all of the shard's by default.
    package init(
        classes: Int, dimension: Int, batch: Int, margin: any MarginFunction, communicator: any Communicator,
        pool: ThreadPool, seed: UInt64, initializer: CentreInitializer = .normal(standardDeviation: 0.01),
        frozen: Bool = false, blockColumns: Int? = nil
    ) {
        precondition(dimension > 0 && batch > 0, "batch \(batch) of embeddings of length \(dimension)")
        shards = ShardMap(classes: classes, ranks: communicator.size)
        classRange = shards.range(ofRank: communicator.rank)
        self.dimension = dimension
        self.batch = batch
        self.margin = margin
        self.communicator = communicator
        self.pool = pool
        isFrozen = frozen
        let local = classRange.count
        let columns = max(1, min(local, blockColumns ?? local))
        self.blockColumns = columns
        centres = Tensor([local, dimension], dtype: Scalar.dtype)
        gradient = Tensor([frozen ? 0 : local, dimension], dtype: Scalar.dtype)
        momentum = Tensor([frozen ? 0 : local, dimension], dtype: Scalar.dtype)
        embeddingGradient = Tensor([batch, dimension], dtype: Scalar.dtype)
        work = HeadWorkspace(
            rows: batch * communicator.size, batch: batch, dimension: dimension, classes: local, columns: columns,
            withSlopes: margin.modifiesNegatives)
        initialize(initializer, seed: seed)
    }

    /// Bytes of a shard of `classes` classes; see `init`.
    package static func byteCounts(
        classes: Int, dimension: Int, batch: Int, ranks: Int, margin: any MarginFunction, frozen: Bool = false
    ) -> (centres: Int, gradient: Int, momentum: Int, workspace: Int) {
        let centres = classes * dimension * MemoryLayout<Scalar>.stride
        let workspace = HeadWorkspace<Scalar>.byteCount(
            rows: batch * ranks, dimension: dimension, classes: classes, columns: max(1, classes),
            withSlopes: margin.modifiesNegatives)
        return (centres, frozen ? 0 : centres, frozen ? 0 : centres, workspace)
    }

    /// N, rows of the global batch.
    package var globalBatch: Int { batch * communicator.size }
    /// Rows of the global batch that are this rank's own.
    package var ownRows: Range<Int> { communicator.rank * batch..<(communicator.rank + 1) * batch }

    /// Cosine to the own centre for every row of the global batch in the last step, (N), the same on every rank.
    package var targetCosines: UnsafeBufferPointer<Double> { UnsafeBufferPointer(work.targetCosines) }
    /// Largest cosine to another centre (the nearest negative class centre) for every row, (N), the same on every rank.
    package var nearestNegativeCosines: UnsafeBufferPointer<Double> { UnsafeBufferPointer(work.negativeMaxima) }
    /// The labels that `begin` gathered, (N).
    package var gatheredLabels: UnsafeBufferPointer<Int64> { UnsafeBufferPointer(work.labels) }
    /// The embeddings that `step` gathered, (N x d).
    package var gatheredEmbeddings: Tensor { work.embeddings }

    /// Raw cosines of any embeddings to the shard's centres, without margin or scale.
    ///
    /// - Parameters:
    ///   - embeddings: (n x d), any n.
    ///   - result: (n x C_local).
    package func cosines(of embeddings: Tensor, into result: Tensor) {
        let rows = embeddings.shape[0]
        precondition(embeddings.shape == [rows, dimension], "embeddings \(embeddings.shape), d = \(dimension)")
        precondition(
            result.shape == [rows, classRange.count], "cosines \(result.shape) for \(rows) x \(classRange.count)")
        guard rows > 0, !classRange.isEmpty else { return }
        let x = UnsafePointer(Scalar.elements(embeddings).baseAddress!)
        let values = Scalar.elements(result).baseAddress!
        let inverses = Tensor([rows], dtype: Scalar.dtype)
        Scalar.inverseNorms(pool, x, rows: rows, columns: dimension, into: Scalar.elements(inverses).baseAddress!)
        refreshCentreNorms()
        Scalar.gemm(
            pool, transposeA: false, transposeB: true, m: rows, n: classRange.count, k: dimension, a: x,
            b: Scalar.elements(centres).baseAddress!, beta: 0, c: values)
        var states = [RowActivation](repeating: RowActivation(scale: 1), count: rows)
        let elsewhere = [Int](repeating: -1, count: rows)
        withExtendedLifetime(inverses) {
            states.withUnsafeMutableBufferPointer { states in
                elsewhere.withUnsafeBufferPointer { elsewhere in
                    let block = LogitBlock(
                        values: values, slopes: nil, rows: rows, columns: classRange.count,
                        targets: elsewhere.baseAddress!, rowInverse: Scalar.elements(inverses).baseAddress!,
                        columnInverse: work.columnInverse)
                    Scalar.activate(pool, block, states.baseAddress!)
                }
            }
        }
    }

    func refreshCentreNorms() {
        Scalar.inverseNorms(
            pool, Scalar.elements(centres).baseAddress!, rows: classRange.count, columns: dimension,
            into: work.columnInverse)
    }
}
