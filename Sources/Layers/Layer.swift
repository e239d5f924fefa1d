package import CKernels
package import Tensors

/// Whether batch norms use the batch's statistics and dropout drops.
package enum Mode: Sendable { case training, evaluation }

/// In what numbers maps are stored and convolutions multiply; sums, statistics, weights and everything from the embedding
/// layer on are fp32 in either.
package enum Precision: String, Sendable, CaseIterable, Codable {
    case fp32, bf16

    package var mapType: ak_dtype { self == .fp32 ? AK_F32 : AK_BF16 }
}

/// What a pass knows beside its maps.
package struct PassContext {
    package let pool: ThreadPool
    package var mode: Mode
    /// Scratch memory shared by all layers, of at least the largest `workspaceByteCount`.
    package let workspace: UnsafeMutableRawPointer
    /// Room for one layer's packed weights, of at least the largest `packedByteCount`.
    package let packed: UnsafeMutableRawPointer
    /// Plain NCHW fp32 images, read by the stem.
    package var images: UnsafePointer<Float>?
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
    /// The layer below applies this norm's backward to what it reads: nothing to do but to prepare the coefficients.
    case chained
}

/// The maps and the memory of one layer in one execution.
package struct Operands {
    package var inputs: [ak_source]
    /// The inputs as backward finds them: some are computed once more, in other memory.
    package var keptInputs: [ak_source]
    /// Without data where the readers apply the norm themselves.
    package var output: ak_map
    /// What backward needs beside maps, of `savedByteCount` bytes.
    package let saved: UnsafeMutableRawPointer
    /// Where forward leaves its output's moments; nil where nobody asks.
    package var moments: OpaquePointer?
    /// Of norms: room for the moments of the first input, and whether the layer that wrote it has gathered them.
    package var inputMoments: OpaquePointer?
    package var inputMomentsAreGathered = false

    package var outputGradient = ak_gradient()
    package var targets: [GradientTarget]
    /// What to gather of the first input's gradient for the norm that made that input; no sums where nobody asks.
    package var reduction = ak_reduction()
    /// Of norms: room for the sums over the output's gradient, and whether the layer that wrote it has gathered them.
    package var sums: OpaquePointer?
    package var sumsAreGathered = false
}

/// What a layer can take over from the norms around it.
package struct Fusion: Sendable {
    /// By input: is it read through a norm and PReLU that were not applied to the stored map?
    package var readsThroughNorm: [Bool]
    /// Does forward gather its output's moments?
    package var gathersMoments = false
    /// Does backward apply the backward of the norm above to the gradient that it reads?
    package var chains = false
    /// Does backward gather the sums over its first input's gradient that the norm below needs?
    package var reduces = false

    package static let none = Fusion(readsThroughNorm: [false, false])
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
    func workspaceByteCount(_ inputs: [MapShape], _ dtype: ak_dtype, batch: Int, threads: Int) -> Int
    /// Bytes of the weights as the kernels take them, of the larger direction.
    func packedByteCount(_ dtype: ak_dtype) -> Int

    /// - Parameter dtype: of the output.
    func fusion(_ dtype: ak_dtype) -> Fusion
    /// Does the layer take fp32 inputs only?
    var needsFullPrecision: Bool { get }
    /// Has the output the inputs' element type, whatever that is?
    var keepsPrecision: Bool { get }
    /// Does backward read this input of forward?
    func backwardReads(input: Int) -> Bool
    /// May the gradient of the first input overwrite the gradient of the output?
    var backwardWorksInPlace: Bool { get }
    /// The input whose gradient equals the output's, if there is one (a residual).
    var passThroughInput: Int? { get }

    func forward(_ operands: Operands, _ context: PassContext)
    /// Writes the gradients of the trained parameters and of the inputs.
    func backward(_ operands: Operands, _ context: PassContext)
}

extension Layer {
    package var parameters: [Parameter] { [] }
    package var buffers: [StateBuffer] { [] }
    package func savedByteCount(_ inputs: [MapShape], batch: Int) -> Int { 0 }
    package func workspaceByteCount(_ inputs: [MapShape], _ dtype: ak_dtype, batch: Int, threads: Int) -> Int { 0 }
    package func packedByteCount(_ dtype: ak_dtype) -> Int { 0 }
    package func fusion(_ dtype: ak_dtype) -> Fusion { .none }
    package var needsFullPrecision: Bool { false }
    package var keepsPrecision: Bool { false }
    package func backwardReads(input: Int) -> Bool { false }
    package var backwardWorksInPlace: Bool { false }
    package var passThroughInput: Int? { nil }
}
