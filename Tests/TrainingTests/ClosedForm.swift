import Layers
import Tensors

/// The closed formula that scripts/reference/pytorch_parity.py evaluates too: weights, images and signs from hashed
/// indices, exact in fp32.
enum ClosedForm {
    static let classes = 50
    static let batch = 8
    private static let streamsPerSeed: UInt64 = 2048

    /// SplitMix64 of (stream << 40) + index.
    static func hashed(_ stream: UInt64, _ index: Int) -> UInt64 {
        var z = (stream << 40) &+ UInt64(index)
        z = z &* 0x9E37_79B9_7F4A_7C15 &+ 0x9E37_79B9_7F4A_7C15
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// Uniform in [−1, 1) with 20 bits.
    static func uniform(_ stream: UInt64, _ index: Int) -> Double { Double(hashed(stream, index) >> 44) * 0x1p-19 - 1 }

    /// ±1.
    static func sign(_ stream: UInt64, _ index: Int) -> Double { hashed(stream, index) >> 63 == 0 ? 1 : -1 }

    /// The starting values of the parameter that is `place` in the order of the state, counted from 1.
    static func fill(_ parameter: Parameter, seed: UInt64, place: UInt64) {
        let values = parameter.value.floats
        let fanIn = Double(parameter.shape.dropFirst().reduce(1, *))
        let (offset, factor): (Double, Double) =
            switch parameter.role {
            case .normScale: (1, 0.25)
            case .normShift: (2.75, 0.5)
            case .preluSlope: (0.25, 0.125)
            case .bias: (0, 0.0625)
            case .convolution, .linear: (0, nearestPowerOfTwo((3 / fanIn).squareRoot()))
            }
        let stream = streamsPerSeed * seed + place
        for i in values.indices {
            let u = uniform(stream, i)
            // Shifts are positive and negative in equal parts.
            values[i] = Float((parameter.role == .normShift && u < 0 ? -offset : offset) + factor * u)
        }
    }

    /// By ratio.
    private static func nearestPowerOfTwo(_ value: Double) -> Double {
        let below = Double(sign: .plus, exponent: value.exponent, significand: 1)
        return value.significand > 2.0.squareRoot() ? 2 * below : below
    }

    /// (8, 3, 112, 112): triangle waves of a direction and length for each image, with a quarter of noise.
    static func images() -> [Float] {
        var images: [Float] = []
        images.reserveCapacity(batch * 3 * 112 * 112)
        for i in 0..<batch {
            for c in 0..<3 {
                for y in 0..<112 {
                    for x in 0..<112 {
                        let t = (x * (i + 1) + y * (2 * c + 9 - i) + 37 * i * (c + 1)) % 128
                        let wave = Double(abs(t - 64)) / 32 - 1
                        images.append(Float(0.75 * wave + 0.25 * uniform(901, images.count)))
                    }
                }
            }
        }
        return images
    }

    static func centres(dimension: Int) -> [Float] {
        (0..<classes * dimension).map { Float(uniform(900, $0) / 64) }
    }

    static var labels: [Int] { (0..<batch).map { (7 * $0 + 3) % classes } }

    /// Products of `values` with 16 vectors of random signs; `tensor` numbers the gradient tensors from 0.
    static func projections(of values: UnsafePointer<Float>, count: Int, tensor: Int, _ pool: ThreadPool) -> [Double] {
        var partial = [[Double]](repeating: [], count: pool.threads)
        partial.withUnsafeMutableBufferPointer { partial in
            nonisolated(unsafe) let partial = partial
            pool.run { part, parts in
                var sums = [Double](repeating: 0, count: 16)
                for i in count * part / parts..<count * (part + 1) / parts {
                    let value = Double(values[i])
                    for j in 0..<16 { sums[j] += value * sign(UInt64(1000 + 16 * tensor + j), i) }
                }
                partial[part] = sums
            }
        }
        return (0..<16).map { j in partial.reduce(0) { $0 + $1[j] } }
    }
}
