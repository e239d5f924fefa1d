package import CKernels
import Tensors

/// The 1x1 max-pool with stride 2 that IR's identity shortcuts use: y(c, i, j) = x(c, 2i, 2j).
package final class Subsample: Layer {
    package init() {}

    package func outputShape(of inputs: [MapShape]) -> MapShape {
        MapShape(inputs[0].channels, (inputs[0].height + 1) / 2, (inputs[0].width + 1) / 2)
    }

    package func forward(
        _ inputs: [ak_map], _ output: ak_map, saved: UnsafeMutableRawPointer, _ context: PassContext
    ) {
        ak_subsample_forward(context.pool.handle, inputs[0], output)
    }

    package func backward(
        _ inputs: [ak_map], _ outputGradient: ak_map, _ inputGradients: [GradientTarget],
        saved: UnsafeMutableRawPointer, _ context: PassContext
    ) {
        switch inputGradients[0] {
        case .write(let target): ak_subsample_backward(context.pool.handle, outputGradient, target, false)
        case .add(let target): ak_subsample_backward(context.pool.handle, outputGradient, target, true)
        case .none, .shared: break
        }
    }
}

/// The sum of two maps.
package final class Addition: Layer {
    package init() {}

    package var backwardWorksInPlace: Bool { false }
    package var passThroughInput: Int? { 1 }

    package func outputShape(of inputs: [MapShape]) -> MapShape {
        precondition(inputs.count == 2 && inputs[0] == inputs[1], "addition of \(inputs)")
        return inputs[0]
    }

    package func forward(
        _ inputs: [ak_map], _ output: ak_map, saved: UnsafeMutableRawPointer, _ context: PassContext
    ) {
        ak_add(context.pool.handle, inputs[0], inputs[1], output)
    }

    package func backward(
        _ inputs: [ak_map], _ outputGradient: ak_map, _ inputGradients: [GradientTarget],
        saved: UnsafeMutableRawPointer, _ context: PassContext
    ) {
        for target in inputGradients {
            switch target {
            case .write(let map):
                map.data.copyMemory(from: outputGradient.data, byteCount: Int(map.image) * Int(map.n) * 4)
            case .add(let map): ak_add(context.pool.handle, map, outputGradient, map)
            case .none, .shared: break
            }
        }
    }
}

/// Inverted dropout: each unit is kept with probability 1 − p and scaled by 1/(1 − p), in training only.
package final class Dropout: Layer {
    package let probability: Float
    /// Tells the dropouts of one network apart.
    package let index: UInt64

    package init(_ probability: Float, index: UInt64 = 0) {
        precondition(probability >= 0 && probability < 1, "dropout probability \(probability)")
        self.probability = probability
        self.index = index
    }

    package var backwardWorksInPlace: Bool { true }

    package func outputShape(of inputs: [MapShape]) -> MapShape { inputs[0] }

    private func effective(_ context: PassContext) -> Float { context.mode == .training ? probability : 0 }

    private func key(_ context: PassContext) -> UInt64 {
        var stream = RandomStream(seed: context.seed, purpose: .dropout, index: index, step: context.step)
        return stream.next()
    }

    package func forward(
        _ inputs: [ak_map], _ output: ak_map, saved: UnsafeMutableRawPointer, _ context: PassContext
    ) {
        ak_dropout(
            context.pool.handle, inputs[0], effective(context), key(context), context.firstImage, output)
    }

    package func backward(
        _ inputs: [ak_map], _ outputGradient: ak_map, _ inputGradients: [GradientTarget],
        saved: UnsafeMutableRawPointer, _ context: PassContext
    ) {
        guard case .write(let target) = inputGradients[0] else {
            if case .add = inputGradients[0] { preconditionFailure("dropout's input has a second consumer") }
            return
        }
        ak_dropout(context.pool.handle, outputGradient, effective(context), key(context), context.firstImage, target)
    }
}
