package import CKernels
import Tensors

/// The 1x1 max-pool with stride 2 that IR's identity shortcuts use: y(c, i, j) = x(c, 2i, 2j).
package final class Subsample: Layer {
    package init() {}

    package var keepsPrecision: Bool { true }

    package func outputShape(of inputs: [MapShape]) -> MapShape {
        MapShape(inputs[0].channels, (inputs[0].height + 1) / 2, (inputs[0].width + 1) / 2)
    }

    package func fusion(_ dtype: ak_dtype) -> Fusion { Fusion(readsThroughNorm: [true]) }

    package func forward(_ operands: Operands, _ context: PassContext) {
        ak_subsample_forward(context.pool.handle, operands.inputs[0], operands.output)
    }

    package func backward(_ operands: Operands, _ context: PassContext) {
        let dy = operands.outputGradient.map
        switch operands.targets[0] {
        case .write(let target): ak_subsample_backward(context.pool.handle, dy, target, false)
        case .add(let target): ak_subsample_backward(context.pool.handle, dy, target, true)
        case .none, .shared, .chained: break
        }
    }
}

/// The sum of two maps.
package final class Addition: Layer {
    package init() {}

    package var passThroughInput: Int? { 1 }

    package func fusion(_ dtype: ak_dtype) -> Fusion { Fusion(readsThroughNorm: [true, true], gathersMoments: true) }

    package func outputShape(of inputs: [MapShape]) -> MapShape {
        precondition(inputs.count == 2 && inputs[0] == inputs[1], "addition of \(inputs)")
        return inputs[0]
    }

    package func forward(_ operands: Operands, _ context: PassContext) {
        ak_merge(
            context.pool.handle, operands.inputs[0], operands.inputs[1], operands.output,
            context.mode == .training ? operands.moments : nil)
    }

    package func backward(_ operands: Operands, _ context: PassContext) {
        for target in operands.targets { target.take(operands.outputGradient, context) }
    }
}

extension GradientTarget {
    /// Copies or adds a gradient.
    func take(_ gradient: ak_gradient, _ context: PassContext) {
        switch self {
        case .write(let map): ak_chain_apply(context.pool.handle, gradient, map, false, ak_reduction())
        case .add(let map): ak_chain_apply(context.pool.handle, gradient, map, true, ak_reduction())
        case .none, .shared, .chained: break
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
    package var keepsPrecision: Bool { true }

    package func outputShape(of inputs: [MapShape]) -> MapShape { inputs[0] }

    private func effective(_ context: PassContext) -> Float { context.mode == .training ? probability : 0 }

    private func key(_ context: PassContext) -> UInt64 {
        var stream = RandomStream(seed: context.seed, purpose: .dropout, index: index, step: context.step)
        return stream.next()
    }

    package func forward(_ operands: Operands, _ context: PassContext) {
        ak_dropout(
            context.pool.handle, operands.inputs[0].map, effective(context), key(context), context.firstImage,
            operands.output)
    }

    package func backward(_ operands: Operands, _ context: PassContext) {
        guard case .write(let target) = operands.targets[0] else {
            if case .add = operands.targets[0] { preconditionFailure("dropout's input has a second consumer") }
            return
        }
        ak_dropout(
            context.pool.handle, operands.outputGradient.map, effective(context), key(context), context.firstImage,
            target)
    }
}
