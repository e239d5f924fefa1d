import CKernels
import Tensors

/// A feature map's shape in a test.
struct MapShape: Sendable, CustomStringConvertible {
    var n: Int
    var c: Int
    var h: Int
    var w: Int
    var halo: Int

    var count: Int { n * c * h * w }
    var description: String { "\(n)x\(c)x\(h)x\(w) halo \(halo)" }

    /// Odd extents, channels that fill no block, both halos, vectors (h = w = 1), rows longer than a segment of sums.
    static let cases = [
        MapShape(n: 2, c: 16, h: 4, w: 4, halo: 0), MapShape(n: 3, c: 20, h: 7, w: 5, halo: 1),
        MapShape(n: 5, c: 33, h: 1, w: 1, halo: 0), MapShape(n: 1, c: 64, h: 9, w: 14, halo: 1),
        MapShape(n: 2, c: 3, h: 3, w: 131, halo: 1), MapShape(n: 1, c: 1, h: 1, w: 1, halo: 1),
    ]

    /// The channel of a plain NCHW index.
    func channel(_ i: Int) -> Int { i / (h * w) % c }
}

/// A feature map in memory of its own, read and written here element by element as the layout is documented.
struct TestMap {
    let shape: MapShape
    let buffer: AlignedBuffer
    let map: ak_map
    private let physicalCount: Int

    /// A map full of NaN, halo and padding lanes included: what a kernel must overwrite.
    init(_ shape: MapShape, _ dtype: ak_dtype = AK_F32) {
        self.shape = shape
        let (n, c, h, w) = (Int32(shape.n), Int32(shape.c), Int32(shape.h), Int32(shape.w))
        let bytes = ak_map_bytes(dtype, n, c, h, w, Int32(shape.halo))
        buffer = AlignedBuffer(byteCount: bytes)
        map = ak_map_make(buffer.base, dtype, n, c, h, w, Int32(shape.halo))
        physicalCount = bytes / (dtype == AK_BF16 ? 2 : 4)
        for i in 0..<physicalCount { self[physical: i] = .nan }
    }

    /// A valid map of plain NCHW values.
    init(_ shape: MapShape, _ dtype: ak_dtype = AK_F32, _ plain: [Double]) {
        self.init(shape, dtype)
        for i in 0..<physicalCount { self[physical: i] = 0 }
        for i in 0..<shape.count { self[physical: index(i)] = Float(plain[i]) }
    }

    private func index(_ i: Int) -> Int {
        let (x, y, c) = (i % shape.w, i / shape.w % shape.h, shape.channel(i))
        return i / (shape.c * shape.h * shape.w) * map.image + c / 16 * map.block + (y + shape.halo) * map.row
            + (x + shape.halo) * 16 + c % 16
    }

    private subscript(physical i: Int) -> Float {
        get {
            map.dtype == AK_BF16
                ? Float(bitPattern: UInt32(buffer.base.load(fromByteOffset: 2 * i, as: UInt16.self)) << 16)
                : buffer.base.load(fromByteOffset: 4 * i, as: Float.self)
        }
        nonmutating set {
            if map.dtype == AK_BF16 {
                buffer.base.storeBytes(of: bfloat16Bits(newValue), toByteOffset: 2 * i, as: UInt16.self)
            } else {
                buffer.base.storeBytes(of: newValue, toByteOffset: 4 * i, as: Float.self)
            }
        }
    }

    /// The interior in plain NCHW order.
    var plain: [Double] { (0..<shape.count).map { Double(self[physical: index($0)]) } }

    var bytes: [UInt8] {
        [UInt8](UnsafeRawBufferPointer(start: buffer.base, count: buffer.byteCount))
    }

    /// Whether everything outside the interior and every padding lane is zero.
    var borderIsZero: Bool {
        var inside = [Bool](repeating: false, count: physicalCount)
        for i in 0..<shape.count { inside[index(i)] = true }
        return (0..<physicalCount).allSatisfy { inside[$0] || self[physical: $0] == 0 }
    }
}

/// Rounds to nearest even; a NaN stays one.
func bfloat16Bits(_ value: Float) -> UInt16 {
    if value.isNaN { return UInt16(value.bitPattern >> 16) | 0x40 }
    let bits = value.bitPattern
    let (low, high) = (bits & 0xFFFF, bits >> 16)
    let up = low > 0x8000 || (low == 0x8000 && high & 1 == 1)
    return UInt16(high + (up ? 1 : 0))
}

func bfloat16(_ value: Double) -> Double { Double(Float(bitPattern: UInt32(bfloat16Bits(Float(value))) << 16)) }

/// Normal values, rounded to the element type so that kernel and loop read the same numbers.
func randomValues(_ count: Int, _ index: UInt64, mean: Double = 0, std: Double = 1, _ dtype: ak_dtype = AK_F32)
    -> [Double]
{
    var stream = RandomStream(seed: 7, purpose: .test, index: index)
    return (0..<count).map { _ in
        let value = mean + std * stream.normal()
        return dtype == AK_BF16 ? bfloat16(value) : Double(Float(value))
    }
}

func randomFloats(_ count: Int, _ index: UInt64, mean: Double = 0, std: Double = 1) -> [Float] {
    randomValues(count, index, mean: mean, std: std).map { Float($0) }
}

/// The largest |a - b| relative to the size of b's values.
func relativeError(_ a: [Double], _ b: [Double]) -> Double {
    guard a.count == b.count else { return .infinity }
    let size = b.reduce(1e-30) { max($0, abs($1)) }
    var worst = 0.0
    for (x, y) in zip(a, b) {
        guard x.isFinite, y.isFinite else { return .infinity }
        worst = max(worst, abs(x - y) / size)
    }
    return worst
}

/// What the element type itself can lose in a few operations.
func tolerance(_ dtype: ak_dtype) -> Double { dtype == AK_BF16 ? 0x1p-8 : 2e-6 }

/// Runs a test body under each instruction set of this machine, with 1, 2 and 3 threads, and returns to the best set.
func onEachSet(threads: [Int] = [1, 2, 3], _ body: (_ pool: ThreadPool, _ setting: String) throws -> Void) rethrows {
    defer { _ = ak_isa_select(ak_isa_best()) }
    for isa in [AK_ISA_PORTABLE, AK_ISA_AVX2, AK_ISA_AVX512, AK_ISA_AVX512_BF16] where ak_isa_select(isa) {
        for count in threads {
            try body(ThreadPool(threads: count), "\(String(cString: ak_isa_name(isa))), \(count) threads")
        }
    }
}
