package import CKernels
import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Batch normalisation, then PReLU if there is one, then the addition of a residual if the node has a second input:
/// y = prelu(γ·(x − μ)/√(v + ε) + β) + r, one pass over memory each way.
///
/// Training uses the biased batch variance and moves the running statistics by `momentum` towards the batch's, the
/// variance unbiased (PyTorch's convention). The same layer serves 1-d norms on vectors (height = width = 1).
package final class Normalization: Layer {
    package let channels: Int
    package let scale: Parameter?
    package let shift: Parameter?
    package let slope: Parameter?
    package let runningMean: StateBuffer
    package let runningVariance: StateBuffer
    package let batchesTracked: StateBuffer
    package let epsilon: Double
    package let momentum: Double
    package let hasResidual: Bool

    /// What γ and β are.
    package enum Affine: Sendable {
        case trained
        /// γ stays 1 and is part of the state, β is trained (arcface_torch's `features`).
        case frozenScale
        /// No γ, no β.
        case absent
    }

    /// - Parameters:
    ///   - name: prefix of the norm's state names.
    ///   - slope: full name of the PReLU's weight; nil for no activation.
    package init(
        _ name: String, _ channels: Int, affine: Affine = .trained, slope slopeName: String? = nil,
        residual: Bool = false, epsilon: Double = 1e-5, momentum: Double = 0.1
    ) {
        self.channels = channels
        self.epsilon = epsilon
        self.momentum = momentum
        hasResidual = residual
        if case .absent = affine {
            scale = nil
            shift = nil
        } else {
            var trained = true
            if case .frozenScale = affine { trained = false }
            scale = Parameter(
                "\(name).weight", [channels], role: .normScale, initializer: .constant(1), isTrained: trained)
            shift = Parameter("\(name).bias", [channels], role: .normShift, initializer: .constant(0))
        }
        slope = slopeName.map { Parameter($0, [channels], role: .preluSlope, initializer: .constant(0.25)) }
        runningMean = StateBuffer("\(name).running_mean", [channels])
        runningVariance = StateBuffer("\(name).running_var", [channels], initial: 1)
        batchesTracked = StateBuffer("\(name).num_batches_tracked", [], dtype: .int64)
    }

    package var parameters: [Parameter] { [scale, shift, slope].compactMap { $0 } }
    package var buffers: [StateBuffer] { [runningMean, runningVariance, batchesTracked] }
    package var backwardReadsInputs: Bool { true }
    package var backwardWorksInPlace: Bool { !hasResidual }
    package var passThroughInput: Int? { hasResidual ? 1 : nil }

    package func outputShape(of inputs: [MapShape]) -> MapShape {
        precondition(inputs[0].channels == channels, "norm over \(channels) channels, got \(inputs[0])")
        precondition(inputs.count == (hasResidual ? 2 : 1) && inputs.allSatisfy { $0 == inputs[0] })
        return inputs[0]
    }

    // Saved: mean, 1/√(v+ε), scale, shift; then backward's sums and coefficients. All of `channels` floats, each
    // starting on a cache line.
    private var stride: Int { (channels + 15) / 16 * 16 }
    private enum Slot: Int, CaseIterable { case mean, inverseDeviation, scale, shift, dScale, dShift, dSlope, a, b, d }
    private func slot(_ slot: Slot, _ saved: UnsafeMutableRawPointer) -> UnsafeMutablePointer<Float> {
        saved.assumingMemoryBound(to: Float.self) + slot.rawValue * stride
    }

    package func savedByteCount(_ inputs: [MapShape], batch: Int) -> Int { Slot.allCases.count * stride * 4 }

    package func workspaceByteCount(_ inputs: [MapShape], batch: Int, threads: Int) -> Int {
        ak_bn_workspace_bytes(Int32(channels), Int32(batch), Int32(threads))
    }

    package func forward(
        _ inputs: [ak_map], _ output: ak_map, saved: UnsafeMutableRawPointer, _ context: PassContext
    ) {
        let x = inputs[0]
        let mean = slot(.mean, saved)
        let inverse = slot(.inverseDeviation, saved)
        if context.mode == .training {
            // The variance arrives in `inverse` and is turned into 1/√(v+ε) below.
            ak_bn_statistics(context.pool.handle, x, mean, inverse, context.workspace)
            let samples = Float(x.n) * Float(x.h) * Float(x.w)
            let unbiased = samples > 1 ? samples / (samples - 1) : 1
            let momentum = Float(momentum)
            let runningMean = runningMean.value.pointer
            let runningVariance = runningVariance.value.pointer
            for c in 0..<channels {
                runningMean[c] += momentum * (mean[c] - runningMean[c])
                runningVariance[c] += momentum * (inverse[c] * unbiased - runningVariance[c])
            }
            batchesTracked.value.int64s[0] += 1
        } else {
            mean.update(from: runningMean.value.pointer, count: channels)
            inverse.update(from: runningVariance.value.pointer, count: channels)
        }
        let scale = slot(.scale, saved)
        let shift = slot(.shift, saved)
        let epsilon = Float(epsilon)
        for c in 0..<channels {
            inverse[c] = 1 / sqrtf(inverse[c] + epsilon)
            scale[c] = (self.scale?.value.pointer[c] ?? 1) * inverse[c]
            shift[c] = (self.shift?.value.pointer[c] ?? 0) - mean[c] * scale[c]
        }
        let residual = hasResidual ? inputs[1] : ak_map()
        ak_affine(context.pool.handle, x, scale, shift, slope?.value.pointer, residual, output)
    }

    package func backward(
        _ inputs: [ak_map], _ outputGradient: ak_map, _ inputGradients: [GradientTarget],
        saved: UnsafeMutableRawPointer, _ context: PassContext
    ) {
        let pool = context.pool.handle
        let x = inputs[0]
        let scale = slot(.scale, saved)
        let shift = slot(.shift, saved)
        let slopes = slope?.value.pointer
        let dScale = slot(.dScale, saved)
        let dShift = slot(.dShift, saved)
        let dSlope = slot(.dSlope, saved)
        ak_bn_backward_reduce(
            pool, x, outputGradient, slot(.mean, saved), slot(.inverseDeviation, saved), scale, shift, slopes, dScale,
            dShift, dSlope, context.workspace)
        store(dScale, self.scale, context)
        store(dShift, self.shift, context)
        store(dSlope, slope, context)

        let (a, b, d) = coefficients(x, saved, context)
        switch inputGradients[0] {
        case .write(let target):
            ak_bn_backward_apply(pool, x, outputGradient, scale, shift, slopes, a, b, d, target, false)
        case .add(let target):
            ak_bn_backward_apply(pool, x, outputGradient, scale, shift, slopes, a, b, d, target, true)
        case .none, .shared:
            break
        }
        // Last, because the residual may be the norm's own input.
        if hasResidual, case .add(let target) = inputGradients[1] { ak_add(pool, target, outputGradient, target) }
    }

    /// dx = a·g + b·x + d per channel, from γ/(M√(v+ε))·(M·g − Σg − x̂·Σg·x̂).
    private func coefficients(
        _ x: ak_map, _ saved: UnsafeMutableRawPointer, _ context: PassContext
    ) -> (UnsafePointer<Float>, UnsafePointer<Float>, UnsafePointer<Float>) {
        let a = slot(.a, saved)
        let b = slot(.b, saved)
        let d = slot(.d, saved)
        let scale = slot(.scale, saved)
        let inverse = slot(.inverseDeviation, saved)
        let mean = slot(.mean, saved)
        let dScale = slot(.dScale, saved)
        let dShift = slot(.dShift, saved)
        let samples = Float(x.n) * Float(x.h) * Float(x.w)
        for c in 0..<channels {
            a[c] = scale[c]
            if context.mode == .training {
                b[c] = -scale[c] * inverse[c] * dScale[c] / samples
                d[c] = -scale[c] * dShift[c] / samples - b[c] * mean[c]
            } else {
                b[c] = 0
                d[c] = 0
            }
        }
        return (UnsafePointer(a), UnsafePointer(b), UnsafePointer(d))
    }

    private func store(_ sums: UnsafePointer<Float>, _ parameter: Parameter?, _ context: PassContext) {
        guard let parameter, parameter.isTrained, let gradient = parameter.gradient?.pointer else { return }
        for c in 0..<channels { gradient[c] = (context.accumulate ? gradient[c] : 0) + sums[c] }
    }
}
