internal import CKernels

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Operations over flat fp32 vectors, split over the pool in fixed partitions: the same number of threads gives the
/// same bits.
package enum Vectors {
    /// The sum of x[i]^2, accumulated in double.
    package static func sumSquares(_ pool: ThreadPool, _ x: UnsafeMutableBufferPointer<Float>) -> Double {
        guard let base = x.baseAddress else { return 0 }
        return ak_sum_squares(pool.handle, base, x.count)
    }

    /// One step of stochastic gradient descent in PyTorch's meaning, dampening 0: g = scale * gradient + decay * p;
    /// v = momentum * v + g; p -= rate * v. The three vectors have the same count.
    package static func sgd(
        _ pool: ThreadPool, parameters: UnsafeMutableBufferPointer<Float>, velocity: UnsafeMutableBufferPointer<Float>,
        gradient: UnsafeMutableBufferPointer<Float>, scale: Float = 1, rate: Float, momentum: Float, decay: Float
    ) {
        precondition(
            parameters.count == velocity.count && parameters.count == gradient.count,
            "\(parameters.count) parameters, \(velocity.count) velocities, \(gradient.count) gradients")
        guard let p = parameters.baseAddress, let v = velocity.baseAddress, let g = gradient.baseAddress else { return }
        ak_sgd(pool.handle, p, v, g, parameters.count, scale, rate, momentum, decay)
    }

    /// What Adam (Kingma and Ba, ICLR 2015) hangs on beside the learning rate.
    package struct AdamConstants: Sendable, Equatable {
        /// How slowly the means of gradients, and of their squares, move.
        package var beta1: Double
        package var beta2: Double
        /// Added to the root of the mean square.
        package var epsilon: Double

        package init(beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8) {
            precondition(
                (0..<1).contains(beta1) && (0..<1).contains(beta2) && epsilon > 0,
                "betas \(beta1), \(beta2), ε \(epsilon)")
            self.beta1 = beta1
            self.beta2 = beta2
            self.epsilon = epsilon
        }
    }

    /// One step of Adam in the meaning of PyTorch's `Adam`, weight decay added to the gradient: g = scale * gradient +
    /// decay * p; m = β1 * m + (1 - β1) * g; s = β2 * s + (1 - β2) * g²; p -= rate / (1 - β1^t) * m / (√(s / (1 - β2^t)) + ε).
    /// The four vectors have the same count.
    ///
    /// - Parameter step: t, counted from 1.
    package static func adam(
        _ pool: ThreadPool, parameters: UnsafeMutableBufferPointer<Float>, means: UnsafeMutableBufferPointer<Float>,
        squares: UnsafeMutableBufferPointer<Float>, gradient: UnsafeMutableBufferPointer<Float>, scale: Float = 1,
        rate: Double, _ adam: AdamConstants, decay: Float, step: Int
    ) {
        precondition(
            parameters.count == means.count && parameters.count == squares.count && parameters.count == gradient.count,
            "\(parameters.count) parameters, \(means.count) means, \(squares.count) squares, \(gradient.count) gradients"
        )
        precondition(step >= 1, "step \(step)")
        guard let p = parameters.baseAddress, let m = means.baseAddress, let s = squares.baseAddress,
            let g = gradient.baseAddress
        else { return }
        let count = Double(step)
        var constants = ak_adam_constants(
            scale: scale, rate: Float(rate / (1 - pow(adam.beta1, count))), beta1: Float(adam.beta1),
            rest1: Float(1 - adam.beta1), beta2: Float(adam.beta2), rest2: Float(1 - adam.beta2),
            root: Float(1 / (1 - pow(adam.beta2, count)).squareRoot()), epsilon: Float(adam.epsilon), decay: decay)
        ak_adam(pool.handle, p, m, s, g, parameters.count, &constants)
    }

    /// `sgd` on rows of `columns` elements: for i in 0..<rows, row targets[i] of parameters and velocity with row
    /// sources[i] of the gradient.
    ///
    /// - Parameters:
    ///   - targets: rows that all differ; row i where nil.
    ///   - sources: row i where nil; a negative one stands for a zero gradient.
    package static func sgdRows(
        _ pool: ThreadPool, parameters: UnsafeMutablePointer<Float>, velocity: UnsafeMutablePointer<Float>,
        gradient: UnsafePointer<Float>, targets: UnsafePointer<Int32>? = nil, sources: UnsafePointer<Int32>? = nil,
        rows: Int, columns: Int, rate: Float, momentum: Float, decay: Float
    ) {
        precondition(rows >= 0 && columns >= 0, "\(rows) rows of \(columns) columns")
        ak_sgd_rows(
            pool.handle, parameters, velocity, gradient, targets, sources, rows, columns, 1, rate, momentum, decay)
    }

    /// One step of `sgd` on class centres whose cosines were compared, on the calling thread: for i in 0..<rows, row
    /// targets[i] of parameters and velocity with row i of the gradient, less the part of it that points along the centre,
    /// p·(p·g)/‖p‖².
    ///
    /// - Parameters:
    ///   - targets: rows that all differ; row i where nil.
    ///   - inverse: 1/‖p‖ of row i; nil takes the gradient as it is.
    package static func sgdCentres(
        parameters: UnsafeMutablePointer<Float>, velocity: UnsafeMutablePointer<Float>, gradient: UnsafePointer<Float>,
        targets: UnsafePointer<Int32>? = nil, inverse: UnsafePointer<Float>? = nil, rows: Int, columns: Int,
        rate: Float, momentum: Float, decay: Float
    ) {
        precondition(rows >= 0 && columns >= 0, "\(rows) rows of \(columns) columns")
        ak_sgd_centres(
            parameters, velocity, gradient, targets, inverse, rows, columns, rate, momentum, decay)
    }

    /// y += x.
    package static func accumulate(
        _ pool: ThreadPool, _ x: UnsafeMutableBufferPointer<Float>, into y: UnsafeMutableBufferPointer<Float>
    ) {
        precondition(x.count == y.count, "\(x.count) elements added to \(y.count)")
        guard let from = x.baseAddress, let to = y.baseAddress else { return }
        ak_accumulate(pool.handle, from, to, x.count)
    }

    /// x *= factor.
    package static func scale(_ pool: ThreadPool, _ x: UnsafeMutableBufferPointer<Float>, by factor: Float) {
        guard let base = x.baseAddress else { return }
        ak_scale(pool.handle, base, factor, x.count)
    }

    /// Whether no element is infinite or NaN.
    package static func allFinite(_ pool: ThreadPool, _ x: UnsafeMutableBufferPointer<Float>) -> Bool {
        guard let base = x.baseAddress else { return true }
        return ak_all_finite(pool.handle, base, x.count)
    }

    /// The bf16 patterns of x, rounded to nearest even; a NaN stays one.
    package static func bfloat16(
        _ pool: ThreadPool, _ x: UnsafeMutableBufferPointer<Float>, into y: UnsafeMutableBufferPointer<UInt16>
    ) {
        precondition(x.count == y.count, "\(x.count) elements converted into \(y.count)")
        guard let from = x.baseAddress, let to = y.baseAddress else { return }
        ak_bf16_from_f32(pool.handle, from, to, x.count)
    }

    /// The values of bf16 patterns.
    package static func float32(
        _ pool: ThreadPool, _ x: UnsafeMutableBufferPointer<UInt16>, into y: UnsafeMutableBufferPointer<Float>
    ) {
        precondition(x.count == y.count, "\(x.count) elements converted into \(y.count)")
        guard let from = x.baseAddress, let to = y.baseAddress else { return }
        ak_f32_from_bf16(pool.handle, from, to, x.count)
    }

    /// The inner product of two vectors. Products and sums are rounded one by one, in an order that hangs on `count` alone:
    /// the same bits on every processor.
    package static func dot(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, count: Int) -> Float {
        var sums = (SIMD16<Float>.zero, SIMD16<Float>.zero)
        let (x, y) = (UnsafeRawPointer(a), UnsafeRawPointer(b))
        var done = 0
        func product(_ place: Int) -> SIMD16<Float> {
            let offset = place * MemoryLayout<Float>.stride
            return x.loadUnaligned(fromByteOffset: offset, as: SIMD16<Float>.self)
                * y.loadUnaligned(fromByteOffset: offset, as: SIMD16<Float>.self)
        }
        while done + 32 <= count {
            sums.0 += product(done)
            sums.1 += product(done + 16)
            done += 32
        }
        if done + 16 <= count {
            sums.0 += product(done)
            done += 16
        }
        let joined = sums.0 + sums.1
        var total: Float = 0
        for lane in 0..<16 { total += joined[lane] }
        while done < count {
            total += a[done] * b[done]
            done += 1
        }
        return total
    }
}
