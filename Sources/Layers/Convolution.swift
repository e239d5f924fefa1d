package import CKernels
package import Tensors

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
    private var packed: AlignedBuffer?

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
    package var backwardReadsInputs: Bool { true }

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

    package func workspaceByteCount(_ inputs: [MapShape], batch: Int, threads: Int) -> Int {
        var conv = description(for: inputs[0])
        return ak_conv_workspace_bytes(&conv, Int32(batch), Int32(threads))
    }

    package func parametersChanged(_ pool: ThreadPool) {
        guard var conv = geometry else { preconditionFailure("\(weight.name) is not part of a graph") }
        let byteCount = ak_conv_packed_bytes(&conv)
        if packed?.byteCount != byteCount { packed = AlignedBuffer(byteCount: byteCount) }
        ak_conv_pack(pool.handle, &conv, weight.value.pointer, packed!.base)
    }

    package func forward(
        _ inputs: [ak_map], _ output: ak_map, saved: UnsafeMutableRawPointer, _ context: PassContext
    ) {
        ak_conv_forward(context.pool.handle, &geometry!, inputs[0], packed!.base, output, context.workspace)
    }

    package func backward(
        _ inputs: [ak_map], _ outputGradient: ak_map, _ inputGradients: [GradientTarget],
        saved: UnsafeMutableRawPointer, _ context: PassContext
    ) {
        let pool = context.pool.handle
        if weight.isTrained, let gradient = weight.gradient {
            ak_conv_backward_weights(
                pool, &geometry!, inputs[0], outputGradient, gradient.pointer, context.accumulate, context.workspace)
        }
        switch inputGradients[0] {
        case .write(let target):
            ak_conv_backward_data(pool, &geometry!, outputGradient, packed!.base, target, false, context.workspace)
        case .add(let target):
            ak_conv_backward_data(pool, &geometry!, outputGradient, packed!.base, target, true, context.workspace)
        case .none, .shared:
            break
        }
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

    package func workspaceByteCount(_ inputs: [MapShape], batch: Int, threads: Int) -> Int {
        var conv = description(for: inputs[0])
        return ak_stem_workspace_bytes(&conv, Int32(batch), Int32(threads))
    }

    package func forward(
        _ inputs: [ak_map], _ output: ak_map, saved: UnsafeMutableRawPointer, _ context: PassContext
    ) {
        ak_stem_forward(
            context.pool.handle, &geometry!, context.images, Int32(context.batch), weight.value.pointer, output,
            context.workspace)
    }

    package func backward(
        _ inputs: [ak_map], _ outputGradient: ak_map, _ inputGradients: [GradientTarget],
        saved: UnsafeMutableRawPointer, _ context: PassContext
    ) {
        guard weight.isTrained, let gradient = weight.gradient else { return }
        ak_stem_backward_weights(
            context.pool.handle, &geometry!, context.images, Int32(context.batch), outputGradient, gradient.pointer,
            context.accumulate, context.workspace)
    }
}
