import CKernels
import Tensors

/// The rounding error of one convolution against double precision on the same stored inputs: root mean square of the
/// difference over that of the reference, at points drawn at random.
package struct KernelError: Sendable {
    package var forward: Double
    package var inputGradient: Double
    package var weightGradient: Double
}

extension KernelBenchmark {
    /// Two images of normal values, weights of deviation 1/√(inputs of a sum); `points` of each result are compared.
    package func error(_ shape: Shape, points: Int = 200) -> KernelError {
        let sample = ConvolutionSample(shape.conv, dtype: dtype, pool: pool)
        var random = RandomStream(seed: 3, purpose: .test, index: 1, step: 0)
        func error(_ count: Int, points: Int, _ found: [Float], _ reference: (Int) -> Double) -> Double {
            var difference = 0.0
            var size = 0.0
            for _ in 0..<points {
                let index = min(Int(random.uniform(0, Double(count))), count - 1)
                let exact = reference(index)
                difference += (Double(found[index]) - exact) * (Double(found[index]) - exact)
                size += exact * exact
            }
            return (difference / max(size, 1e-300)).squareRoot()
        }
        return KernelError(
            forward: error(sample.y.count, points: points, sample.y, sample.forward),
            inputGradient: error(sample.dx.count, points: points, sample.dx, sample.inputGradient),
            weightGradient: error(sample.dw.count, points: points / 8, sample.dw, sample.weightGradient))
    }
}

/// Operands of a convolution in plain NCHW, what the kernels make of them, and the same sums in double.
private struct ConvolutionSample {
    private static let images = 2
    private let conv: ak_conv
    private let height: Int
    private let width: Int
    private let x: [Float]
    private let dy: [Float]
    private let weights: [Float]
    private(set) var y: [Float]
    private(set) var dx: [Float]
    private(set) var dw: [Float]

    init(_ geometry: ak_conv, dtype: ak_dtype, pool: ThreadPool) {
        var conv = geometry
        self.conv = geometry
        height = Int(ak_conv_out_h(&conv))
        width = Int(ak_conv_out_w(&conv))
        let n = Int32(Self.images)
        var random = RandomStream(seed: 3, purpose: .test, index: 0, step: 0)
        let sumLength = Double(conv.c / conv.groups * conv.kh * conv.kw)
        let weightCount = Int(conv.k * (conv.c / conv.groups) * conv.kh * conv.kw)
        weights = (0..<weightCount).map { _ in Float(random.normal() / sumLength.squareRoot()) }
        func map(_ buffer: AlignedBuffer, _ channels: Int32, _ h: Int32, _ w: Int32) -> ak_map {
            ak_map_make(buffer.base, dtype, n, channels, h, w)
        }
        func buffer(_ channels: Int32, _ h: Int32, _ w: Int32) -> AlignedBuffer {
            AlignedBuffer(byteCount: ak_map_bytes(dtype, n, channels, h, w))
        }
        let (oh, ow) = (Int32(height), Int32(width))
        let buffers = [
            buffer(conv.c, conv.h, conv.w), buffer(conv.k, oh, ow), buffer(conv.k, oh, ow), buffer(conv.c, conv.h, conv.w),
        ]
        defer { withExtendedLifetime(buffers) {} }
        let maps = [
            map(buffers[0], conv.c, conv.h, conv.w), map(buffers[1], conv.k, oh, ow), map(buffers[2], conv.k, oh, ow),
            map(buffers[3], conv.c, conv.h, conv.w),
        ]
        /// Random values as the map stores them.
        func stored(_ map: ak_map) -> [Float] {
            var values = (0..<Int(map.n * map.c * map.h * map.w)).map { _ in Float(random.normal()) }
            ak_map_from_nchw(pool.handle, values, map)
            ak_map_to_nchw(pool.handle, map, &values)
            return values
        }
        x = stored(maps[0])
        dy = stored(maps[2])
        let packed = AlignedBuffer(
            byteCount: max(ak_conv_packed_bytes(&conv, dtype, AK_FORWARD), ak_conv_packed_bytes(&conv, dtype, AK_BACKWARD)))
        let workspace = AlignedBuffer(byteCount: ak_conv_workspace_bytes(&conv, dtype, n, Int32(pool.threads)))
        let source = ak_source(map: maps[0], activation: ak_activation())
        ak_conv_pack(pool.handle, &conv, dtype, AK_FORWARD, weights, packed.base)
        ak_conv_forward(pool.handle, &conv, source, packed.base, maps[1], nil, workspace.base)
        ak_conv_pack(pool.handle, &conv, dtype, AK_BACKWARD, weights, packed.base)
        var dw = [Float](repeating: 0, count: weightCount)
        dw.withUnsafeMutableBufferPointer { dw in
            var gradients = ak_conv_gradients()
            gradients.dx = maps[3]
            gradients.dw = dw.baseAddress
            ak_conv_backward(
                pool.handle, &conv, source, ak_gradient(map: maps[2], chain: ak_chain()), packed.base, &gradients,
                workspace.base)
        }
        self.dw = dw
        y = [Float](repeating: 0, count: dy.count)
        dx = [Float](repeating: 0, count: x.count)
        ak_map_to_nchw(pool.handle, maps[1], &y)
        ak_map_to_nchw(pool.handle, maps[3], &dx)
        withExtendedLifetime((packed, workspace)) {}
    }

    private var inputs: Int { Int(conv.c / conv.groups) }
    private var outputs: Int { Int(conv.k / conv.groups) }
    private var taps: (Int, Int) { (Int(conv.kh), Int(conv.kw)) }
    private func xIndex(_ n: Int, _ c: Int, _ row: Int, _ column: Int) -> Int? {
        guard (0..<Int(conv.h)).contains(row), (0..<Int(conv.w)).contains(column) else { return nil }
        return ((n * Int(conv.c) + c) * Int(conv.h) + row) * Int(conv.w) + column
    }

    func forward(_ index: Int) -> Double {
        let (column, row) = (index % width, index / width % height)
        let (k, n) = (index / width / height % Int(conv.k), index / width / height / Int(conv.k))
        var sum = 0.0
        for c in 0..<inputs {
            for a in 0..<taps.0 {
                for b in 0..<taps.1 {
                    guard
                        let at = xIndex(
                            n, k / outputs * inputs + c, row * Int(conv.stride) - Int(conv.pad) + a,
                            column * Int(conv.stride) - Int(conv.pad) + b)
                    else { continue }
                    sum += Double(x[at]) * Double(weights[((k * inputs + c) * taps.0 + a) * taps.1 + b])
                }
            }
        }
        return sum
    }

    func inputGradient(_ index: Int) -> Double {
        let (h, w) = (Int(conv.h), Int(conv.w))
        let (column, row) = (index % w, index / w % h)
        let (c, n) = (index / w / h % Int(conv.c), index / w / h / Int(conv.c))
        let stride = Int(conv.stride)
        var sum = 0.0
        for a in 0..<taps.0 {
            for b in 0..<taps.1 {
                let (y, x) = (row + Int(conv.pad) - a, column + Int(conv.pad) - b)
                guard y >= 0, x >= 0, y % stride == 0, x % stride == 0, y / stride < height, x / stride < width else {
                    continue
                }
                for o in 0..<outputs {
                    let k = c / inputs * outputs + o
                    sum +=
                        Double(dy[((n * Int(conv.k) + k) * height + y / stride) * width + x / stride])
                        * Double(weights[((k * inputs + c % inputs) * taps.0 + a) * taps.1 + b])
                }
            }
        }
        return sum
    }

    func weightGradient(_ index: Int) -> Double {
        let (b, a) = (index % taps.1, index / taps.1 % taps.0)
        let (c, k) = (index / taps.1 / taps.0 % inputs, index / taps.1 / taps.0 / inputs)
        var sum = 0.0
        for n in 0..<Self.images {
            for row in 0..<height {
                for column in 0..<width {
                    guard
                        let at = xIndex(
                            n, k / outputs * inputs + c, row * Int(conv.stride) - Int(conv.pad) + a,
                            column * Int(conv.stride) - Int(conv.pad) + b)
                    else { continue }
                    sum += Double(x[at]) * Double(dy[((n * Int(conv.k) + k) * height + row) * width + column])
                }
            }
        }
        return sum
    }
}
