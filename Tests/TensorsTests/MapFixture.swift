import CKernels
import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// A feature map's shape in a test.
struct MapShape: Sendable, CustomStringConvertible {
    var n: Int
    var c: Int
    var h: Int
    var w: Int

    var count: Int { n * c * h * w }
    var description: String { "\(n)x\(c)x\(h)x\(w)" }

    /// Odd extents, channels that fill no block, vectors (h = w = 1), planes longer than a run of sums.
    static let cases = [
        MapShape(n: 2, c: 16, h: 4, w: 4), MapShape(n: 3, c: 20, h: 7, w: 5), MapShape(n: 5, c: 33, h: 1, w: 1),
        MapShape(n: 1, c: 64, h: 9, w: 14), MapShape(n: 2, c: 3, h: 3, w: 131), MapShape(n: 1, c: 1, h: 1, w: 1),
        MapShape(n: 2, c: 17, h: 29, w: 19),
    ]

    /// The channel of a plain NCHW index.
    func channel(_ i: Int) -> Int { i / (h * w) % c }

    /// Calls the body with each channel and the plain indices of one image's plane of it.
    func forEachPlane(_ body: (_ c: Int, _ plane: Range<Int>) -> Void) {
        for i in 0..<n * c { body(i % c, i * h * w..<(i + 1) * h * w) }
    }
}

/// The element types that maps come in.
let elementTypes = [AK_F32, AK_BF16]

/// Memory of a promised size, full of NaN, with a guard behind it.
final class GuardedMemory {
    private static let guardBytes = 256
    private let buffer: AlignedBuffer
    let size: Int

    init(_ size: Int) {
        self.size = size
        buffer = AlignedBuffer(byteCount: size + Self.guardBytes)
        memset(buffer.base, 0xFF, buffer.byteCount)
    }

    var base: UnsafeMutableRawPointer { buffer.base }
    var bytes: [UInt8] { [UInt8](UnsafeRawBufferPointer(start: base, count: size)) }
    var isIntact: Bool {
        UnsafeRawBufferPointer(start: base + size, count: Self.guardBytes).allSatisfy { $0 == 0xFF }
    }
}

/// A feature map in memory of its own, read and written here element by element as the layout is documented.
final class TestMap {
    let shape: MapShape
    let map: ak_map
    private let memory: GuardedMemory

    /// A map full of NaN, padding lanes included: what a kernel must overwrite.
    init(_ shape: MapShape, _ dtype: ak_dtype = AK_F32) {
        self.shape = shape
        let (n, c, h, w) = (Int32(shape.n), Int32(shape.c), Int32(shape.h), Int32(shape.w))
        memory = GuardedMemory(ak_map_bytes(dtype, n, c, h, w))
        map = ak_map_make(memory.base, dtype, n, c, h, w)
    }

    /// A valid map of plain NCHW values.
    init(_ shape: MapShape, _ dtype: ak_dtype = AK_F32, _ plain: [Double]) {
        self.shape = shape
        let (n, c, h, w) = (Int32(shape.n), Int32(shape.c), Int32(shape.h), Int32(shape.w))
        memory = GuardedMemory(ak_map_bytes(dtype, n, c, h, w))
        map = ak_map_make(memory.base, dtype, n, c, h, w)
        memset(memory.base, 0, memory.size)
        forEachElement { self[physical: $1] = Float(plain[$0]) }
    }

    /// Calls the body with each plain NCHW index and its place in memory.
    private func forEachElement(_ body: (_ plain: Int, _ physical: Int) -> Void) {
        for n in 0..<shape.n {
            for c in 0..<shape.c {
                let plane = n * map.image + c / 16 * map.block + c % 16
                let plain = (n * shape.c + c) * shape.h * shape.w
                for y in 0..<shape.h {
                    for x in 0..<shape.w { body(plain + y * shape.w + x, plane + y * map.row + x * 16) }
                }
            }
        }
    }

    private subscript(physical i: Int) -> Float {
        get {
            map.dtype == AK_BF16
                ? Float(bitPattern: UInt32(memory.base.load(fromByteOffset: 2 * i, as: UInt16.self)) << 16)
                : memory.base.load(fromByteOffset: 4 * i, as: Float.self)
        }
        set {
            if map.dtype == AK_BF16 {
                memory.base.storeBytes(of: bfloat16Bits(newValue), toByteOffset: 2 * i, as: UInt16.self)
            } else {
                memory.base.storeBytes(of: newValue, toByteOffset: 4 * i, as: Float.self)
            }
        }
    }

    /// The values in plain NCHW order.
    var plain: [Double] {
        [Double](unsafeUninitializedCapacity: shape.count) { buffer, count in
            forEachElement { buffer[$0] = Double(self[physical: $1]) }
            count = shape.count
        }
    }

    var bytes: [UInt8] { memory.bytes }

    /// Whether every padding lane is zero and nothing was written behind the map.
    var isProper: Bool {
        guard memory.isIntact else { return false }
        let blocks = (shape.c + 15) / 16
        for lane in stride(from: shape.c, to: blocks * 16, by: 1) {
            for n in 0..<shape.n {
                let plane = n * map.image + lane / 16 * map.block + lane % 16
                for pixel in 0..<shape.h * shape.w where self[physical: plane + pixel * 16] != 0 { return false }
            }
        }
        return true
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
    for i in a.indices {
        let error = abs(a[i] - b[i])
        guard error.isFinite else { return .infinity }
        worst = max(worst, error)
    }
    return worst / size
}

/// What the element type itself can lose in a few operations.
func tolerance(_ dtype: ak_dtype) -> Double { dtype == AK_BF16 ? 0x1p-8 : 2e-6 }

func name(_ dtype: ak_dtype) -> String { dtype == AK_BF16 ? "bf16" : "fp32" }

/// Runs a test body under each instruction set of this machine, with each number of threads, and returns to the best
/// set.
func onEachSet(threads: [Int] = [1, 2, 3], _ body: (_ pool: ThreadPool, _ setting: String) throws -> Void) rethrows {
    defer { _ = ak_isa_select(ak_isa_best()) }
    for isa in [AK_ISA_PORTABLE, AK_ISA_AVX2, AK_ISA_AVX512, AK_ISA_AVX512_BF16] where ak_isa_select(isa) {
        for count in threads {
            try body(ThreadPool(threads: count), "\(String(cString: ak_isa_name(isa))), \(count) threads")
        }
    }
}

/// The same with one number of threads to a set: 1, 2, 3 and 5 take turns, beginning with `turn`.
func onEachSet(turn: Int, _ body: (_ pool: ThreadPool, _ turn: Int, _ setting: String) throws -> Void) rethrows {
    var turn = turn
    defer { _ = ak_isa_select(ak_isa_best()) }
    for isa in [AK_ISA_PORTABLE, AK_ISA_AVX2, AK_ISA_AVX512, AK_ISA_AVX512_BF16] where ak_isa_select(isa) {
        let count = [1, 2, 3, 5][turn % 4]
        try body(ThreadPool(threads: count), turn, "\(String(cString: ak_isa_name(isa))), \(count) threads")
        turn += 1
    }
}
