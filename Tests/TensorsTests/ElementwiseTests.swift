import CKernels
import Tensors
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

@Suite(.serialized)
struct ElementwiseTests {
    /// Large maps are written past the caches; in place they are not: both must give the same bytes.
    @Test func largeMapsMatchInPlace() {
        let shape = MapShape(n: 1, c: 10, h: 721, w: 733)
        let (norm, count) = (NormFixture(10, 1), shape.count)
        let maps = (0..<3).map { _ in TestMap(shape) }
        let (x, y, dy) = (maps[0], maps[1], maps[2])
        let bytes = ak_map_bytes(AK_F32, 1, 10, 721, 733)
        #expect(bytes >= 32 << 20)
        let plain = (0..<count).map { Float($0 % 1013) - 500 }
        let reversed = [Float](plain.reversed())
        onEachSet(threads: [2]) { pool, setting in
            ak_map_from_nchw(pool.handle, plain, x.map)
            ak_map_from_nchw(pool.handle, reversed, dy.map)
            memset(y.map.data, 0xFF, bytes)
            let gradient = ak_gradient(map: dy.map, chain: norm.chain(x, .prelu))
            for target in [y, dy] { ak_chain_apply(pool.handle, gradient, target.map, false, ak_reduction()) }
            #expect(memcmp(y.map.data, dy.map.data, bytes) == 0, "chain, \(setting)")

            memset(y.map.data, 0xFF, bytes)
            let source = ak_source(map: x.map, activation: norm.activation(.prelu))
            for target in [y, x] { ak_merge(pool.handle, source, ak_source(), target.map, nil) }
            #expect(memcmp(y.map.data, x.map.data, bytes) == 0, "merge, \(setting)")
        }
        withExtendedLifetime((maps, norm)) {}
    }

    @Test(arguments: MapShape.cases)
    func addMatchesLoops(shape: MapShape) {
        let (left, right) = (randomValues(shape.count, 7, AK_BF16), randomValues(shape.count, 8, AK_BF16))
        let expected = zip(left, right).map { $0 + $1 }
        for choice in 0..<8 {
            let types = (0..<3).map { elementTypes[choice >> $0 & 1] }
            onEachSet(turn: choice) { pool, _, setting in
                let (a, b) = (TestMap(shape, types[0], left), TestMap(shape, types[1], right))
                let y = TestMap(shape, types[2])
                ak_add(pool.handle, a.map, b.map, y.map)
                #expect(relativeError(y.plain, expected) < tolerance(types[2]), "\(types.map(name)), \(setting)")
                #expect(y.isProper, "\(setting)")
                if types[1] == types[2] {
                    ak_add(pool.handle, a.map, b.map, b.map)
                    #expect(b.bytes == y.bytes, "in place, \(types.map(name)), \(setting)")
                }
                withExtendedLifetime((a, b, y)) {}
            }
        }
    }

    @Test(arguments: MapShape.cases)
    func subsampleTakesEverySecondPixel(shape: MapShape) {
        let half = MapShape(n: shape.n, c: shape.c, h: (shape.h + 1) / 2, w: (shape.w + 1) / 2)
        func source(_ i: Int) -> Int {
            let (x, y) = (i % half.w, i / half.w % half.h)
            return (i / (half.w * half.h) * shape.h + 2 * y) * shape.w + 2 * x
        }
        let norm = NormFixture(shape.c, 2)
        let (values, upstream) = (randomValues(shape.count, 9, AK_BF16), randomValues(half.count, 10, AK_BF16))
        var scattered = [Double](repeating: 0, count: shape.count)
        for i in 0..<half.count { scattered[source(i)] = upstream[i] }
        let sum = zip(values, scattered).map { $0 + $1 }
        for (turn, reading) in Reading.allCases.enumerated() {
            let activated = norm.activated(values, shape, reading)
            let expected = (0..<half.count).map { activated[source($0)] }
            for choice in 0..<4 {
                let types = (0..<2).map { elementTypes[choice >> $0 & 1] }
                onEachSet(turn: turn + choice) { pool, _, setting in
                    let (x, y) = (TestMap(shape, types[0], values), TestMap(half, types[1]))
                    let activation = norm.activation(reading)
                    ak_subsample_forward(pool.handle, ak_source(map: x.map, activation: activation), y.map)
                    #expect(relativeError(y.plain, expected) < tolerance(types[1]), "\(reading), \(setting)")
                    #expect(y.isProper, "\(setting)")

                    let (dy, dx) = (TestMap(half, types[1], upstream), TestMap(shape, types[0]))
                    ak_subsample_backward(pool.handle, dy.map, dx.map, false)
                    #expect(dx.plain == scattered && dx.isProper, "\(setting)")
                    ak_subsample_backward(pool.handle, dy.map, x.map, true)
                    #expect(relativeError(x.plain, sum) < tolerance(types[0]) && x.isProper, "\(setting)")
                    withExtendedLifetime((x, y, dy, dx)) {}
                }
            }
        }
        withExtendedLifetime(norm) {}
    }

    @Test(arguments: MapShape.cases)
    func dropoutFollowsPhilox(shape: MapShape) {
        let key: UInt64 = 0x0123_4567_89AB_CDEF
        // Indices beyond 2^32, so that both words of the counter matter.
        let firstImage = UInt64(1) << 33 | 5
        let values = randomValues(shape.count, 11, AK_BF16)
        let perImage = UInt64(shape.c * shape.h * shape.w)
        let expected = values.indices.map { i in
            let index = firstImage * perImage + UInt64(i)
            let word = RandomStream.philox(
                counter: (UInt32(truncatingIfNeeded: index), UInt32(truncatingIfNeeded: index >> 32), 0, 0),
                key: (UInt32(truncatingIfNeeded: key), UInt32(truncatingIfNeeded: key >> 32))
            ).0
            return Float(word >> 8) * 0x1p-24 >= 0.4 ? values[i] / 0.6 : 0
        }
        for choice in 0..<4 {
            let types = (0..<2).map { elementTypes[choice >> $0 & 1] }
            onEachSet(turn: choice) { pool, _, setting in
                let (x, y) = (TestMap(shape, types[0], values), TestMap(shape, types[1]))
                ak_dropout(pool.handle, x.map, 0.4, key, firstImage, y.map)
                let plain = y.plain
                #expect(relativeError(plain, expected) < tolerance(types[1]) && y.isProper, "\(setting)")
                #expect(zip(plain, expected).allSatisfy { ($0 == 0) == ($1 == 0) }, "\(setting)")
                ak_dropout(pool.handle, x.map, 0, key, firstImage, y.map)
                #expect(y.plain == values, "\(setting)")
                ak_dropout(pool.handle, x.map, 1, key, firstImage, y.map)
                #expect(y.plain.allSatisfy { $0 == 0 }, "\(setting)")
                ak_dropout(pool.handle, x.map, 0.4, key, firstImage, x.map)
                #expect(relativeError(x.plain, expected) < tolerance(types[0]), "in place, \(setting)")
                withExtendedLifetime((x, y)) {}
            }
        }
    }

    @Test func dropoutKeepsTheRightShare() {
        let shape = MapShape(n: 8, c: 48, h: 14, w: 14)
        let pool = ThreadPool(threads: 2)
        let (x, y) = (TestMap(shape, AK_BF16, [Double](repeating: 1, count: shape.count)), TestMap(shape, AK_BF16))
        ak_dropout(pool.handle, x.map, 0.25, 99, 0, y.map)
        let kept = y.plain.count { $0 != 0 }
        withExtendedLifetime(x) {}
        // Six standard deviations of a binomial count.
        let deviation = (Double(shape.count) * 0.25 * 0.75).squareRoot()
        #expect(abs(Double(kept) - 0.75 * Double(shape.count)) < 6 * deviation)
        #expect(y.plain.allSatisfy { $0 == 0 || abs($0 - 4.0 / 3) < 0.01 })
    }

    /// Neither bound is a guess: the registers' rate is above what one operation to a cycle of a slow processor gives
    /// and below what any processor reaches.
    @Test func peaksArePlausible() {
        let memory = AlignedBuffer(byteCount: 6 << 20)
        onEachSet(threads: [2]) { pool, setting in
            let peaks = [ak_peak_flops(pool.handle, AK_F32), ak_peak_bandwidth(pool.handle, memory.base, 6 << 20)]
            #expect(peaks.allSatisfy { (1e8...1e14).contains($0) }, "\(peaks), \(setting)")
            let bf16 = ak_peak_flops(pool.handle, AK_BF16)
            #expect((bf16 > 0) == (ak_isa_current() == AK_ISA_AVX512_BF16), "\(bf16), \(setting)")
        }
        withExtendedLifetime(memory) {}
    }
}
