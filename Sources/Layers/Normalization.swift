package import CKernels
import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Batch normalisation, then PReLU if there is one, then the addition of a residual if the node has a second input:
/// y = prelu(γ·(x − μ)/√(v + ε) + β) + r.
///
/// Where the layers around it allow, it is no pass over memory at all: the layer that writes x gathers the statistics, the
/// readers of y compute y from x as they load it, the layer that writes the gradient of y gathers backward's sums, and the
/// layer that made x applies the rest to the gradient as it loads that (`Operands`). What remains is a few numbers per
/// channel.
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
    package func backwardReads(input: Int) -> Bool { input == 0 }
    package var backwardWorksInPlace: Bool { !hasResidual }
    package var passThroughInput: Int? { hasResidual ? 1 : nil }

    package func outputShape(of inputs: [MapShape]) -> MapShape {
        precondition(inputs[0].channels == channels, "norm over \(channels) channels, got \(inputs[0])")
        precondition(inputs.count == (hasResidual ? 2 : 1) && inputs.allSatisfy { $0 == inputs[0] })
        return inputs[0]
    }

    package func fusion(_ dtype: ak_dtype) -> Fusion {
        Fusion(readsThroughNorm: [false, true], gathersMoments: true, reduces: true)
    }

    // MARK: - What is kept

    // Each of `channels` floats, filled up with zeros to whole blocks, as the kernels want them.
    private enum Slot: Int, CaseIterable {
        case mean, inverseDeviation, scale, shift, slope, dScale, dShift, dSlope, a, b, d
    }
    private var stride: Int { (channels + 15) / 16 * 16 }
    private func slot(_ slot: Slot, _ saved: UnsafeMutableRawPointer) -> UnsafeMutablePointer<Float> {
        saved.assumingMemoryBound(to: Float.self) + slot.rawValue * stride
    }

    package func savedByteCount(_ inputs: [MapShape], batch: Int) -> Int { Slot.allCases.count * stride * 4 }

    /// What readers of the stored input apply to see the output (without the residual).
    func activation(_ saved: UnsafeMutableRawPointer) -> ak_activation {
        ak_activation(
            scale: slot(.scale, saved), shift: slot(.shift, saved), slope: slope == nil ? nil : slot(.slope, saved))
    }

    /// What readers of the output's gradient apply to see the input's; `x` is the stored input.
    func chain(_ x: ak_map, _ saved: UnsafeMutableRawPointer) -> ak_chain {
        ak_chain(
            x: x, scale: slot(.scale, saved), shift: slot(.shift, saved),
            slope: slope == nil ? nil : slot(.slope, saved), a: slot(.a, saved), b: slot(.b, saved),
            d: slot(.d, saved))
    }

    /// What the writer of the output's gradient gathers.
    func reduction(_ x: ak_map, _ saved: UnsafeMutableRawPointer, _ sums: OpaquePointer) -> ak_reduction {
        ak_reduction(
            x: x, mean: slot(.mean, saved), scale: slot(.scale, saved), shift: slot(.shift, saved),
            slope: slope == nil ? nil : slot(.slope, saved), sums: sums)
    }

    // MARK: - Passes

    package func forward(_ operands: Operands, _ context: PassContext) {
        let saved = operands.saved
        if context.mode == .training {
            takeBatchStatistics(operands, context)
        } else {
            slot(.mean, saved).update(from: runningMean.value.pointer, count: channels)
            slot(.inverseDeviation, saved).update(from: runningVariance.value.pointer, count: channels)
        }
        // The variance stands in `inverse` and is turned into 1/√(v+ε).
        let mean = slot(.mean, saved)
        let inverse = slot(.inverseDeviation, saved)
        let scale = slot(.scale, saved)
        let shift = slot(.shift, saved)
        let gamma = self.scale?.value.pointer
        let beta = self.shift?.value.pointer
        let epsilon = Float(epsilon)
        for c in 0..<channels {
            inverse[c] = 1 / sqrtf(inverse[c] + epsilon)
            scale[c] = (gamma?[c] ?? 1) * inverse[c]
            shift[c] = (beta?[c] ?? 0) - mean[c] * scale[c]
        }
        if let slope { slot(.slope, saved).update(from: slope.value.pointer, count: channels) }
        guard operands.output.data != nil else { return }
        merge(operands, moments: context.mode == .training ? operands.moments : nil, context)
    }

    /// Writes the output once more, as the last forward did, for backward to read.
    func recompute(_ operands: Operands, _ context: PassContext) { merge(operands, moments: nil, context) }

    private func merge(_ operands: Operands, moments: OpaquePointer?, _ context: PassContext) {
        let x = ak_source(map: operands.inputs[0].map, activation: activation(operands.saved))
        ak_merge(
            context.pool.handle, x, hasResidual ? operands.inputs[1] : ak_source(), operands.output, moments)
    }

    /// Mean and variance of the batch; moves the running statistics.
    private func takeBatchStatistics(_ operands: Operands, _ context: PassContext) {
        guard let moments = operands.inputMoments else { preconditionFailure("a norm without room for its moments") }
        let x = operands.inputs[0].map
        let pool = context.pool.handle
        let mean = slot(.mean, operands.saved)
        let variance = slot(.inverseDeviation, operands.saved)
        if !operands.inputMomentsAreGathered { ak_moments_of(pool, x, moments) }
        ak_moments_fold(pool, moments, Int32(channels), mean, variance)
        let samples = Float(x.n) * Float(x.h) * Float(x.w)
        let unbiased = samples > 1 ? samples / (samples - 1) : 1
        let momentum = Float(momentum)
        let runningMean = runningMean.value.pointer
        let runningVariance = runningVariance.value.pointer
        for c in 0..<channels {
            runningMean[c] += momentum * (mean[c] - runningMean[c])
            runningVariance[c] += momentum * (variance[c] * unbiased - runningVariance[c])
        }
        batchesTracked.value.int64s[0] += 1
    }

    package func backward(_ operands: Operands, _ context: PassContext) {
        guard let sums = operands.sums else { preconditionFailure("a norm without room for its sums") }
        let pool = context.pool.handle
        let saved = operands.saved
        let x = operands.keptInputs[0].map
        let dy = operands.outputGradient.map
        var reduction = reduction(x, saved, sums)
        if !operands.sumsAreGathered { ak_sums_of(pool, dy, reduction) }
        ak_sums_fold(
            pool, &reduction, slot(.inverseDeviation, saved), slot(.dScale, saved), slot(.dShift, saved),
            slope == nil ? nil : slot(.dSlope, saved))
        store(.dScale, scale, saved, context)
        store(.dShift, shift, saved, context)
        store(.dSlope, slope, saved, context)
        prepareChain(x, saved, context)
        let gradient = ak_gradient(map: dy, chain: chain(x, saved))
        switch operands.targets[0] {
        case .write(let target): ak_chain_apply(pool, gradient, target, false, operands.reduction)
        case .add(let target): ak_chain_apply(pool, gradient, target, true, operands.reduction)
        case .none, .shared, .chained: break
        }
        // Last, because the residual may be the norm's own input.
        if hasResidual { operands.targets[1].take(ak_gradient(map: dy, chain: ak_chain()), context) }
    }

    /// dx = a·g + b·x + d per channel, from γ/(M√(v+ε))·(M·g − Σg − x̂·Σg·x̂).
    private func prepareChain(_ x: ak_map, _ saved: UnsafeMutableRawPointer, _ context: PassContext) {
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
    }

    private func store(
        _ sums: Slot, _ parameter: Parameter?, _ saved: UnsafeMutableRawPointer, _ context: PassContext
    ) {
        guard let parameter, parameter.isTrained, let gradient = parameter.gradient?.pointer else { return }
        let sums = slot(sums, saved)
        for c in 0..<channels { gradient[c] = (context.accumulate ? gradient[c] : 0) + sums[c] }
    }
}
