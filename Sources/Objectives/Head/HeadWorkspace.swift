internal import Tensors

/// The buffers of a `ShardedClassifier`, allocated once. N rows of the global batch, B of the rank.
struct HeadWorkspace<Scalar: HeadScalar> {
    let rows: Int
    private let ownKeyCount: Int

    /// Raw embeddings (N x d) and the partial gradient with respect to them (N x d).
    let embeddings: Tensor
    let partialGradient: Tensor
    /// The embeddings as `HeadScalar.products` takes them; (0) where it takes none.
    let packedEmbeddings: Tensor
    private let inverses: Tensor
    private let integers: Tensor
    private let doubles: Tensor
    private let scalars: Tensor
    private let activationStorage: AlignedBuffer
    private let targetStorage: AlignedBuffer
    private let radialStorage: AlignedBuffer

    init(rows: Int, batch: Int, dimension: Int, packedCount: Int) {
        self.rows = rows
        embeddings = Tensor([rows, dimension], dtype: Scalar.dtype)
        partialGradient = Tensor([rows, dimension], dtype: Scalar.dtype)
        packedEmbeddings = Tensor([packedCount], dtype: Scalar.dtype)
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
    private static var vectors: Int { 13 }
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
    /// The shard's own maximum, which the sum of its exponentials is relative to.
    var localMaxima: UnsafeMutableBufferPointer<Double> { vector(5) }
    var localSums: UnsafeMutableBufferPointer<Double> { vector(6) }
    var norms: UnsafeMutableBufferPointer<Double> { vector(7) }
    var scaleSlopes: UnsafeMutableBufferPointer<Double> { vector(8) }
    var targetSlopes: UnsafeMutableBufferPointer<Double> { vector(9) }
    var targetNormSlopes: UnsafeMutableBufferPointer<Double> { vector(10) }
    /// cos θ_y on the owner, 0 elsewhere.
    var localTargetCosines: UnsafeMutableBufferPointer<Double> { vector(11) }

    /// What of a row's coefficients all blocks share, and the coefficients of one block.
    var sharedCoefficients: UnsafeMutableBufferPointer<Double> { localSums }
    var coefficients: UnsafeMutableBufferPointer<Double> { vector(12) }
    /// Gradients of the targets take the place of a vector that forward is done with.
    var targetGradients: UnsafeMutableBufferPointer<Double> { shiftedTargets }

    /// What one block's exponentials are relative to, and their sums, in the element type.
    var blockShifts: UnsafeMutablePointer<Scalar> { Scalar.elements(scalars).baseAddress! }
    var blockSums: UnsafeMutablePointer<Scalar> { blockShifts + rows }

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
