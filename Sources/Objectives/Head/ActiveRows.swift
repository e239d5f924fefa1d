internal import Tensors

/// The rows of class centres that a step compares with, and what belongs to them: all of the shard's, in place, or a
/// sample, gathered.
struct ActiveRows<Scalar: HeadScalar> {
    /// (capacity x d)
    let centres: Tensor
    /// dL/dW, (capacity x d); (0 x d) where the centres are frozen, or the update computes it for itself.
    let gradient: Tensor
    /// 1/‖w‖, (capacity)
    let inverses: Tensor
    /// b, and dL/db, (capacity); (0) where there is none.
    let biases: Tensor
    let biasGradient: Tensor

    /// All rows of a shard.
    init(whole centres: Tensor, biases: Tensor?, frozen: Bool, holdsGradient: Bool) {
        self.init(
            centres, biases: biases ?? Tensor([0], dtype: Scalar.dtype), rows: centres.shape[0], frozen: frozen,
            holdsGradient: holdsGradient)
    }

    /// Room for a sample.
    init(capacity: Int, dimension: Int, hasBias: Bool, frozen: Bool, holdsGradient: Bool) {
        self.init(
            Tensor([capacity, dimension], dtype: Scalar.dtype),
            biases: Tensor([hasBias ? capacity : 0], dtype: Scalar.dtype), rows: capacity, frozen: frozen,
            holdsGradient: holdsGradient)
    }

    private init(_ centres: Tensor, biases: Tensor, rows: Int, frozen: Bool, holdsGradient: Bool) {
        self.centres = centres
        self.biases = biases
        gradient = Tensor([holdsGradient ? rows : 0, centres.shape[1]], dtype: Scalar.dtype)
        biasGradient = Tensor([frozen ? 0 : biases.count], dtype: Scalar.dtype)
        inverses = Tensor([rows], dtype: Scalar.dtype)
    }

    /// b of a column; 0 without biases.
    func bias(_ column: Int) -> Double {
        biases.count > 0 ? Double(Scalar.elements(biases)[column]) : 0
    }

    /// Every row of a (rows x columns.count) matrix becomes the biases of these columns, for products to be added to.
    func fillBiases(_ matrix: UnsafeMutablePointer<Scalar>, rows: Int, columns: Range<Int>) {
        guard biases.count > 0 else { return }
        let source = Scalar.elements(biases).baseAddress! + columns.lowerBound
        for row in 0..<rows { (matrix + row * columns.count).update(from: source, count: columns.count) }
    }

    /// The gradient of these columns' biases from dL/dz, (rows x columns.count).
    func differentiateBiases(_ logits: UnsafePointer<Scalar>, rows: Int, columns: Range<Int>) {
        guard biasGradient.count > 0 else { return }
        let sums = Scalar.elements(biasGradient).baseAddress! + columns.lowerBound
        sums.update(repeating: 0, count: columns.count)
        Scalar.addColumnSums(logits, rows: rows, columns: columns.count, into: sums)
    }
}
