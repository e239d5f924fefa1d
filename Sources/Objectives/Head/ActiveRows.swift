internal import Tensors

/// The rows of class centres that a step compares with, and what belongs to them: all of the shard's, in place, or a
/// sample, gathered.
struct ActiveRows<Scalar: HeadScalar> {
    /// (capacity x d)
    let centres: Tensor
    /// dL/dW, (capacity x d); (0 x d) where the centres are frozen.
    let gradient: Tensor
    /// 1/‖w‖, (capacity)
    let inverses: Tensor

    /// All rows of a shard.
    init(whole centres: Tensor, frozen: Bool) {
        self.init(centres, rows: centres.shape[0], frozen: frozen)
    }

    /// Room for a sample.
    init(capacity: Int, dimension: Int, frozen: Bool) {
        self.init(Tensor([capacity, dimension], dtype: Scalar.dtype), rows: capacity, frozen: frozen)
    }

    private init(_ centres: Tensor, rows: Int, frozen: Bool) {
        self.centres = centres
        gradient = Tensor([frozen ? 0 : rows, centres.shape[1]], dtype: Scalar.dtype)
        inverses = Tensor([rows], dtype: Scalar.dtype)
    }
}
