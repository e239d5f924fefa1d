package import Tensors

/// A trained number for each class of a shard, added to its logits: b of z = x·w + b, with gradient and momentum,
/// (C_local) each. It starts at 0.
package struct ClassBias<Scalar: HeadScalar> {
    package let values: Tensor
    /// dL/db of the last step, and the optimizer's momentum; (0) where the head is frozen.
    package let gradient: Tensor
    package let momentum: Tensor

    init(classes: Int, frozen: Bool) {
        values = Tensor([classes], dtype: Scalar.dtype)
        gradient = Tensor([frozen ? 0 : classes], dtype: Scalar.dtype)
        momentum = Tensor([frozen ? 0 : classes], dtype: Scalar.dtype)
    }

    subscript(_ column: Int) -> Double { Double(Scalar.elements(values)[column]) }

    /// Every row of a (rows x columns.count) matrix becomes the biases of these columns, for products to be added to.
    func fill(_ matrix: UnsafeMutablePointer<Scalar>, rows: Int, columns: Range<Int>) {
        let source = UnsafeMutableBufferPointer(rebasing: Scalar.elements(values)[columns])
        for row in 0..<rows { (matrix + row * columns.count).update(from: source.baseAddress!, count: columns.count) }
    }

    /// The gradient of these columns from dL/dz, (rows x columns.count).
    func differentiate(_ logits: UnsafePointer<Scalar>, rows: Int, columns: Range<Int>) {
        let sums = Scalar.elements(gradient).baseAddress! + columns.lowerBound
        sums.update(repeating: 0, count: columns.count)
        Scalar.addColumnSums(logits, rows: rows, columns: columns.count, into: sums)
    }
}
