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
    private static var noMap: ak_map { ak_map() }

    private struct Affine {
        let scale: [Float]
        let shift: [Float]
        let slope: [Float]

        init(_ c: Int) {
            scale = randomFloats(c, 1)
            shift = randomFloats(c, 2, mean: 0.5)
            slope = randomFloats(c, 3, mean: 0.25, std: 0.1)
        }

        func callAsFunction(_ x: [Double], _ shape: MapShape, prelu: Bool, residual: [Double]?) -> [Double] {
            x.indices.map { i in
                let c = shape.channel(i)
                var z = Double(scale[c]) * x[i] + Double(shift[c])
                if prelu && z <= 0 { z *= Double(slope[c]) }
                return z + (residual?[i] ?? 0)
            }
        }
    }

    @Test(arguments: MapShape.cases)
    func affineMatchesLoops(shape: MapShape) {
        let affine = Affine(shape.c)
        for dtype in [AK_F32, AK_BF16] {
            let values = randomValues(shape.count, 4, dtype)
            let other = randomValues(shape.count, 5, dtype)
            onEachSet { pool, setting in
                for (prelu, add) in [(false, false), (false, true), (true, false), (true, true)] {
                    let x = TestMap(shape, dtype, values)
                    let residual = TestMap(shape, dtype, other)
                    let y = TestMap(shape, dtype)
                    let expected = affine(values, shape, prelu: prelu, residual: add ? other : nil)
                    func run(into y: TestMap) {
                        ak_affine(
                            pool.handle, x.map, affine.scale, affine.shift, prelu ? affine.slope : nil,
                            add ? residual.map : Self.noMap, y.map)
                    }
                    run(into: y)
                    #expect(relativeError(y.plain, expected) < tolerance(dtype), "\(setting)")
                    #expect(y.borderIsZero, "\(setting)")
                    let target = add && prelu ? residual : x
                    run(into: target)
                    #expect(target.bytes == y.bytes, "in place, \(setting)")
                }
            }
        }
    }

    @Test func halosMayDiffer() {
        let thin = MapShape(n: 2, c: 18, h: 5, w: 6, halo: 0)
        let wide = MapShape(n: 2, c: 18, h: 5, w: 6, halo: 1)
        let affine = Affine(18)
        let values = randomValues(thin.count, 6)
        onEachSet(threads: [2]) { pool, setting in
            for (from, to) in [(thin, wide), (wide, thin)] {
                let (x, y) = (TestMap(from, AK_F32, values), TestMap(to))
                ak_affine(pool.handle, x.map, affine.scale, affine.shift, nil, Self.noMap, y.map)
                #expect(relativeError(y.plain, affine(values, from, prelu: false, residual: nil)) < 2e-6, "\(setting)")
                #expect(y.borderIsZero, "\(setting)")
            }
        }
    }

    /// Large maps are written past the caches; in place they are not: both must give the same bytes.
    @Test func largeMapsMatchInPlace() {
        let (c, h, w) = (Int32(10), Int32(721), Int32(733))
        let affine = Affine(10)
        let bytes = ak_map_bytes(AK_F32, 1, c, h, w, 1)
        #expect(bytes >= 32 << 20)
        let (first, second) = (AlignedBuffer(byteCount: bytes), AlignedBuffer(byteCount: bytes))
        let x = ak_map_make(first.base, AK_F32, 1, c, h, w, 1)
        let y = ak_map_make(second.base, AK_F32, 1, c, h, w, 1)
        let plain = [Float](unsafeUninitializedCapacity: Int(c * h * w)) { buffer, count in
            count = Int(c * h * w)
            for i in 0..<count { buffer[i] = Float(i % 1013) - 500 }
        }
        let reversed = [Float](plain.reversed())
        let third = AlignedBuffer(byteCount: bytes)
        let dy = ak_map_make(third.base, AK_F32, 1, c, h, w, 1)
        onEachSet(threads: [2]) { pool, setting in
            ak_map_from_nchw(pool.handle, plain, x)
            ak_map_from_nchw(pool.handle, reversed, dy)
            memset(second.base, 0xFF, bytes)
            for target in [y, dy] {
                ak_bn_backward_apply(
                    pool.handle, x, dy, affine.scale, affine.shift, affine.slope, affine.shift, affine.scale,
                    affine.slope, target, false)
            }
            #expect(memcmp(second.base, third.base, bytes) == 0, "backward, \(setting)")

            memset(second.base, 0xFF, bytes)
            for target in [y, x] {
                ak_affine(pool.handle, x, affine.scale, affine.shift, affine.slope, Self.noMap, target)
            }
            #expect(memcmp(second.base, first.base, bytes) == 0, "affine, \(setting)")
        }
    }

    @Test(arguments: MapShape.cases)
    func addMatchesLoops(shape: MapShape) {
        for dtype in [AK_F32, AK_BF16] {
            let (left, right) = (randomValues(shape.count, 7, dtype), randomValues(shape.count, 8, dtype))
            let expected = zip(left, right).map { $0 + $1 }
            onEachSet { pool, setting in
                let (a, b) = (TestMap(shape, dtype, left), TestMap(shape, dtype, right))
                let y = TestMap(shape, dtype)
                ak_add(pool.handle, a.map, b.map, y.map)
                #expect(relativeError(y.plain, expected) < tolerance(dtype), "\(setting)")
                #expect(y.borderIsZero, "\(setting)")
                ak_add(pool.handle, a.map, b.map, b.map)
                #expect(b.bytes == y.bytes, "in place, \(setting)")
            }
        }
    }

    @Test(arguments: MapShape.cases)
    func subsampleTakesEverySecondPixel(shape: MapShape) {
        let half = MapShape(n: shape.n, c: shape.c, h: (shape.h + 1) / 2, w: (shape.w + 1) / 2, halo: 1 - shape.halo)
        func source(_ i: Int) -> Int {
            let (x, y) = (i % half.w, i / half.w % half.h)
            return (i / (half.w * half.h) * shape.h + 2 * y) * shape.w + 2 * x
        }
        for dtype in [AK_F32, AK_BF16] {
            let values = randomValues(shape.count, 9, dtype)
            let upstream = randomValues(half.count, 10, dtype)
            var scattered = [Double](repeating: 0, count: shape.count)
            for i in 0..<half.count { scattered[source(i)] = upstream[i] }
            onEachSet { pool, setting in
                let (x, y) = (TestMap(shape, dtype, values), TestMap(half, dtype))
                ak_subsample_forward(pool.handle, x.map, y.map)
                #expect(y.plain == (0..<half.count).map { values[source($0)] }, "\(setting)")
                #expect(y.borderIsZero, "\(setting)")

                let (dy, dx) = (TestMap(half, dtype, upstream), TestMap(shape, dtype))
                ak_subsample_backward(pool.handle, dy.map, dx.map, false)
                #expect(dx.plain == scattered, "\(setting)")
                #expect(dx.borderIsZero, "\(setting)")
                ak_subsample_backward(pool.handle, dy.map, x.map, true)
                let sum = zip(values, scattered).map { $0 + $1 }
                #expect(relativeError(x.plain, sum) < tolerance(dtype), "\(setting)")
                #expect(x.borderIsZero, "\(setting)")
            }
        }
    }

    @Test(arguments: MapShape.cases)
    func dropoutFollowsPhilox(shape: MapShape) {
        let key: UInt64 = 0x0123_4567_89AB_CDEF
        // Indices beyond 2^32, so that both words of the counter matter.
        let firstImage = UInt64(1) << 33 | 5
        let values = randomValues(shape.count, 11)
        let perImage = UInt64(shape.c * shape.h * shape.w)
        let expected = values.indices.map { i in
            let index = firstImage * perImage + UInt64(i)
            let word = RandomStream.philox(
                counter: (UInt32(truncatingIfNeeded: index), UInt32(truncatingIfNeeded: index >> 32), 0, 0),
                key: (UInt32(truncatingIfNeeded: key), UInt32(truncatingIfNeeded: key >> 32))
            ).0
            return Float(word >> 8) * 0x1p-24 >= 0.4 ? values[i] / 0.6 : 0
        }
        onEachSet { pool, setting in
            let (x, y) = (TestMap(shape, AK_F32, values), TestMap(shape))
            ak_dropout(pool.handle, x.map, 0.4, key, firstImage, y.map)
            #expect(relativeError(y.plain, expected) < 1e-6, "\(setting)")
            #expect(zip(y.plain, expected).allSatisfy { ($0 == 0) == ($1 == 0) }, "\(setting)")
            #expect(y.borderIsZero, "\(setting)")
            ak_dropout(pool.handle, x.map, 0, key, firstImage, y.map)
            #expect(y.plain == values, "\(setting)")
            ak_dropout(pool.handle, x.map, 1, key, firstImage, y.map)
            #expect(y.plain.allSatisfy { $0 == 0 }, "\(setting)")
            ak_dropout(pool.handle, x.map, 0.4, key, firstImage, x.map)
            #expect(relativeError(x.plain, expected) < 1e-6, "in place, \(setting)")
        }
    }

    @Test func dropoutKeepsTheRightShare() {
        let shape = MapShape(n: 8, c: 48, h: 14, w: 14, halo: 1)
        let pool = ThreadPool(threads: 2)
        let (x, y) = (TestMap(shape, AK_BF16, [Double](repeating: 1, count: shape.count)), TestMap(shape, AK_BF16))
        ak_dropout(pool.handle, x.map, 0.25, 99, 0, y.map)
        let kept = y.plain.count { $0 != 0 }
        // Six standard deviations of a binomial count.
        let deviation = (Double(shape.count) * 0.25 * 0.75).squareRoot()
        #expect(abs(Double(kept) - 0.75 * Double(shape.count)) < 6 * deviation)
        #expect(y.plain.allSatisfy { $0 == 0 || abs($0 - 4.0 / 3) < 0.01 })
    }
}
