package import CKernels
import Tensors

/// A convolution without bias on blocked maps; weights (outputChannels, inputChannels/groups, kernel, kernel).
package final class Convolution: Layer {
    package let weight: Parameter
    package let inputChannels: Int
    package let outputChannels: Int
    package let kernel: (height: Int, width: Int)
    package let stride: Int
    package let padding: Int
    package let groups: Int
    private var geometry: ak_conv?

    /// - Parameters:
    ///   - name: the weight's name in the state dict.
    ///   - padding: 0 or 1 pixel on each side.
    package init(
        _ name: String, _ inputChannels: Int, _ outputChannels: Int, kernel: (height: Int, width: Int), stride: Int = 1,
        padding: Int = 0, groups: Int = 1, initializer: Initializer
    ) {
        self.inputChannels = inputChannels
        self.outputChannels = outputChannels
        self.kernel = kernel
        self.stride = stride
        self.padding = padding
        self.groups = groups
        weight = Parameter(
            name, [outputChannels, inputChannels / groups, kernel.height, kernel.width], role: .convolution,
            initializer: initializer)
    }

    package var parameters: [Parameter] { [weight] }
    package func backwardReads(input: Int) -> Bool { weight.isTrained }
    package var keepsPrecision: Bool { true }

    /// The kernels' description of this convolution on maps of the given size.
    package func description(for input: MapShape) -> ak_conv {
        ak_conv(
            c: Int32(inputChannels), k: Int32(outputChannels), kh: Int32(kernel.height), kw: Int32(kernel.width),
            stride: Int32(stride), pad: Int32(padding), groups: Int32(groups), h: Int32(input.height),
            w: Int32(input.width))
    }

    package func outputShape(of inputs: [MapShape]) -> MapShape {
        let input = inputs[0]
        precondition(
            input.channels == inputChannels, "\(weight.name): \(inputChannels) input channels, got \(input)")
        var conv = description(for: input)
        geometry = conv
        return MapShape(outputChannels, Int(ak_conv_out_h(&conv)), Int(ak_conv_out_w(&conv)))
    }

    package func workspaceByteCount(_ inputs: [MapShape], _ dtype: ak_dtype, batch: Int, threads: Int) -> Int {
        ak_conv_workspace_bytes(&geometry!, dtype, Int32(batch), Int32(threads))
    }

    package func packedByteCount(_ dtype: ak_dtype) -> Int {
        max(ak_conv_packed_bytes(&geometry!, dtype, AK_FORWARD), ak_conv_packed_bytes(&geometry!, dtype, AK_BACKWARD))
    }

    package func fusion(_ dtype: ak_dtype) -> Fusion {
        Fusion(
            readsThroughNorm: [true], gathersMoments: true, chains: ak_conv_chains(&geometry!, dtype), reduces: true)
    }

    /// Packed weights are not kept: they change with every update, and unpacked they are a fraction of the size.
    private func pack(_ direction: ak_direction, _ dtype: ak_dtype, _ context: PassContext) {
        ak_conv_pack(context.pool.handle, &geometry!, dtype, direction, weight.value.pointer, context.packed)
    }

    package func forward(_ operands: Operands, _ context: PassContext) {
        pack(AK_FORWARD, operands.output.dtype, context)
        ak_conv_forward(
            context.pool.handle, &geometry!, operands.inputs[0], context.packed, operands.output,
            context.mode == .training ? operands.moments : nil, context.workspace)
    }

    package func backward(_ operands: Operands, _ context: PassContext) {
        var gradients = ak_conv_gradients()
        switch operands.targets[0] {
        case .write(let target): gradients.dx = target
        case .add(let target):
            gradients.dx = target
            gradients.accumulate_dx = true
        case .none, .shared, .chained: break
        }
        if weight.isTrained { gradients.dw = weight.gradient?.pointer }
        gradients.accumulate_dw = context.accumulate
        if gradients.dx.data != nil {
            gradients.reduction = operands.reduction
            pack(AK_BACKWARD, operands.outputGradient.map.dtype, context)
        } else if gradients.dw == nil {
            return
        }
        ak_conv_backward(
            context.pool.handle, &geometry!, operands.keptInputs[0], operands.outputGradient, context.packed, &gradients,
            context.workspace)
    }
}

/// The first convolution: reads plain NCHW images of up to four channels and needs no input gradient.
package final class StemConvolution: Layer {
    package let weight: Parameter
    package let inputChannels: Int
    package let outputChannels: Int
    package let kernel: Int
    package let stride: Int
    package let padding: Int
    private var geometry: ak_conv?

    package init(
        _ name: String, _ inputChannels: Int, _ outputChannels: Int, kernel: Int, stride: Int, padding: Int,
        initializer: Initializer
    ) {
        precondition(inputChannels <= 4, "the stem reads images of up to four channels")
        self.inputChannels = inputChannels
        self.outputChannels = outputChannels
        self.kernel = kernel
        self.stride = stride
        self.padding = padding
        weight = Parameter(
            name, [outputChannels, inputChannels, kernel, kernel], role: .convolution, initializer: initializer)
    }

    package var parameters: [Parameter] { [weight] }

    private func description(for input: MapShape) -> ak_conv {
        ak_conv(
            c: Int32(inputChannels), k: Int32(outputChannels), kh: Int32(kernel), kw: Int32(kernel),
            stride: Int32(stride), pad: Int32(padding), groups: 1, h: Int32(input.height), w: Int32(input.width))
    }

    package func outputShape(of inputs: [MapShape]) -> MapShape {
        var conv = description(for: inputs[0])
        geometry = conv
        return MapShape(outputChannels, Int(ak_conv_out_h(&conv)), Int(ak_conv_out_w(&conv)))
    }

    package func workspaceByteCount(_ inputs: [MapShape], _ dtype: ak_dtype, batch: Int, threads: Int) -> Int {
        ak_stem_workspace_bytes(&geometry!, Int32(batch), Int32(threads))
    }

    package func fusion(_ dtype: ak_dtype) -> Fusion {
        Fusion(readsThroughNorm: [false], gathersMoments: true, chains: true)
    }

    package func forward(_ operands: Operands, _ context: PassContext) {
        let output = operands.output
        ak_stem_forward(
            context.pool.handle, &geometry!, context.images, output.n, weight.value.pointer, output,
            context.mode == .training ? operands.moments : nil, context.workspace)
    }

    package func backward(_ operands: Operands, _ context: PassContext) {
        guard weight.isTrained, let gradient = weight.gradient else { return }
        let dy = operands.outputGradient
        ak_stem_backward_weights(
            context.pool.handle, &geometry!, context.images, dy.map.n, dy, gradient.pointer, context.accumulate,
            context.workspace)
    }
}
