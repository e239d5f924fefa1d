import CKernels
import Tensors

/// An array of channels as kernels take it: whole blocks, zero beyond the channels, aligned.
final class ChannelArray {
    /// The channels' values as they were given.
    let values: [Double]
    private let count: Int
    private let memory: GuardedMemory

    init(_ values: [Float]) {
        self.values = values.map { Double($0) }
        count = values.count
        memory = GuardedMemory((count + 15) / 16 * 64)
        for i in 0..<memory.size / 4 { pointer[i] = i < count ? values[i] : 0 }
    }

    /// An array to be written: full of NaN.
    init(unwritten count: Int) {
        values = []
        self.count = count
        memory = GuardedMemory((count + 15) / 16 * 64)
    }

    var pointer: UnsafeMutablePointer<Float> { memory.base.assumingMemoryBound(to: Float.self) }
    /// What a kernel has written: the channels.
    var written: [Double] { (0..<count).map { Double(pointer[$0]) } }
    /// Whether a kernel has left it zero beyond the channels and has written nothing behind it.
    var isProper: Bool { memory.isIntact && (count..<memory.size / 4).allSatisfy { pointer[$0] == 0 } }
    var isUntouched: Bool { memory.isIntact && memory.bytes.allSatisfy { $0 == 0xFF } }
}

/// What stands between a stored map and its reader.
enum Reading: CaseIterable, Sendable {
    case asStored, affine, prelu
}

/// The coefficients of a norm and its PReLU, forward and backward, and what they mean in double precision. The shift is
/// far from zero, so that padding that is normalised shows.
final class NormFixture {
    let mean: ChannelArray
    let invstd: ChannelArray
    let scale: ChannelArray
    let shift: ChannelArray
    let slope: ChannelArray
    let a: ChannelArray
    let b: ChannelArray
    let d: ChannelArray

    init(_ c: Int, _ index: UInt64) {
        func array(_ which: UInt64, mean: Double = 0, std: Double = 1) -> ChannelArray {
            ChannelArray(randomFloats(c, 100 * index + which, mean: mean, std: std))
        }
        mean = array(0)
        invstd = array(1, mean: 1.5, std: 0.1)
        scale = array(2)
        shift = array(3, mean: 1, std: 0.5)
        slope = array(4, mean: 0.25, std: 0.1)
        a = array(5)
        b = array(6)
        d = array(7, mean: 1, std: 0.5)
    }

    func activation(_ reading: Reading) -> ak_activation {
        reading == .asStored
            ? ak_activation()
            : ak_activation(
                scale: scale.pointer, shift: shift.pointer, slope: reading == .prelu ? slope.pointer : nil)
    }

    func chain(_ x: TestMap, _ reading: Reading) -> ak_chain {
        if reading == .asStored { return ak_chain() }
        let prelu = reading == .prelu
        // Without a slope neither scale nor shift is read.
        return ak_chain(
            x: x.map, scale: prelu ? scale.pointer : nil, shift: prelu ? shift.pointer : nil,
            slope: prelu ? slope.pointer : nil, a: a.pointer, b: b.pointer, d: d.pointer)
    }

    /// `sums` nil: none are wanted.
    func reduction(_ x: TestMap, _ reading: Reading, _ sums: GuardedMemory?) -> ak_reduction {
        let prelu = reading == .prelu
        return ak_reduction(
            x: x.map, mean: mean.pointer, scale: prelu ? scale.pointer : nil, shift: prelu ? shift.pointer : nil,
            slope: prelu ? slope.pointer : nil, sums: sums.map { OpaquePointer($0.base) })
    }

    func activated(_ x: [Double], _ shape: MapShape, _ reading: Reading) -> [Double] {
        if reading == .asStored { return x }
        var result = x
        shape.forEachPlane { c, plane in
            let (scale, shift) = (scale.values[c], shift.values[c])
            let slope = reading == .prelu ? slope.values[c] : 1
            for i in plane {
                let z = scale * x[i] + shift
                result[i] = z > 0 ? z : slope * z
            }
        }
        return result
    }

    /// g' of the header.
    private func masked(_ g: Double, _ x: Double, _ c: Int, _ reading: Reading) -> Double {
        reading == .prelu && scale.values[c] * x + shift.values[c] <= 0 ? slope.values[c] * g : g
    }

    func chained(_ g: [Double], _ x: [Double], _ shape: MapShape, _ reading: Reading) -> [Double] {
        if reading == .asStored { return g }
        var result = g
        shape.forEachPlane { c, plane in
            let (a, b, d) = (a.values[c], b.values[c], d.values[c])
            for i in plane { result[i] = a * masked(g[i], x[i], c, reading) + b * x[i] + d }
        }
        return result
    }

    /// Folds what was gathered of the gradient g and returns how far the worst channel is from the sums of loops,
    /// relative to the sum of the terms' sizes.
    func errorOfSums(
        _ pool: ThreadPool, _ sums: GuardedMemory, _ g: [Double], _ xMap: TestMap, _ x: [Double], _ reading: Reading
    ) -> Double {
        let shape = xMap.shape
        let zeros = [Double](repeating: 0, count: shape.c)
        var (expected, sizes) = ([zeros, zeros, zeros], [zeros, zeros, zeros])
        shape.forEachPlane { c, plane in
            var (sum, size) = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
            for i in plane {
                let z = scale.values[c] * x[i] + shift.values[c]
                let masked = masked(g[i], x[i], c, reading)
                let terms = (
                    masked * (x[i] - mean.values[c]) * invstd.values[c], masked, z <= 0 ? g[i] * z : 0
                )
                sum = (sum.0 + terms.0, sum.1 + terms.1, sum.2 + terms.2)
                // fp32 subtracts the mean and adds the shift with an error of the operands' size.
                size.0 += abs(masked) * (abs(x[i]) + abs(mean.values[c])) * invstd.values[c]
                size.1 += abs(masked)
                size.2 += abs(g[i]) * (abs(z) + abs(shift.values[c]))
            }
            expected[0][c] += sum.0
            expected[1][c] += sum.1
            expected[2][c] += sum.2
            sizes[0][c] += size.0
            sizes[1][c] += size.1
            sizes[2][c] += size.2
        }
        let found = (0..<3).map { _ in ChannelArray(unwritten: shape.c) }
        var reduction = reduction(xMap, reading, sums)
        ak_sums_fold(
            pool.handle, &reduction, invstd.pointer, found[0].pointer, found[1].pointer, found[2].pointer)
        guard sums.isIntact, found[0].isProper, found[1].isProper else { return .infinity }
        guard reading == .prelu ? found[2].isProper : found[2].isUntouched else { return .infinity }
        var worst = 0.0
        for (which, array) in found.prefix(reading == .prelu ? 3 : 2).enumerated() {
            for (c, value) in array.written.enumerated() {
                let error = abs(value - expected[which][c]) / (sizes[which][c] + 1e-30)
                guard error.isFinite else { return .infinity }
                worst = max(worst, error)
            }
        }
        return worst
    }

    static func sums(_ c: Int, _ pool: ThreadPool) -> GuardedMemory {
        GuardedMemory(ak_sums_bytes(Int32(c), Int32(pool.threads)))
    }
}

/// Moments as kernels gather them, and as loops find them.
final class MomentsFixture {
    let memory: GuardedMemory
    private let c: Int

    init(_ c: Int, _ pool: ThreadPool) {
        self.c = c
        memory = GuardedMemory(ak_moments_bytes(Int32(c), Int32(pool.threads)))
    }

    var pointer: OpaquePointer { OpaquePointer(memory.base) }

    /// Mean and variance of what was gathered; nil where the fold breaks the rules of memory.
    func fold(_ pool: ThreadPool) -> (mean: [Double], variance: [Double])? {
        let (mean, variance) = (ChannelArray(unwritten: c), ChannelArray(unwritten: c))
        ak_moments_fold(pool.handle, pointer, Int32(c), mean.pointer, variance.pointer)
        guard memory.isIntact, mean.isProper, variance.isProper else { return nil }
        return (mean.written, variance.written)
    }

    /// How far the worst channel is from the moments of these values, relative to the channel's mean square.
    func error(_ pool: ThreadPool, of values: [Double], _ shape: MapShape) -> Double {
        guard let found = fold(pool) else { return .infinity }
        let expected = Self.loops(values, shape)
        var worst = 0.0
        for c in 0..<shape.c {
            let square = expected.mean[c] * expected.mean[c] + expected.variance[c] + 1e-30
            let errors = (
                abs(found.mean[c] - expected.mean[c]) / square.squareRoot(),
                abs(found.variance[c] - expected.variance[c]) / square
            )
            guard errors.0.isFinite, errors.1.isFinite, found.variance[c] >= 0 else { return .infinity }
            worst = max(worst, errors.0, errors.1)
        }
        return worst
    }

    static func loops(_ x: [Double], _ shape: MapShape) -> (mean: [Double], variance: [Double]) {
        let count = Double(shape.n * shape.h * shape.w)
        var (mean, variance) = ([Double](repeating: 0, count: shape.c), [Double](repeating: 0, count: shape.c))
        shape.forEachPlane { c, plane in mean[c] += plane.reduce(0) { $0 + x[$1] } / count }
        shape.forEachPlane { c, plane in
            let mean = mean[c]
            variance[c] += plane.reduce(0) { $0 + (x[$1] - mean) * (x[$1] - mean) } / count
        }
        return (mean, variance)
    }
}
