import CKernels
import Tensors

/// Maps to vectors in PyTorch's order c, h, w: the border between the blocked layout and plain rows.
package final class Flatten: Layer {
    package init() {}

    package func outputShape(of inputs: [MapShape]) -> MapShape {
        precondition(inputs[0].count % 16 == 0, "flattening \(inputs[0]): the length is not a multiple of 16")
        return MapShape(inputs[0].count, 1, 1)
    }

    package var keepsPrecision: Bool { true }

    package func forward(_ operands: Operands, _ context: PassContext) {
        precondition(operands.output.dtype == AK_F32, "vectors are fp32")
        ak_map_to_nchw(
            context.pool.handle, operands.inputs[0].map, operands.output.data.assumingMemoryBound(to: Float.self))
    }

    package func backward(_ operands: Operands, _ context: PassContext) {
        guard case .write(let target) = operands.targets[0] else {
            if case .add = operands.targets[0] { preconditionFailure("flatten's input has a second consumer") }
            return
        }
        ak_map_from_nchw(
            context.pool.handle, operands.outputGradient.map.data.assumingMemoryBound(to: Float.self), target)
    }
}

/// A fully connected layer y = x·Wᵀ + b in fp32 through BLAS; weight (out, in).
package final class Linear: Layer {
    package let weight: Parameter
    package let bias: Parameter?
    package let inputs: Int
    package let outputs: Int

    /// - Parameters:
    ///   - name: prefix of the state names.
    ///   - weightShape: the weight's shape in the state dict where it is not (out, in), e.g. (out, in, 1, 1).
    package init(
        _ name: String, _ inputs: Int, _ outputs: Int, bias: Bool, initializer: Initializer,
        biasInitializer: Initializer = .constant(0), weightShape: [Int]? = nil
    ) {
        precondition(inputs % 16 == 0 && outputs % 16 == 0, "\(name): \(inputs) x \(outputs) is not in steps of 16")
        self.inputs = inputs
        self.outputs = outputs
        weight = Parameter(
            "\(name).weight", weightShape ?? [outputs, inputs], role: .linear, initializer: initializer)
        self.bias = bias ? Parameter("\(name).bias", [outputs], role: .bias, initializer: biasInitializer) : nil
    }

    package var parameters: [Parameter] { [weight, bias].compactMap { $0 } }
    package func backwardReads(input: Int) -> Bool { weight.isTrained }
    package var needsFullPrecision: Bool { true }

    package func outputShape(of inputs: [MapShape]) -> MapShape {
        precondition(
            inputs[0] == MapShape(self.inputs, 1, 1), "\(weight.name): \(self.inputs) inputs, got \(inputs[0])")
        return MapShape(outputs, 1, 1)
    }

    package func forward(_ operands: Operands, _ context: PassContext) {
        let output = operands.output
        let batch = Int(output.n)
        let y = output.data.assumingMemoryBound(to: Float.self)
        if let bias = bias?.value.pointer {
            for row in 0..<batch { (y + row * outputs).update(from: bias, count: outputs) }
        }
        BLAS.gemm(
            context.pool, transposeB: true, m: batch, n: outputs, k: self.inputs,
            a: operands.inputs[0].map.data.assumingMemoryBound(to: Float.self), lda: self.inputs, b: weight.value.pointer,
            ldb: self.inputs, beta: bias == nil ? 0 : 1, c: y, ldc: outputs)
    }

    package func backward(_ operands: Operands, _ context: PassContext) {
        let outputGradient = operands.outputGradient.map
        let batch = Int(outputGradient.n)
        let dy = outputGradient.data.assumingMemoryBound(to: Float.self)
        if weight.isTrained, let gradient = weight.gradient {
            BLAS.gemm(
                context.pool, transposeA: true, m: outputs, n: self.inputs, k: batch, a: dy, lda: outputs,
                b: operands.keptInputs[0].map.data.assumingMemoryBound(to: Float.self), ldb: self.inputs,
                beta: context.accumulate ? 1 : 0, c: gradient.pointer, ldc: self.inputs)
        }
        if let bias, bias.isTrained, let gradient = bias.gradient?.pointer {
            if !context.accumulate { gradient.update(repeating: 0, count: outputs) }
            for row in 0..<batch {
                for column in 0..<outputs { gradient[column] += dy[row * outputs + column] }
            }
        }
        let (target, beta): (ak_map, Float)
        switch operands.targets[0] {
        case .write(let map): (target, beta) = (map, 0)
        case .add(let map): (target, beta) = (map, 1)
        case .none, .shared, .chained: return
        }
        BLAS.gemm(
            context.pool, m: batch, n: self.inputs, k: outputs, a: dy, lda: outputs, b: weight.value.pointer,
            ldb: self.inputs, beta: beta, c: target.data.assumingMemoryBound(to: Float.self), ldc: self.inputs)
    }
}
