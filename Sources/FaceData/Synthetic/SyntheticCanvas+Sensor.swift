internal import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

extension SyntheticCanvas {
    /// Reduces a plane to side x side by area means and enlarges it again bilinearly.
    func resample(_ plane: UnsafeMutablePointer<Float>, side: Int) {
        let n = Self.side
        let ratio = Float(n) / Float(side)
        withUnsafeTemporaryAllocation(of: Float.self, capacity: n * side + side * side) { buffer in
            let wide = buffer.baseAddress!
            let small = wide + n * side
            // Columns first (n x side), then rows (side x side).
            for i in 0..<side {
                let span = Self.span(i, ratio, n)
                for row in 0..<n {
                    var sum: Float = 0
                    for k in span.first...span.last { sum += plane[row * n + k] * span.weight(k) }
                    wide[row * side + i] = sum / ratio
                }
            }
            for i in 0..<side {
                let span = Self.span(i, ratio, n)
                for column in 0..<side {
                    var sum: Float = 0
                    for k in span.first...span.last { sum += wide[k * side + column] * span.weight(k) }
                    small[i * side + column] = sum / ratio
                }
            }
            let taps = (0..<n).map { i -> (Int, Int, Float) in
                let at = max(0, min(Float(side - 1), (Float(i) + 0.5) / ratio - 0.5))
                return (Int(at), min(side - 1, Int(at) + 1), at - Float(Int(at)))
            }
            for row in 0..<n {
                let (top, bottom, v) = taps[row]
                for column in 0..<n {
                    let (left, right, u) = taps[column]
                    let a = small[top * side + left] * (1 - u) + small[top * side + right] * u
                    let b = small[bottom * side + left] * (1 - u) + small[bottom * side + right] * u
                    plane[row * n + column] = a * (1 - v) + b * v
                }
            }
        }
    }

    private struct Span {
        var low: Float, high: Float, first: Int, last: Int
        @inline(__always) func weight(_ k: Int) -> Float { min(high, Float(k + 1)) - max(low, Float(k)) }
    }

    private static func span(_ i: Int, _ ratio: Float, _ n: Int) -> Span {
        let low = Float(i) * ratio, high = min(Float(n), Float(i + 1) * ratio)
        return Span(low: low, high: high, first: Int(low), last: min(n - 1, Int(high.rounded(.up)) - 1))
    }

    /// Adds noise that is near normal (the sum of the four bytes of a hash) and partly common to the channels.
    func addNoise(_ camera: SyntheticCamera) {
        // A byte has variance (256^2 - 1)/12; four of them give the sum's deviation.
        let deviation = (4 * (65536 - 1) / Float(12)).squareRoot()
        let scale = camera.noiseSigma / deviation
        let lanes = SIMD8<UInt32>(0, 1, 2, 3, 4, 5, 6, 7)
        for (channel, plane) in [red, green, blue].enumerated() {
            let key = camera.noiseKey &+ UInt32(channel) &* 0x9E37_79B9
            for at in stride(from: 0, to: Self.count, by: 8) {
                // xorshift-multiply mixing of a counter (the constants of Wellons' lowbias32).
                var h = lanes &+ (UInt32(at) &+ key)
                h = (h ^ (h &>> 16)) &* 0x7FEB_352D
                h = (h ^ (h &>> 15)) &* 0x846C_A68B
                h = h ^ (h &>> 16)
                let pairs = (h & 0x00FF_00FF) &+ ((h &>> 8) & 0x00FF_00FF)
                let sum = (pairs & 0xFFFF) &+ (pairs &>> 16)
                let value = unsafeBitCast(sum | 0x4B00_0000, to: Lanes.self) - Lanes(8_388_608 + 510)
                store(load(plane, at) + value * scale, plane, at)
            }
        }
    }

    /// The orthonormal 8-point cosine transform, row k the k-th basis function.
    private static let cosines: [Lanes] = (0..<8).map { k in
        var row = Lanes()
        for i in 0..<8 {
            let angle = Float.pi * Float(k) * (2 * Float(i) + 1) / 16
            row[i] = (k == 0 ? Float(0.125).squareRoot() : 0.5) * cos(angle)
        }
        return row
    }

    /// Rounds the cosine coefficients of 8 x 8 blocks to steps that grow with frequency, as baseline JPEG does, in
    /// luma and, twice as coarsely, in the two colour differences.
    func quantise(strength: Float) {
        let q = strength * strength * 1.1 + 0.03
        let basis = Self.cosines
        for at in stride(from: 0, to: Self.count, by: 8) {
            let r = load(red, at), g = load(green, at), b = load(blue, at)
            let luma = r * 0.299 + g * 0.587 + b * 0.114
            store(luma, green, at)
            store(r - luma, red, at)
            store(b - luma, blue, at)
        }
        for (plane, coarse) in [(green, 1), (red, 2), (blue, 2)] as [(UnsafeMutablePointer<Float>, Float)] {
            for row in stride(from: 0, to: Self.side, by: 8) {
                for column in stride(from: 0, to: Self.side, by: 8) {
                    quantiseBlock(plane + row * Self.side + column, step: q * coarse, basis)
                }
            }
        }
        for at in stride(from: 0, to: Self.count, by: 8) {
            let luma = load(green, at), r = load(red, at) + luma, b = load(blue, at) + luma
            store(r, red, at)
            store(b, blue, at)
            store((luma - r * 0.299 - b * 0.114) * (1 / 0.587), green, at)
        }
    }

    private func quantiseBlock(_ block: UnsafeMutablePointer<Float>, step: Float, _ basis: [Lanes]) {
        let n = Self.side
        // Adding and subtracting 1.5 * 2^23 rounds to an integer.
        let shift: Float = 12_582_912
        withUnsafeTemporaryAllocation(of: Lanes.self, capacity: 16) { rows in
            // Vertical transform: coefficient k of all eight columns at once.
            for k in 0..<8 {
                var sum = Lanes.zero
                for i in 0..<8 { sum += load(block, i * n) * basis[k][i] }
                rows[k] = sum
            }
            for k in 0..<8 {
                // Horizontal transform of row k, rounding, and back.
                var line = Lanes.zero
                for j in 0..<8 {
                    let coefficient = (rows[k] * basis[j]).sum()
                    let width = step * (0.25 + 0.16 * Float(k + j))
                    let rounded = ((coefficient / width + shift) - shift) * width
                    line += basis[j] * rounded
                }
                rows[8 + k] = line
            }
            for i in 0..<8 {
                var sum = Lanes.zero
                for k in 0..<8 { sum += rows[8 + k] * basis[k][i] }
                store(sum, block, i * n)
            }
        }
    }
}
