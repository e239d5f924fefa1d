internal import Tensors

/// The buffers of a `ShardedClassifier`, allocated once. N rows of the global batch, B of the rank.
struct HeadWorkspace<Scalar: HeadScalar> {
    /// Elements of the logit matrix that a recomputing backward pass handles at a time, at most.
    static var slopeColumns: Int { 4096 }

    let rows: Int
    /// Columns of the logit buffer and of the slope buffer.
    let columns: Int
    let recomputedColumns: Int
    private let ownKeyCount: Int

    /// Raw embeddings (N x d) and the partial gradient with respect to them (N x d).
    let embeddings: Tensor
    let partialGradient: Tensor
    let logits: Tensor
    let slopes: Tensor?
    private let inverses: Tensor
    private let integers: Tensor
    private let doubles: Tensor
    private let scalars: Tensor
    private let activationStorage: AlignedBuffer
    private let targetStorage: AlignedBuffer
    private let radialStorage: AlignedBuffer

    init(rows: Int, batch: Int, dimension: Int, columns: Int, withSlopes: Bool) {
        self.rows = rows
        self.columns = columns
        recomputedColumns = min(columns, Self.slopeColumns)
        embeddings = Tensor([rows, dimension], dtype: Scalar.dtype)
        partialGradient = Tensor([rows, dimension], dtype: Scalar.dtype)
        logits = Tensor([rows, columns], dtype: Scalar.dtype)
        slopes = withSlopes ? Tensor([rows, recomputedColumns], dtype: Scalar.dtype) : nil
        inverses = Tensor([rows], dtype: Scalar.dtype)
        integers = Tensor([2 * batch + 4 * rows], dtype: .int64)
        doubles = Tensor([Self.vectors * rows], dtype: .float64)
        scalars = Tensor([2 * rows], dtype: Scalar.dtype)
        activationStorage = AlignedBuffer(byteCount: rows * MemoryLayout<RowActivation>.stride)
        targetStorage = AlignedBuffer(byteCount: 2 * rows * MemoryLayout<Int>.stride)
        radialStorage = AlignedBuffer(byteCount: rows * MemoryLayout<RadialTerm>.stride)
        ownKeyCount = 2 * batch
        activations.initialize(repeating: RowActivation(), count: rows)
        localColumns.initialize(repeating: -1, count: 2 * rows)
        radials.initialize(repeating: RadialTerm(), count: rows)
    }

    // Per-row vectors in double. The first two are reduced by MAX together, the next three by SUM.
    private static var vectors: Int { 12 }
    private func vector(_ index: Int, count: Int = 1) -> UnsafeMutableBufferPointer<Double> {
        UnsafeMutableBufferPointer(rebasing: doubles.doubles[index * rows..<(index + count) * rows])
    }
    /// Largest raw cosine to another class; the largest logit.
    var negativeMaxima: UnsafeMutableBufferPointer<Double> { vector(0) }
    var logitMaxima: UnsafeMutableBufferPointer<Double> { vector(1) }
    var maximumPack: UnsafeMutableBufferPointer<Double> { vector(0, count: 2) }
    /// Σ exp(z − m) over the other classes; z_y − m on the owner and 0 elsewhere; cos θ_y likewise.
    var negativeSums: UnsafeMutableBufferPointer<Double> { vector(2) }
    var shiftedTargets: UnsafeMutableBufferPointer<Double> { vector(3) }
    var targetCosines: UnsafeMutableBufferPointer<Double> { vector(4) }
    var sumPack: UnsafeMutableBufferPointer<Double> { vector(2, count: 3) }
    /// The shard's own maximum, which its exponentials are relative to.
    var localMaxima: UnsafeMutableBufferPointer<Double> { vector(5) }
    var localSums: UnsafeMutableBufferPointer<Double> { vector(6) }
    var norms: UnsafeMutableBufferPointer<Double> { vector(7) }
    var scaleSlopes: UnsafeMutableBufferPointer<Double> { vector(8) }
    var targetSlopes: UnsafeMutableBufferPointer<Double> { vector(9) }
    var targetNormSlopes: UnsafeMutableBufferPointer<Double> { vector(10) }
    /// cos θ_y on the owner, 0 elsewhere.
    var localTargetCosines: UnsafeMutableBufferPointer<Double> { vector(11) }

    /// Coefficients of backward take the place of vectors that forward is done with.
    var coefficients: UnsafeMutableBufferPointer<Double> { localSums }
    var targetGradients: UnsafeMutableBufferPointer<Double> { shiftedTargets }

    /// The shard's maximum and one block's sums in the element type.
    var blockMaxima: UnsafeMutablePointer<Scalar> { Scalar.elements(scalars).baseAddress! }
    var blockSums: UnsafeMutablePointer<Scalar> { blockMaxima + rows }

    /// 1/‖x‖ (N).
    var rowInverse: UnsafeMutablePointer<Scalar> { Scalar.elements(inverses).baseAddress! }

    /// Labels and record indices: of the rank, interleaved by rank as gathered, and in row order.
    var ownKeys: UnsafeMutableBufferPointer<Int64> { integerRange(0, ownKeyCount) }
    var gatheredKeys: UnsafeMutableBufferPointer<Int64> { integerRange(ownKeyCount, 2 * rows) }
    var labels: UnsafeMutableBufferPointer<Int64> { integerRange(ownKeyCount + 2 * rows, rows) }
    var samples: UnsafeMutableBufferPointer<Int64> { integerRange(ownKeyCount + 3 * rows, rows) }
    private func integerRange(_ start: Int, _ count: Int) -> UnsafeMutableBufferPointer<Int64> {
        UnsafeMutableBufferPointer(rebasing: integers.int64s[start..<start + count])
    }

    /// The column of each row's class among the active rows, −1 elsewhere; the same relative to a block.
    var localColumns: UnsafeMutablePointer<Int> { targetStorage.base.assumingMemoryBound(to: Int.self) }
    var blockTargets: UnsafeMutablePointer<Int> { localColumns + rows }
    var activations: UnsafeMutablePointer<RowActivation> {
        activationStorage.base.assumingMemoryBound(to: RowActivation.self)
    }
    var radials: UnsafeMutablePointer<RadialTerm> { radialStorage.base.assumingMemoryBound(to: RadialTerm.self) }
}
