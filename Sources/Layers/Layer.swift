package import CKernels
package import Tensors

/// Whether batch norms use the batch's statistics and dropout drops.
package enum Mode: Sendable { case training, evaluation }

/// What a pass knows beside its maps.
package struct PassContext {
    package let pool: ThreadPool
    package var mode: Mode
    /// Scratch memory shared by all layers, of at least the largest `workspaceByteCount`.
    package let workspace: UnsafeMutableRawPointer
    /// Plain NCHW fp32 images, read by the stem.
    package var images: UnsafePointer<Float>?
    package var batch: Int
    /// Keys dropout: the same image of the same step drops the same units on any number of ranks.
    package var seed: UInt64
    package var step: UInt64
    package var firstImage: UInt64
    /// Add to the parameters' gradients instead of replacing them (micro-batches of one update).
    package var accumulate: Bool
}

/// Where the gradient of one input goes.
package enum GradientTarget {
    /// Nobody needs it.
    case none
    case write(ak_map)
    case add(ak_map)
    /// The input's gradient equals the output's and shares its memory: nothing to do.
    case shared
}

/// One step of a network with explicit forward and backward on blocked maps.
///
/// A layer owns parameters, but nothing of a particular pass: what backward needs beside its maps is kept in `saved`
/// memory, one block per execution, so that two forward passes may be alive at once.
package protocol Layer: AnyObject {
    var parameters: [Parameter] { get }
    var buffers: [StateBuffer] { get }

    func outputShape(of inputs: [MapShape]) -> MapShape
    /// Bytes kept from forward to backward.
    func savedByteCount(_ inputs: [MapShape], batch: Int) -> Int
    func workspaceByteCount(_ inputs: [MapShape], batch: Int, threads: Int) -> Int

    /// Does backward read the inputs or the output of forward?
    var backwardReadsInputs: Bool { get }
    /// May the gradient of the first input overwrite the gradient of the output?
    var backwardWorksInPlace: Bool { get }
    /// The input whose gradient equals the output's, if there is one (a residual).
    var passThroughInput: Int? { get }

    /// Called after the parameters changed and before the next forward.
    func parametersChanged(_ pool: ThreadPool)
    func forward(_ inputs: [ak_map], _ output: ak_map, saved: UnsafeMutableRawPointer, _ context: PassContext)
    /// Writes the gradients of the trained parameters and of the inputs.
    func backward(
        _ inputs: [ak_map], _ outputGradient: ak_map, _ inputGradients: [GradientTarget],
        saved: UnsafeMutableRawPointer, _ context: PassContext)
}

extension Layer {
    package var parameters: [Parameter] { [] }
    package var buffers: [StateBuffer] { [] }
    package func savedByteCount(_ inputs: [MapShape], batch: Int) -> Int { 0 }
    package func workspaceByteCount(_ inputs: [MapShape], batch: Int, threads: Int) -> Int { 0 }
    package var backwardReadsInputs: Bool { false }
    package var backwardWorksInPlace: Bool { false }
    package var passThroughInput: Int? { nil }
    package func parametersChanged(_ pool: ThreadPool) {}
}
