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
    /// Fraction of rows whose own centre is strictly nearer than every other, by raw cosine, or by logit where the
    /// margin function does not normalise; than every other of the sample, where classes are sampled.
    package var accuracy: Double
    /// Mean cosine to the own centre; mean logit of the own class where the margin function does not normalise.
    package var targetCosine: Double
    /// What the margin function tells, by name.
    package var metrics = Metrics()
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
/// Where classes are sampled, a step knows only the sampled rows: they are gathered side by side, and the update writes
/// to their places in the shard. Whatever follows from all negatives, such as the nearest one, is then over the sample.
/// At rate 1 nothing is gathered: it is the unsampled step, bit for bit.
///
/// A step is `begin` (labels; may run beside the backbone's forward pass), `step` (embeddings) and `update`. All buffers
/// are allocated at the start. How many logits exist at a time, and whether they are computed twice, `LogitBlocks` says;
/// where a rule for negatives took effect, the blocks concerned are computed twice in any case.
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
    /// The optimizer's momentum, (C_local x d); (0 x d) where the centres are frozen.
    package let momentum: Tensor
    /// What is added to each class's logits, if the margin function asks for it.
    package let bias: ClassBias<Scalar>?
    /// dL/dx of the last step with respect to this rank's raw embeddings, (B x d).
    package let embeddingGradient: Tensor
    /// Where the parts of a step are noted; nil for nowhere.
    package var trace: TraceRecorder?
    /// Adds to the shard's part of the gradient of the embeddings, before the ranks' parts are summed; nil for nothing.
    var addend: ((ShardedClassifier) -> Void)?

    let communicator: any Communicator
    let pool: ThreadPool
    let work: HeadWorkspace<Scalar>
    var logits: LogitMemory<Scalar>
    /// Whether a step leaves the gradient of its centres in `gradient`.
    package let holdsGradient: Bool
    /// Room for rows of that gradient, for each thread, where an update makes some of them at a time.
    let panels: Tensor
    /// nil where every class takes part.
    let sampler: ClassSampler?
    var active: ActiveRows<Scalar>
    /// Local classes with a gradient of zero, −1, or its row, for an update that moves every row.
    let sources: AlignedBuffer

    /// - Parameters:
    ///   - classes: C over all ranks.
    ///   - dimension: d.
    ///   - batch: B, rows per rank and step; the same on every rank.
    ///   - margin: the head; all ranks pass the same function in the same state.
    ///   - initializer: how the centres start.
    ///   - frozen: centres are given and not trained: no gradient or momentum is held.
    ///   - keepsGradient: a step leaves the gradient of its centres in memory, to be read or summed over passes. Otherwise
    ///     the update may compute it from the logits, a few rows at a time.
    ///   - blockColumns: columns of logits that are computed together; chosen by size by default. Fewer than all of a step's
    ///     exist one block at a time, unless `keepsLogits` says that all are kept.
    ///   - keepsLogits: all logits of a step exist at a time; chosen by size by default.
    ///   - sampling: which classes take part in a step; all by default.
    ///   - storage: where centres and momentum lie; in memory of their own by default.
    package init(
        classes: Int, dimension: Int, batch: Int, margin: any MarginFunction, communicator: any Communicator,
        pool: ThreadPool, seed: UInt64, initializer: CentreInitializer = .normal(standardDeviation: 0.01),
        frozen: Bool = false, keepsGradient: Bool = true, blockColumns: Int? = nil, keepsLogits: Bool? = nil,
        sampling: ClassSampling? = nil, storage: HeadStorage? = nil
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
        let storage = storage ?? HeadStorage(rows: local, dimension: dimension, dtype: Scalar.dtype, frozen: frozen)
        precondition(
            storage.centres.shape == [local, dimension] && storage.momentum.shape == [frozen ? 0 : local, dimension],
            "storage of \(storage.centres.shape) and \(storage.momentum.shape) for \(local) x \(dimension)")
        centres = storage.centres
        momentum = storage.momentum
        let bias = margin.normalisation == .none(bias: true) ? ClassBias<Scalar>(classes: local, frozen: frozen) : nil
        self.bias = bias
        let rows = batch * communicator.size
        let isSampled = (sampling?.rate ?? 1) < 1
        let width = isSampled ? sampling!.capacity(classes: local, positives: rows) : local
        let blocks = LogitBlocks(
            rows: rows, width: width, dimension: dimension, elementBytes: Scalar.dtype.byteCount, columns: blockColumns,
            areKept: keepsLogits)
        logits = LogitMemory(blocks, rows: rows, width: width, withSlopes: margin.modifiesNegatives)
        // An update that moves every row looks for each row's gradient.
        let isDense = isSampled && sampling?.momentum == .dense
        let holdsGradient = !frozen && (keepsGradient || isDense || !blocks.areKept)
        self.holdsGradient = holdsGradient
        // Biases are added to by products, which only those of BLAS do.
        let packedCount = bias == nil ? Scalar.packedCount(rows: rows, columns: dimension) : 0
        panels = Tensor(
            [frozen || holdsGradient || packedCount > 0 ? 0 : pool.threads, Self.panelRows, dimension],
            dtype: Scalar.dtype)
        if let sampling, isSampled {
            sampler = ClassSampler(sampling, classes: classRange, rank: communicator.rank, seed: seed)
            active = ActiveRows(
                capacity: width, dimension: dimension, hasBias: bias != nil, frozen: frozen,
                holdsGradient: holdsGradient)
            sources = AlignedBuffer(byteCount: isDense && !frozen ? 4 * local : 0)
        } else {
            sampler = nil
            active = ActiveRows(
                whole: centres, biases: bias?.values, frozen: frozen, holdsGradient: holdsGradient)
            sources = AlignedBuffer(byteCount: 0)
        }
        embeddingGradient = Tensor([batch, dimension], dtype: Scalar.dtype)
        work = HeadWorkspace(rows: rows, batch: batch, dimension: dimension, packedCount: packedCount)
        initialize(initializer, seed: seed)
    }

    /// Whether a step compares with every class: what needs all negatives must not be given a sample.
    package var comparesEveryClass: Bool { sampler == nil }
    /// Rows that take part in the step that `begin` has prepared: all of the shard's, or the sample's.
    package var activeCount: Int { sampler?.count ?? classRange.count }
    /// Local indices of the sampled rows, rising; nil where every class takes part.
    package var activeRows: UnsafeBufferPointer<Int32>? { sampler?.indices }
    /// How many logits exist at a time.
    package var logitBlocks: LogitBlocks { logits.blocks }
    /// Rows of the gradient that a thread makes at a time where none is held: with the centres and their momentum they fit
    /// into a cache of a few MiB.
    static var panelRows: Int { 256 }
    /// dL/dW of the last step, one row per active row, in the order of `activeRows`; rows beyond `activeCount` mean
    /// nothing. (0 x d) where none is held.
    package var gradient: Tensor { active.gradient }
    /// dL/db likewise; empty where there are no biases, or frozen ones.
    package var biasGradient: Tensor { active.biasGradient }
    /// Rows that a step has room for; a sample that needs more makes it grow.
    package var rowCapacity: Int { active.centres.shape[0] }

    /// N, rows of the global batch.
    package var globalBatch: Int { batch * communicator.size }
    /// Rows of the global batch that are this rank's own.
    package var ownRows: Range<Int> { communicator.rank * batch..<(communicator.rank + 1) * batch }

    /// Cosine to the own centre for every row of the global batch in the last step, (N), the same on every rank. Where the
    /// margin function does not normalise, this and the next hold logits.
    package var targetCosines: UnsafeBufferPointer<Double> { UnsafeBufferPointer(work.targetCosines) }
    /// Largest cosine to another centre (the nearest negative class centre) for every row, (N), the same on every rank.
    package var nearestNegativeCosines: UnsafeBufferPointer<Double> { UnsafeBufferPointer(work.negativeMaxima) }
    /// ‖x‖ of every row in the last step, (N), the same on every rank.
    package var norms: UnsafeBufferPointer<Double> { UnsafeBufferPointer(work.norms) }
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
        let columnInverses = Tensor([classRange.count], dtype: Scalar.dtype)
        let columnInverse = Scalar.elements(columnInverses).baseAddress!
        Scalar.inverseNorms(
            pool, Scalar.elements(centres).baseAddress!, rows: classRange.count, columns: dimension,
            into: columnInverse)
        Scalar.gemm(
            pool, transposeA: false, transposeB: true, m: rows, n: classRange.count, k: dimension, a: x,
            b: Scalar.elements(centres).baseAddress!, beta: 0, c: values)
        var states = [RowActivation](repeating: RowActivation(scale: 1), count: rows)
        let elsewhere = [Int](repeating: -1, count: rows)
        withExtendedLifetime((inverses, columnInverses)) {
            states.withUnsafeMutableBufferPointer { states in
                elsewhere.withUnsafeBufferPointer { elsewhere in
                    let block = LogitBlock(
                        values: values, slopes: nil, rows: rows, columns: classRange.count,
                        targets: elsewhere.baseAddress!, rowInverse: Scalar.elements(inverses).baseAddress!,
                        columnInverse: columnInverse)
                    Scalar.activate(pool, block, states.baseAddress!)
                }
            }
        }
    }
}
