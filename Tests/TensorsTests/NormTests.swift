import CKernels
import Tensors
import Testing

@Suite(.serialized)
struct NormTests {
    private static func moments(_ pool: ThreadPool, _ x: TestMap) -> MomentsFixture {
        let moments = MomentsFixture(x.shape.c, pool)
        ak_moments_of(pool.handle, x.map, moments.pointer)
        return moments
    }

    @Test(arguments: MapShape.cases)
    func momentsMatchLoops(shape: MapShape) {
        for dtype in elementTypes {
            let values = randomValues(shape.count, 1, mean: 0.3, std: 2, dtype)
            let x = TestMap(shape, dtype, values)
            onEachSet(threads: [1, 2, 3, 5]) { pool, setting in
                let found = Self.moments(pool, x)
                #expect(found.error(pool, of: values, shape) < 3e-6, "\(name(dtype)), \(setting)")
                let (first, second) = (found.fold(pool), Self.moments(pool, x).fold(pool))
                #expect(
                    first?.mean == second?.mean && first?.variance == second?.variance,
                    "same bits twice, \(name(dtype)), \(setting)")
                if shape.n * shape.h * shape.w == 1 { #expect(first?.variance.allSatisfy { $0 == 0 } == true) }
            }
        }
    }

    /// A mean a thousand times the deviation; and, worse, whole images and borders that lie elsewhere than the rest.
    @Test(arguments: [0, 1, 2])
    func momentsSurviveLargeMeans(kind: Int) {
        let shape = MapShape(n: 8, c: 20, h: 28, w: 28)
        var values = randomValues(shape.count, 2, mean: 1000)
        for i in values.indices {
            if kind == 1 && i < shape.count / shape.n { values[i] = Double(Float(values[i] - 1000)) }
            if kind == 2 && (i % shape.w == 0 || i / shape.w % shape.h == 0) { values[i] = 0 }
        }
        let expected = MomentsFixture.loops(values, shape)
        let x = TestMap(shape, AK_F32, values)
        onEachSet(threads: [1, 2, 3, 5]) { pool, setting in
            guard let found = Self.moments(pool, x).fold(pool) else {
                Issue.record("the fold breaks the rules of memory, \(setting)")
                return
            }
            for c in 0..<shape.c {
                #expect(abs(found.mean[c] - expected.mean[c]) < 1e-3, "\(setting)")
                let error = abs(found.variance[c] - expected.variance[c]) / expected.variance[c]
                #expect(error < 1e-5, "variance of channel \(c), \(setting)")
            }
        }
    }

    @Test func constantChannelsHaveNoVariance() {
        let shape = MapShape(n: 3, c: 17, h: 9, w: 9)
        let x = TestMap(shape, AK_F32, (0..<shape.count).map { Double(Float(0.1) * Float(shape.channel($0))) })
        onEachSet { pool, setting in
            let found = Self.moments(pool, x).fold(pool)
            #expect(found?.variance.allSatisfy { $0 >= 0 && $0 < 1e-12 } == true, "\(setting)")
        }
    }

    @Test(arguments: MapShape.cases)
    func mergeMatchesLoops(shape: MapShape) {
        let (norm, other) = (NormFixture(shape.c, 1), NormFixture(shape.c, 2))
        let (values, residuals) = (randomValues(shape.count, 3, AK_BF16), randomValues(shape.count, 4, AK_BF16))
        // The last: no residual.
        for (turn, residualReading) in (Reading.allCases + [nil]).enumerated() {
            for (i, reading) in Reading.allCases.enumerated() {
                let v = norm.activated(values, shape, reading)
                let w = residualReading.map { other.activated(residuals, shape, $0) }
                let expected = w.map { w in v.indices.map { v[$0] + w[$0] } } ?? v
                onEachSet(turn: turn + 4 * i) { pool, turn, setting in
                    // Every combination of element types, and moments or none.
                    for choice in 0..<16 {
                        let types = (0..<3).map { elementTypes[choice >> $0 & 1] }
                        let setting = "\(reading), \(residualReading, default: "none"), \(types.map(name)), \(setting)"
                        let (x, r) = (TestMap(shape, types[0], values), TestMap(shape, types[1], residuals))
                        let (source, residual) = (
                            ak_source(map: x.map, activation: norm.activation(reading)),
                            residualReading.map { ak_source(map: r.map, activation: other.activation($0)) }
                                ?? ak_source()
                        )
                        let moments = choice & 8 != 0 ? MomentsFixture(shape.c, pool) : nil
                        let y = TestMap(shape, types[2])
                        ak_merge(pool.handle, source, residual, y.map, moments?.pointer)
                        #expect(relativeError(y.plain, expected) < tolerance(types[2]), "\(setting)")
                        #expect(y.isProper, "\(setting)")
                        if let moments {
                            // Those of y before it is rounded.
                            #expect(moments.error(pool, of: expected, shape) < 2e-6, "moments, \(setting)")
                        }
                        // In place.
                        let target = choice & 8 != 0 && residualReading != nil ? r : x
                        if target.map.dtype == types[2] {
                            ak_merge(pool.handle, source, residual, target.map, nil)
                            #expect(target.bytes == y.bytes, "in place, \(setting)")
                        }
                        withExtendedLifetime((x, r, y, moments)) {}
                    }
                }
            }
        }
        withExtendedLifetime((norm, other)) {}
    }

    // MARK: Backward

    @Test(arguments: MapShape.cases)
    func sumsMatchLoops(shape: MapShape) {
        let norm = NormFixture(shape.c, 3)
        let (values, upstream) = (randomValues(shape.count, 16, AK_BF16), randomValues(shape.count, 17, AK_BF16))
        for choice in 0..<8 {
            let types = (0..<2).map { elementTypes[choice >> $0 & 1] }
            let (x, g) = (TestMap(shape, types[0], values), TestMap(shape, types[1], upstream))
            let reading = choice & 4 != 0 ? Reading.prelu : .affine
            onEachSet(turn: choice) { pool, _, setting in
                let sums = (0..<2).map { _ in NormFixture.sums(shape.c, pool) }
                for sums in sums { ak_sums_of(pool.handle, g.map, norm.reduction(x, reading, sums)) }
                let error = norm.errorOfSums(pool, sums[0], upstream, x, values, reading)
                #expect(error < 1e-6, "\(reading), \(types.map(name)), \(setting)")
                #expect(sums[0].bytes == sums[1].bytes, "same bits twice, \(reading), \(setting)")
            }
            withExtendedLifetime((x, g)) {}
        }
    }

    @Test(arguments: MapShape.cases)
    func chainsMatchLoops(shape: MapShape) {
        let (norm, below) = (NormFixture(shape.c, 4), NormFixture(shape.c, 5))
        func values(_ index: UInt64) -> [Double] { randomValues(shape.count, index, AK_BF16) }
        let (upstream, chainX, before, reductionX) = (values(21), values(22), values(23), values(24))
        for (i, reading) in Reading.allCases.enumerated() {
            let chained = norm.chained(upstream, chainX, shape, reading)
            for choice in 0..<16 {
                let types = (0..<4).map { elementTypes[choice >> $0 & 1] }
                let accumulate = (choice + i) % 2 == 1
                let expected = accumulate ? chained.indices.map { chained[$0] + before[$0] } : chained
                let reduction = [nil, .affine, .prelu][(choice + choice / 3) % 3] as Reading?
                onEachSet(turn: choice + i) { pool, _, setting in
                    let setting = "\(reading), \(types.map(name)), accumulate \(accumulate), \(setting)"
                    let (g, x) = (TestMap(shape, types[0], upstream), TestMap(shape, types[1], chainX))
                    let dx = accumulate ? TestMap(shape, types[2], before) : TestMap(shape, types[2])
                    let lower = TestMap(shape, types[3], reductionX)
                    let sums = reduction.map { _ in NormFixture.sums(shape.c, pool) }
                    let gradient = ak_gradient(map: g.map, chain: norm.chain(x, reading))
                    ak_chain_apply(
                        pool.handle, gradient, dx.map, accumulate, below.reduction(lower, reduction ?? .affine, sums))
                    #expect(relativeError(dx.plain, expected) < tolerance(types[2]), "\(setting)")
                    #expect(dx.isProper, "\(setting)")
                    if let reduction, let sums {
                        // Those of dx before it is rounded.
                        let error = below.errorOfSums(pool, sums, expected, lower, reductionX, reduction)
                        #expect(error < 2e-6, "reduced through \(reduction), \(setting)")
                    }
                    if !accumulate && types[0] == types[2] {
                        ak_chain_apply(pool.handle, gradient, g.map, false, ak_reduction())
                        #expect(g.bytes == dx.bytes, "in place, \(setting)")
                    }
                    withExtendedLifetime((g, x, dx, lower)) {}
                }
            }
        }
        withExtendedLifetime((norm, below)) {}
    }

    /// The whole backward of a batch norm and its PReLU, with a, b, d derived from the sums, against central
    /// differences of a forward in double.
    @Test func backwardMatchesFiniteDifferences() {
        let shape = MapShape(n: 3, c: 18, h: 3, w: 4)
        let (gamma, beta) = (randomFloats(shape.c, 31), randomFloats(shape.c, 32))
        let slope = randomFloats(shape.c, 33, mean: 0.25, std: 0.1)
        let (values, weights) = (randomValues(shape.count, 34), randomValues(shape.count, 35))
        let m = Float(shape.n * shape.h * shape.w)
        /// sum of weights * prelu(gamma * xhat + beta).
        func loss(_ x: [Double]) -> Double {
            let (mean, variance) = MomentsFixture.loops(x, shape)
            return x.indices.reduce(0) { sum, i in
                let c = shape.channel(i)
                let z = Double(gamma[c]) * (x[i] - mean[c]) / (variance[c] + 1e-5).squareRoot() + Double(beta[c])
                return sum + weights[i] * (z > 0 ? z : Double(slope[c]) * z)
            }
        }
        let (x, dy) = (TestMap(shape, AK_F32, values), TestMap(shape, AK_F32, weights))
        let pool = ThreadPool(threads: 2)
        guard let found = Self.moments(pool, x).fold(pool) else {
            Issue.record("the fold breaks the rules of memory")
            return
        }
        let channels = 0..<shape.c
        let invstd = channels.map { Float(1 / (found.variance[$0] + 1e-5).squareRoot()) }
        let scale = channels.map { gamma[$0] * invstd[$0] }
        let shift = channels.map { beta[$0] - Float(found.mean[$0]) * scale[$0] }
        let arrays = [found.mean.map { Float($0) }, scale, shift, slope, invstd].map { ChannelArray($0) }
        let sums = NormFixture.sums(shape.c, pool)
        var reduction = ak_reduction(
            x: x.map, mean: arrays[0].pointer, scale: arrays[1].pointer, shift: arrays[2].pointer,
            slope: arrays[3].pointer, sums: OpaquePointer(sums.base))
        ak_sums_of(pool.handle, dy.map, reduction)
        let results = (0..<3).map { _ in ChannelArray(unwritten: shape.c) }
        ak_sums_fold(
            pool.handle, &reduction, arrays[4].pointer, results[0].pointer, results[1].pointer, results[2].pointer)
        let (dgamma, dbeta) = (results[0].written, results[1].written)
        let b = channels.map { -scale[$0] * invstd[$0] * Float(dgamma[$0]) / m }
        let d = channels.map { -scale[$0] * Float(dbeta[$0]) / m - b[$0] * Float(found.mean[$0]) }
        let factors = [b, d].map { ChannelArray($0) }
        let chain = ak_chain(
            x: x.map, scale: arrays[1].pointer, shift: arrays[2].pointer, slope: arrays[3].pointer,
            a: arrays[1].pointer, b: factors[0].pointer, d: factors[1].pointer)
        ak_chain_apply(pool.handle, ak_gradient(map: dy.map, chain: chain), dy.map, false, ak_reduction())
        let gradient = dy.plain
        withExtendedLifetime((x, arrays, factors, sums)) {}
        for i in stride(from: 0, to: shape.count, by: 29) {
            var (up, down) = (values, values)
            up[i] += 1e-5
            down[i] -= 1e-5
            let numeric = (loss(up) - loss(down)) / 2e-5
            #expect(abs(gradient[i] - numeric) < 1e-4 * max(1, abs(numeric)), "element \(i)")
        }
    }
}
