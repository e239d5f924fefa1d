import CKernels
import Tensors
import Testing

@Suite(.serialized)
struct NormTests {
    private struct Statistics: Equatable {
        var mean: [Float]
        var variance: [Float]
    }

    private static func statistics(_ pool: ThreadPool, _ x: TestMap) -> Statistics {
        let c = x.shape.c
        let bytes = ak_bn_workspace_bytes(Int32(c), Int32(x.shape.n), Int32(pool.threads))
        let workspace = AlignedBuffer(byteCount: bytes)
        workspace.base.initializeMemory(as: UInt8.self, repeating: 0xFF, count: bytes)
        var result = Statistics(mean: .init(repeating: .nan, count: c), variance: .init(repeating: .nan, count: c))
        ak_bn_statistics(pool.handle, x.map, &result.mean, &result.variance, workspace.base)
        return result
    }

    private static func loops(_ x: [Double], _ shape: MapShape) -> (mean: [Double], variance: [Double]) {
        let count = Double(shape.n * shape.h * shape.w)
        var (mean, variance) = ([Double](repeating: 0, count: shape.c), [Double](repeating: 0, count: shape.c))
        for (i, value) in x.enumerated() { mean[shape.channel(i)] += value / count }
        for (i, value) in x.enumerated() {
            let d = value - mean[shape.channel(i)]
            variance[shape.channel(i)] += d * d / count
        }
        return (mean, variance)
    }

    @Test(arguments: MapShape.cases)
    func statisticsMatchLoops(shape: MapShape) {
        for dtype in [AK_F32, AK_BF16] {
            let values = randomValues(shape.count, 1, mean: 0.3, std: 2, dtype)
            let expected = Self.loops(values, shape)
            let x = TestMap(shape, dtype, values)
            onEachSet { pool, setting in
                let result = Self.statistics(pool, x)
                #expect(relativeError(result.mean.map { Double($0) }, expected.mean) < 1e-6, "\(setting)")
                let variance = result.variance.map { Double($0) }
                if shape.n * shape.h * shape.w == 1 {
                    #expect(variance == [0], "\(setting)")
                } else {
                    #expect(relativeError(variance, expected.variance) < 1e-6, "\(setting)")
                }
                #expect(Self.statistics(pool, x) == result, "same bits twice, \(setting)")
            }
        }
    }

    /// A mean a thousand times the deviation; and, worse, whole images and borders that lie elsewhere than the rest.
    @Test(arguments: [0, 1, 2])
    func statisticsSurviveLargeMeans(kind: Int) {
        let shape = MapShape(n: 8, c: 20, h: 28, w: 28, halo: 1)
        var values = randomValues(shape.count, 2, mean: 1000)
        for i in values.indices {
            if kind == 1 && i < shape.count / shape.n { values[i] = Double(Float(values[i] - 1000)) }
            if kind == 2 && (i % shape.w == 0 || i / shape.w % shape.h == 0) { values[i] = 0 }
        }
        let expected = Self.loops(values, shape)
        let x = TestMap(shape, AK_F32, values)
        onEachSet { pool, setting in
            let result = Self.statistics(pool, x)
            for c in 0..<shape.c {
                #expect(abs(Double(result.mean[c]) - expected.mean[c]) < 1e-3, "\(setting)")
                let error = abs(Double(result.variance[c]) - expected.variance[c]) / expected.variance[c]
                #expect(error < 1e-5, "variance of channel \(c), \(setting)")
            }
        }
    }

    @Test func constantChannelsHaveNoVariance() {
        let shape = MapShape(n: 3, c: 17, h: 9, w: 9, halo: 1)
        let x = TestMap(shape, AK_F32, (0..<shape.count).map { Double(Float(0.1) * Float(shape.channel($0))) })
        onEachSet { pool, setting in
            let result = Self.statistics(pool, x)
            #expect(result.variance.allSatisfy { $0 >= 0 && $0 < 1e-12 }, "\(setting)")
        }
    }

    // MARK: Backward

    /// Per-channel coefficients of a batch norm and its PReLU.
    private struct Coefficients {
        let mean: [Float]
        let invstd: [Float]
        let scale: [Float]
        let shift: [Float]
        let slope: [Float]

        init(_ c: Int) {
            mean = randomFloats(c, 11)
            invstd = randomFloats(c, 12, mean: 1.5, std: 0.1)
            scale = randomFloats(c, 13)
            shift = randomFloats(c, 14)
            slope = randomFloats(c, 15, mean: 0.25, std: 0.1)
        }

        /// What the PReLU is applied to.
        func z(_ x: Double, _ c: Int) -> Double { Double(scale[c]) * x + Double(shift[c]) }

        func masked(_ dy: Double, _ x: Double, _ c: Int, prelu: Bool) -> Double {
            prelu && z(x, c) <= 0 ? dy * Double(slope[c]) : dy
        }
    }

    @Test(arguments: MapShape.cases)
    func backwardSumsMatchLoops(shape: MapShape) {
        let k = Coefficients(shape.c)
        for dtype in [AK_F32, AK_BF16] {
            let (values, upstream) = (randomValues(shape.count, 16, dtype), randomValues(shape.count, 17, dtype))
            let (x, dy) = (TestMap(shape, dtype, values), TestMap(shape, dtype, upstream))
            for prelu in [false, true] {
                let zeros = [Double](repeating: 0, count: shape.c)
                var (gamma, beta, slope) = (zeros, zeros, zeros)
                for i in 0..<shape.count {
                    let c = shape.channel(i)
                    let g = k.masked(upstream[i], values[i], c, prelu: prelu)
                    beta[c] += g
                    gamma[c] += g * (values[i] - Double(k.mean[c])) * Double(k.invstd[c])
                    if k.z(values[i], c) <= 0 { slope[c] += upstream[i] * k.z(values[i], c) }
                }
                if !prelu { slope = .init(repeating: -7, count: shape.c) }
                onEachSet { pool, setting in
                    let first = Self.reduce(pool, x, dy, k, prelu: prelu)
                    #expect(relativeError(first.gamma, gamma) < 3e-6, "\(setting)")
                    #expect(relativeError(first.beta, beta) < 3e-6, "\(setting)")
                    #expect(relativeError(first.slope, slope) < 3e-6, "\(setting)")
                    let second = Self.reduce(pool, x, dy, k, prelu: prelu)
                    #expect(first == second, "same bits twice, \(setting)")
                }
            }
        }
    }

    private struct Sums: Equatable {
        var gamma: [Double]
        var beta: [Double]
        var slope: [Double]
    }

    private static func reduce(_ pool: ThreadPool, _ x: TestMap, _ dy: TestMap, _ k: Coefficients, prelu: Bool) -> Sums
    {
        let c = x.shape.c
        let bytes = ak_bn_workspace_bytes(Int32(c), Int32(x.shape.n), Int32(pool.threads))
        let workspace = AlignedBuffer(byteCount: bytes)
        workspace.base.initializeMemory(as: UInt8.self, repeating: 0xFF, count: bytes)
        var (gamma, beta) = ([Float](repeating: .nan, count: c), [Float](repeating: .nan, count: c))
        var slope = [Float](repeating: -7, count: c)
        ak_bn_backward_reduce(
            pool.handle, x.map, dy.map, k.mean, k.invstd, k.scale, k.shift, prelu ? k.slope : nil, &gamma, &beta,
            &slope,
            workspace.base)
        return Sums(gamma: gamma.map { Double($0) }, beta: beta.map { Double($0) }, slope: slope.map { Double($0) })
    }

    @Test(arguments: MapShape.cases)
    func backwardGradientMatchesLoops(shape: MapShape) {
        let k = Coefficients(shape.c)
        let (a, b, d) = (randomFloats(shape.c, 18), randomFloats(shape.c, 19), randomFloats(shape.c, 20, mean: 1))
        for dtype in [AK_F32, AK_BF16] {
            let (values, upstream) = (randomValues(shape.count, 21, dtype), randomValues(shape.count, 22, dtype))
            let before = randomValues(shape.count, 23, dtype)
            let x = TestMap(shape, dtype, values)
            for (prelu, accumulate) in [(false, false), (false, true), (true, false), (true, true)] {
                let expected = (0..<shape.count).map { i in
                    let c = shape.channel(i)
                    let g = k.masked(upstream[i], values[i], c, prelu: prelu)
                    return Double(a[c]) * g + Double(b[c]) * values[i] + Double(d[c]) + (accumulate ? before[i] : 0)
                }
                onEachSet { pool, setting in
                    let dy = TestMap(shape, dtype, upstream)
                    let dx = accumulate ? TestMap(shape, dtype, before) : TestMap(shape, dtype)
                    func run(into dx: TestMap) {
                        ak_bn_backward_apply(
                            pool.handle, x.map, dy.map, k.scale, k.shift, prelu ? k.slope : nil, a, b, d, dx.map,
                            accumulate)
                    }
                    run(into: dx)
                    #expect(relativeError(dx.plain, expected) < tolerance(dtype), "\(setting)")
                    #expect(dx.borderIsZero, "\(setting)")
                    if accumulate { return }
                    run(into: dy)
                    #expect(dy.bytes == dx.bytes, "in place, \(setting)")
                }
            }
        }
    }

    /// The whole backward, with a, b, d derived as the header says, against central differences of a forward in double.
    @Test func backwardMatchesFiniteDifferences() {
        let shape = MapShape(n: 3, c: 18, h: 3, w: 4, halo: 1)
        let k = Coefficients(shape.c)
        let (values, weights) = (randomValues(shape.count, 24), randomValues(shape.count, 25))
        let m = Double(shape.n * shape.h * shape.w)
        /// sum of weights * prelu(gamma * xhat + beta), gamma = k.scale, beta = k.shift.
        func loss(_ x: [Double]) -> Double {
            let (mean, variance) = Self.loops(x, shape)
            return x.indices.reduce(0) { sum, i in
                let c = shape.channel(i)
                let z = Double(k.scale[c]) * (x[i] - mean[c]) / (variance[c] + 1e-5).squareRoot() + Double(k.shift[c])
                return sum + weights[i] * (z > 0 ? z : Double(k.slope[c]) * z)
            }
        }
        let (x, dy) = (TestMap(shape, AK_F32, values), TestMap(shape, AK_F32, weights))
        let pool = ThreadPool(threads: 2)
        let found = Self.statistics(pool, x)
        let invstd = found.variance.map { 1 / ($0 + 1e-5).squareRoot() }
        let scale = (0..<shape.c).map { k.scale[$0] * invstd[$0] }
        let shift = (0..<shape.c).map { k.shift[$0] - found.mean[$0] * scale[$0] }
        var (gamma, beta, slope) = (
            [Float](repeating: 0, count: shape.c), [Float](repeating: 0, count: shape.c), k.slope
        )
        let workspace = AlignedBuffer(byteCount: ak_bn_workspace_bytes(Int32(shape.c), Int32(shape.n), 2))
        ak_bn_backward_reduce(
            pool.handle, x.map, dy.map, found.mean, invstd, scale, shift, k.slope, &gamma, &beta, &slope, workspace.base
        )
        let b = (0..<shape.c).map { -scale[$0] * invstd[$0] * gamma[$0] / Float(m) }
        let d = (0..<shape.c).map { -scale[$0] * beta[$0] / Float(m) - b[$0] * found.mean[$0] }
        ak_bn_backward_apply(pool.handle, x.map, dy.map, scale, shift, k.slope, scale, b, d, dy.map, false)
        let gradient = dy.plain
        for i in stride(from: 0, to: shape.count, by: 29) {
            var (up, down) = (values, values)
            up[i] += 1e-5
            down[i] -= 1e-5
            let numeric = (loss(up) - loss(down)) / 2e-5
            #expect(abs(gradient[i] - numeric) < 1e-4 * max(1, abs(numeric)), "element \(i)")
        }
    }
}
