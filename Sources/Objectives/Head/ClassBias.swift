package import Tensors

/// A trained number for each class of a shard, added to its logits: b of z = x·w + b, with its momentum, (C_local) each.
/// It starts at 0.
package struct ClassBias<Scalar: HeadScalar> {
    package let values: Tensor
    /// (0) where the head is frozen.
    package let momentum: Tensor

    init(classes: Int, frozen: Bool) {
        values = Tensor([classes], dtype: Scalar.dtype)
        momentum = Tensor([frozen ? 0 : classes], dtype: Scalar.dtype)
    }
}
