package import Layers
import Tensors

/// Maps in plain NCHW double precision.
package struct ReferenceMap {
    package let n: Int
    package let shape: MapShape
    package var values: [Double]

    package init(_ n: Int, _ shape: MapShape, _ values: [Double]? = nil) {
        self.n = n
        self.shape = shape
        self.values = values ?? [Double](repeating: 0, count: n * shape.count)
        precondition(self.values.count == n * shape.count)
    }

    package subscript(_ i: Int, _ c: Int, _ y: Int, _ x: Int) -> Double {
        get { values[((i * shape.channels + c) * shape.height + y) * shape.width + x] }
        set { values[((i * shape.channels + c) * shape.height + y) * shape.width + x] = newValue }
    }
}

/// A graph run by plain loops in double precision: the oracle that the kernels and layers are held against.
package final class ReferenceExecution {
    package let graph: Graph
    /// By name; changed freely by tests (finite differences).
    package var parameters: [String: [Double]] = [:]
    package var statistics: [String: [Double]] = [:]
    package private(set) var gradients: [String: [Double]] = [:]
    package private(set) var imageGradient: [Double] = []
    /// What keys the dropouts of the next pass.
    package var key = Execution.Key(seed: 0, step: 0, firstImage: 0)
    /// Distance of the last forward from the nearest kink: the least |z| that a PReLU met. Where it is far above the
    /// rounding of fp32 or the step of a difference quotient, the derivative is the same on both sides of either.
    package private(set) var kinkDistance = Double.infinity
    private var maps: [ReferenceMap] = []
    private var mode = Mode.training

    /// Takes the parameters' and buffers' present values.
    package init(_ graph: Graph) {
        self.graph = graph
        for step in graph.steps {
            for parameter in step.layer.parameters {
                parameters[parameter.name] = parameter.value.floats.map(Double.init)
            }
            for buffer in step.layer.buffers where buffer.dtype == .float32 {
                statistics[buffer.name] = buffer.value.floats.map(Double.init)
            }
        }
    }

    package func forward(_ images: [Double], count: Int, mode: Mode, updateStatistics: Bool = true) -> [Double] {
        self.mode = mode
        kinkDistance = .infinity
        maps = [ReferenceMap(count, graph.inputShape, images)]
        for step in graph.steps {
            let inputs = step.inputs.map { maps[$0] }
            maps.append(run(step, inputs, updateStatistics: updateStatistics))
        }
        return maps[graph.steps.count].values
    }

    /// - Parameter taps: gradients of further nodes' outputs, by index.
    package func backward(_ outputGradient: [Double], taps: [Int: [Double]] = [:]) {
        gradients = [:]
        var upstream = [ReferenceMap?](repeating: nil, count: maps.count)
        for (node, values) in taps { upstream[node] = ReferenceMap(maps[0].n, maps[node].shape, values) }
        upstream[maps.count - 1] = ReferenceMap(maps[0].n, maps[maps.count - 1].shape, outputGradient)
        for index in graph.steps.indices.reversed() {
            let step = graph.steps[index]
            guard let dy = upstream[index + 1] else { continue }
            for (input, dx) in zip(step.inputs, derive(step, step.inputs.map { maps[$0] }, dy)) {
                if upstream[input] == nil {
                    upstream[input] = dx
                } else {
                    for i in dx.values.indices { upstream[input]!.values[i] += dx.values[i] }
                }
            }
        }
        imageGradient = upstream[0]?.values ?? []
    }

    /// The last forward's output of a node, (n, c, h, w).
    package func activation(_ node: Graph.Node) -> [Double] { maps[node.index].values }

    // MARK: - Layers

    private func run(_ step: Graph.Step, _ x: [ReferenceMap], updateStatistics: Bool) -> ReferenceMap {
        switch step.layer {
        case let layer as Convolution:
            return Self.convolve(
                x[0], parameters[layer.weight.name]!, step.shape, kernel: layer.kernel, stride: layer.stride,
                padding: layer.padding, groups: layer.groups)
        case let layer as StemConvolution:
            return Self.convolve(
                x[0], parameters[layer.weight.name]!, step.shape, kernel: (layer.kernel, layer.kernel),
                stride: layer.stride, padding: layer.padding, groups: 1)
        case let layer as Normalization: return normalize(layer, x, updateStatistics: updateStatistics)
        case is Addition:
            return ReferenceMap(x[0].n, x[0].shape, zip(x[0].values, x[1].values).map { $0 + $1 })
        case is Subsample:
            var y = ReferenceMap(x[0].n, step.shape)
            y.forEach { i, c, row, column in y[i, c, row, column] = x[0][i, c, 2 * row, 2 * column] }
            return y
        case is Flatten: return ReferenceMap(x[0].n, step.shape, x[0].values)
        case let layer as Dropout: return drop(layer, x[0])
        case let layer as Linear:
            let weight = parameters[layer.weight.name]!
            let bias = layer.bias.map { parameters[$0.name]! }
            var y = ReferenceMap(x[0].n, step.shape)
            for i in 0..<x[0].n {
                for o in 0..<layer.outputs {
                    var sum = bias?[o] ?? 0
                    for k in 0..<layer.inputs {
                        sum += x[0].values[i * layer.inputs + k] * weight[o * layer.inputs + k]
                    }
                    y.values[i * layer.outputs + o] = sum
                }
            }
            return y
        default: preconditionFailure("no reference for \(step.name)")
        }
    }

    private func derive(_ step: Graph.Step, _ x: [ReferenceMap], _ dy: ReferenceMap) -> [ReferenceMap] {
        switch step.layer {
        case let layer as Convolution:
            let (dx, dw) = Self.convolveBackward(
                x[0], parameters[layer.weight.name]!, dy, kernel: layer.kernel, stride: layer.stride,
                padding: layer.padding, groups: layer.groups)
            gradients[layer.weight.name] = dw
            return [dx]
        case let layer as StemConvolution:
            let (dx, dw) = Self.convolveBackward(
                x[0], parameters[layer.weight.name]!, dy, kernel: (layer.kernel, layer.kernel), stride: layer.stride,
                padding: layer.padding, groups: 1)
            gradients[layer.weight.name] = dw
            return [dx]
        case let layer as Normalization: return normalizeBackward(layer, x, dy)
        case is Addition: return [dy, dy]
        case is Subsample:
            var dx = ReferenceMap(x[0].n, x[0].shape)
            dy.forEach { i, c, row, column in dx[i, c, 2 * row, 2 * column] = dy[i, c, row, column] }
            return [dx]
        case is Flatten: return [ReferenceMap(x[0].n, x[0].shape, dy.values)]
        case let layer as Dropout: return [drop(layer, dy)]
        case let layer as Linear: return [linearBackward(layer, x[0], dy)]
        default: preconditionFailure("no reference for \(step.name)")
        }
    }

    /// The map times the mask and 1/(1 − p): unit i of the global batch is kept where the 24 high bits of the first
    /// word of Philox's block at counter i reach p.
    private func drop(_ layer: Dropout, _ x: ReferenceMap) -> ReferenceMap {
        guard mode == .training, layer.probability > 0 else { return x }
        var stream = RandomStream(seed: key.seed, purpose: .dropout, index: layer.index, step: key.step)
        let word: UInt64 = stream.next()
        let first = key.firstImage * UInt64(x.shape.count)
        var y = x
        for i in y.values.indices {
            let index = first + UInt64(i)
            let block = RandomStream.philox(
                counter: (UInt32(truncatingIfNeeded: index), UInt32(truncatingIfNeeded: index >> 32), 0, 0),
                key: (UInt32(truncatingIfNeeded: word), UInt32(truncatingIfNeeded: word >> 32)))
            let kept = Float(block.0 >> 8) * 0x1p-24 >= layer.probability
            y.values[i] = kept ? y.values[i] / (1 - Double(layer.probability)) : 0
        }
        return y
    }

    private func linearBackward(_ layer: Linear, _ x: ReferenceMap, _ dy: ReferenceMap) -> ReferenceMap {
        let weight = parameters[layer.weight.name]!
        var dw = [Double](repeating: 0, count: weight.count)
        var db = [Double](repeating: 0, count: layer.outputs)
        var dx = ReferenceMap(x.n, x.shape)
        for i in 0..<x.n {
            for o in 0..<layer.outputs {
                let g = dy.values[i * layer.outputs + o]
                db[o] += g
                for k in 0..<layer.inputs {
                    dw[o * layer.inputs + k] += g * x.values[i * layer.inputs + k]
                    dx.values[i * layer.inputs + k] += g * weight[o * layer.inputs + k]
                }
            }
        }
        gradients[layer.weight.name] = dw
        if let bias = layer.bias { gradients[bias.name] = db }
        return dx
    }

    // MARK: - Norms

    private struct Moments {
        var mean: Double
        var variance: Double
        var samples: Double
    }

    private func moments(_ x: ReferenceMap, _ channel: Int) -> Moments {
        let samples = Double(x.n * x.shape.height * x.shape.width)
        var mean = 0.0
        x.forEach(channel: channel) { mean += x.values[$0] }
        mean /= samples
        var variance = 0.0
        x.forEach(channel: channel) { variance += (x.values[$0] - mean) * (x.values[$0] - mean) }
        return Moments(mean: mean, variance: variance / samples, samples: samples)
    }

    private func used(_ layer: Normalization, _ x: ReferenceMap, _ channel: Int) -> Moments {
        if mode == .training { return moments(x, channel) }
        return Moments(
            mean: statistics[layer.runningMean.name]![channel],
            variance: statistics[layer.runningVariance.name]![channel], samples: 1)
    }

    private func normalize(_ layer: Normalization, _ x: [ReferenceMap], updateStatistics: Bool) -> ReferenceMap {
        var y = ReferenceMap(x[0].n, x[0].shape)
        for c in 0..<layer.channels {
            let m = used(layer, x[0], c)
            if mode == .training, updateStatistics {
                let rate = layer.momentum
                let unbiased = m.variance * m.samples / (m.samples - 1)
                let (mean, variance) = (layer.runningMean.name, layer.runningVariance.name)
                statistics[mean]![c] += rate * (m.mean - statistics[mean]![c])
                statistics[variance]![c] += rate * (unbiased - statistics[variance]![c])
            }
            let gamma = layer.scale.map { parameters[$0.name]![c] } ?? 1
            let beta = layer.shift.map { parameters[$0.name]![c] } ?? 0
            let slope = layer.slope.map { parameters[$0.name]![c] }
            let inverse = 1 / (m.variance + layer.epsilon).squareRoot()
            x[0].forEach(channel: c) { i in
                var value = (x[0].values[i] - m.mean) * inverse * gamma + beta
                if let slope {
                    kinkDistance = min(kinkDistance, abs(value))
                    if value <= 0 { value *= slope }
                }
                y.values[i] = value + (layer.hasResidual ? x[1].values[i] : 0)
            }
        }
        return y
    }

    private func normalizeBackward(_ layer: Normalization, _ x: [ReferenceMap], _ dy: ReferenceMap) -> [ReferenceMap] {
        var dx = ReferenceMap(x[0].n, x[0].shape)
        var dGamma = [Double](repeating: 0, count: layer.channels)
        var dBeta = dGamma
        var dSlope = dGamma
        var g = dy.values
        for c in 0..<layer.channels {
            let m = used(layer, x[0], c)
            let gamma = layer.scale.map { parameters[$0.name]![c] } ?? 1
            let beta = layer.shift.map { parameters[$0.name]![c] } ?? 0
            let slope = layer.slope.map { parameters[$0.name]![c] }
            let inverse = 1 / (m.variance + layer.epsilon).squareRoot()
            x[0].forEach(channel: c) { i in
                let hat = (x[0].values[i] - m.mean) * inverse
                let z = hat * gamma + beta
                var value = dy.values[i]
                if let slope, z <= 0 {
                    dSlope[c] += value * z
                    value *= slope
                }
                g[i] = value
                dGamma[c] += value * hat
                dBeta[c] += value
            }
            x[0].forEach(channel: c) { i in
                if mode == .training {
                    let hat = (x[0].values[i] - m.mean) * inverse
                    dx.values[i] = gamma * inverse / m.samples * (m.samples * g[i] - dBeta[c] - hat * dGamma[c])
                } else {
                    dx.values[i] = gamma * inverse * g[i]
                }
            }
        }
        if let scale = layer.scale { gradients[scale.name] = dGamma }
        if let shift = layer.shift { gradients[shift.name] = dBeta }
        if let slope = layer.slope { gradients[slope.name] = dSlope }
        return layer.hasResidual ? [dx, dy] : [dx]
    }

    // MARK: - Convolutions

    package static func convolve(
        _ x: ReferenceMap, _ weight: [Double], _ shape: MapShape, kernel: (height: Int, width: Int), stride: Int,
        padding: Int, groups: Int
    ) -> ReferenceMap {
        var y = ReferenceMap(x.n, shape)
        taps(x, shape, kernel, stride, padding, groups) { out, input, w in
            y.values[out] += x.values[input] * weight[w]
        }
        return y
    }

    package static func convolveBackward(
        _ x: ReferenceMap, _ weight: [Double], _ dy: ReferenceMap, kernel: (height: Int, width: Int), stride: Int,
        padding: Int, groups: Int
    ) -> (dx: ReferenceMap, dw: [Double]) {
        var dx = ReferenceMap(x.n, x.shape)
        var dw = [Double](repeating: 0, count: weight.count)
        taps(x, dy.shape, kernel, stride, padding, groups) { out, input, w in
            dx.values[input] += dy.values[out] * weight[w]
            dw[w] += dy.values[out] * x.values[input]
        }
        return (dx, dw)
    }

    /// Every product of a convolution: flat indices of output, input and weight.
    private static func taps(
        _ x: ReferenceMap, _ out: MapShape, _ kernel: (height: Int, width: Int), _ stride: Int, _ padding: Int,
        _ groups: Int, _ body: (Int, Int, Int) -> Void
    ) {
        let inputs = x.shape.channels / groups
        let outputs = out.channels / groups
        for i in 0..<x.n {
            for k in 0..<out.channels {
                for c in 0..<inputs {
                    let channel = k / outputs * inputs + c
                    for row in 0..<out.height {
                        for column in 0..<out.width {
                            let o = ((i * out.channels + k) * out.height + row) * out.width + column
                            for a in 0..<kernel.height {
                                let y = row * stride - padding + a
                                guard y >= 0, y < x.shape.height else { continue }
                                for b in 0..<kernel.width {
                                    let z = column * stride - padding + b
                                    guard z >= 0, z < x.shape.width else { continue }
                                    let line = (i * x.shape.channels + channel) * x.shape.height + y
                                    body(o, line * x.shape.width + z, ((k * inputs + c) * kernel.height + a) * kernel.width + b)
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

extension ReferenceMap {
    /// All positions.
    package func forEach(_ body: (Int, Int, Int, Int) -> Void) {
        for i in 0..<n {
            for c in 0..<shape.channels {
                for y in 0..<shape.height { for x in 0..<shape.width { body(i, c, y, x) } }
            }
        }
    }

    /// Flat indices of one channel over the batch.
    package func forEach(channel: Int, _ body: (Int) -> Void) {
        let area = shape.height * shape.width
        for i in 0..<n {
            let start = (i * shape.channels + channel) * area
            for index in start..<start + area { body(index) }
        }
    }
}
