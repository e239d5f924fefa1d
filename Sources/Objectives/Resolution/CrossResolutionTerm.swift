package import Layers
package import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// What draws a low-resolution embedding to its high-resolution one, whose side is constant (CCFace's asymmetric
/// cross-resolution learning, as reconstructed in `docs/methods.md`). All take unit embeddings of this rank's rows.
package enum CrossResolutionTerm {
    /// Cross-entropy of the low side's similarities to a queue, softmax(l·Q/τ_s), against the high side's,
    /// softmax(h·Q/τ_t): the low sample stands to the others as the high one does.
    ///
    /// - Parameters:
    ///   - high: unit embeddings, (rows x d).
    ///   - low: likewise.
    ///   - scratch: room for 2 · rows · queue.count values.
    ///   - gradient: dL/d(low), (rows x d), of the sum over rows; written.
    /// - Returns: the sum over rows.
    package static func relation(
        high: UnsafePointer<Float>, low: UnsafePointer<Float>, rows: Int, queue: EmbeddingQueue,
        temperatures: (teacher: Float, student: Float),
        scratch: UnsafeMutablePointer<Float>, gradient: UnsafeMutablePointer<Float>, pool: ThreadPool
    ) -> Double {
        let (d, count) = (queue.dimension, queue.count)
        let entries = UnsafePointer(queue.features.floats.baseAddress!)
        let (p, r) = (scratch, scratch + rows * count)
        for (x, z) in [(high, p), (low, r)] {
            Float.gemm(
                pool, transposeA: false, transposeB: true, m: rows, n: count, k: d, a: x, b: entries, beta: 0, c: z)
        }
        var sum = 0.0
        for row in 0..<rows {
            let (target, own) = (p + row * count, r + row * count)
            _ = normalise(target, count, temperature: temperatures.teacher)
            // −Σ p·log r, with the logits that are about to be overwritten.
            var mixed = 0.0
            for k in 0..<count { mixed += Double(target[k]) * Double(own[k] / temperatures.student) }
            sum += normalise(own, count, temperature: temperatures.student) - mixed
            for k in 0..<count { own[k] = (own[k] - target[k]) / temperatures.student }
        }
        Float.gemm(
            pool, transposeA: false, transposeB: false, m: rows, n: d, k: count, a: r, b: entries, beta: 0, c: gradient)
        return sum
    }

    /// InfoNCE: the high side is the low one's positive, entries of other identities are the negatives.
    package static func contrast(
        high: UnsafePointer<Float>, low: UnsafePointer<Float>, labels: UnsafeBufferPointer<Int>, rows: Int,
        queue: EmbeddingQueue, temperature: Float, scratch: UnsafeMutablePointer<Float>, gradient: UnsafeMutablePointer<Float>,
        pool: ThreadPool
    ) -> Double {
        let (d, count) = (queue.dimension, queue.count)
        let entries = UnsafePointer(queue.features.floats.baseAddress!)
        Float.gemm(
            pool, transposeA: false, transposeB: true, m: rows, n: count, k: d, a: low, b: entries, beta: 0, c: scratch)
        var sum = 0.0
        var positives = [Float](repeating: 0, count: rows)
        for row in 0..<rows {
            let z = scratch + row * count
            let positive = Float(Float.dot(high + row * d, low + row * d, count: d)) / temperature
            var maximum = positive
            for k in 0..<count {
                z[k] = queue.labels[k] == labels[row] ? -.infinity : z[k] / temperature
                maximum = max(maximum, z[k])
            }
            var total = Double(exp(positive - maximum))
            for k in 0..<count {
                z[k] = exp(z[k] - maximum)
                total += Double(z[k])
            }
            sum += log(total) - Double(positive - maximum)
            let factor = Float(1 / total) / temperature
            for k in 0..<count { z[k] *= factor }
            positives[row] = exp(positive - maximum) * factor - 1 / temperature
        }
        Float.gemm(
            pool, transposeA: false, transposeB: false, m: rows, n: d, k: count, a: scratch, b: entries, beta: 0,
            c: gradient)
        for row in 0..<rows {
            for i in 0..<d { gradient[row * d + i] += positives[row] * high[row * d + i] }
        }
        return sum
    }

    /// Logits to probabilities in place; returns log Σ exp of the scaled logits.
    private static func normalise(_ z: UnsafeMutablePointer<Float>, _ count: Int, temperature: Float) -> Double {
        var maximum = -Float.infinity
        for k in 0..<count { maximum = max(maximum, z[k] / temperature) }
        var sum = 0.0
        for k in 0..<count {
            z[k] = exp(z[k] / temperature - maximum)
            sum += Double(z[k])
        }
        let factor = Float(1 / sum)
        for k in 0..<count { z[k] *= factor }
        return Double(maximum) + log(sum)
    }
}

/// Two linear layers with a ReLU between, on the low side: L = Σ 1 − cos(h(l), high) (the predictor of SimSiam, Chen and He,
/// CVPR 2021, without its norms).
package final class EmbeddingPredictor {
    package let first: (weight: Parameter, bias: Parameter)
    package let second: (weight: Parameter, bias: Parameter)
    private let d: Int
    private let hidden: Int
    private let rows: Int
    private let inner: Tensor
    private let outer: Tensor
    private let back: Tensor

    /// - Parameter rows: at most so many at a time.
    package init(dimension: Int, hidden: Int, rows: Int, seed: UInt64) {
        d = dimension
        self.hidden = hidden
        self.rows = rows
        func layer(_ name: String, _ inputs: Int, _ outputs: Int) -> (weight: Parameter, bias: Parameter) {
            let start = Initializer.uniform(bound: 1 / Double(inputs).squareRoot())
            return (
                Parameter("predictor.\(name).weight", [outputs, inputs], role: .linear, initializer: start),
                Parameter("predictor.\(name).bias", [outputs], role: .bias, initializer: start)
            )
        }
        first = layer("0", dimension, hidden)
        second = layer("2", hidden, dimension)
        for parameter in [first.weight, first.bias, second.weight, second.bias] { parameter.initialize(seed: seed) }
        inner = Tensor([rows, hidden])
        outer = Tensor([rows, dimension])
        back = Tensor([rows, hidden])
    }

    /// Of the parameters, as files have them.
    package static let names: Set<String> = [
        "predictor.0.weight", "predictor.0.bias", "predictor.2.weight", "predictor.2.bias",
    ]

    package var parameters: [Parameter] { [first.weight, first.bias, second.weight, second.bias] }

    /// - Parameters:
    ///   - gradient: dL/d(low) of the sum over rows times `factor`; written.
    ///   - factor: of the parameters' gradients as well.
    /// - Returns: the sum over rows, without `factor`.
    package func step(
        high: UnsafePointer<Float>, low: UnsafePointer<Float>, rows: Int, factor: Float, accumulate: Bool,
        gradient: UnsafeMutablePointer<Float>, pool: ThreadPool
    ) -> Double {
        precondition(rows <= self.rows, "\(rows) rows in a predictor for \(self.rows)")
        let (h, y, g) = (inner.floats.baseAddress!, outer.floats.baseAddress!, back.floats.baseAddress!)
        affine(low, first, rows, d, hidden, h, pool)
        for i in 0..<rows * hidden { h[i] = max(0, h[i]) }
        affine(UnsafePointer(h), second, rows, hidden, d, y, pool)
        var sum = 0.0
        for row in 0..<rows {
            let (t, s) = (high + row * d, y + row * d)
            let products = CosineDistillation.Products(teacher: t, student: UnsafePointer(s), count: d)
            sum += 1 - products.cosine
            let (ofTeacher, ofStudent) = (factor * Float(products.teacherFactor), factor * Float(products.studentFactor))
            for i in 0..<d { s[i] = ofTeacher * t[i] + ofStudent * s[i] }
        }
        differentiate(second, UnsafePointer(y), UnsafePointer(h), rows, hidden, d, accumulate, pool)
        Float.gemm(
            pool, transposeA: false, transposeB: false, m: rows, n: hidden, k: d, a: y,
            b: second.weight.value.floats.baseAddress!, beta: 0, c: g)
        for i in 0..<rows * hidden where h[i] <= 0 { g[i] = 0 }
        differentiate(first, UnsafePointer(g), low, rows, d, hidden, accumulate, pool)
        Float.gemm(
            pool, transposeA: false, transposeB: false, m: rows, n: d, k: hidden, a: g,
            b: first.weight.value.floats.baseAddress!, beta: 0, c: gradient)
        return sum
    }

    private func affine(
        _ x: UnsafePointer<Float>, _ layer: (weight: Parameter, bias: Parameter), _ rows: Int, _ inputs: Int, _ outputs: Int,
        _ y: UnsafeMutablePointer<Float>, _ pool: ThreadPool
    ) {
        let bias = layer.bias.value.floats.baseAddress!
        for row in 0..<rows { (y + row * outputs).update(from: bias, count: outputs) }
        Float.gemm(
            pool, transposeA: false, transposeB: true, m: rows, n: outputs, k: inputs, a: x,
            b: layer.weight.value.floats.baseAddress!, beta: 1, c: y)
    }

    private func differentiate(
        _ layer: (weight: Parameter, bias: Parameter), _ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ rows: Int,
        _ inputs: Int, _ outputs: Int, _ accumulate: Bool, _ pool: ThreadPool
    ) {
        guard let weight = layer.weight.gradient, let bias = layer.bias.gradient else {
            preconditionFailure("the predictor has nowhere to leave its gradient")
        }
        Float.gemm(
            pool, transposeA: true, transposeB: false, m: outputs, n: inputs, k: rows, a: dy, b: x,
            beta: accumulate ? 1 : 0, c: weight.floats.baseAddress!)
        let sums = bias.floats
        if !accumulate { bias.fill(0) }
        for row in 0..<rows { for i in 0..<outputs { sums[i] += dy[row * outputs + i] } }
    }
}
