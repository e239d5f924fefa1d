internal import Tensors

/// Eight neighbouring pixels of one row.
typealias Lanes = SIMD8<Float>

extension SIMD8<Float> {
    @inline(__always) init(_ value: Float) { self.init(repeating: value) }

    /// 0, 1 ... 7.
    static var ramp: Lanes { Lanes(0, 1, 2, 3, 4, 5, 6, 7) }

    @inline(__always) var squared: Lanes { self * self }

    @inline(__always) var magnitude: Lanes { higher(self, -self) }

    /// Limited to 0...1.
    @inline(__always) var unit: Lanes { lower(higher(self, .zero), Lanes(1)) }

    /// -1 where negative, 1 elsewhere.
    @inline(__always) var sign: Lanes { Lanes(1).replacing(with: Lanes(-1), where: self .< .zero) }

    /// Hermite's smooth step of values in 0...1.
    @inline(__always) var eased: Lanes {
        let u = unit
        return u * u * (Lanes(3) - u * 2)
    }

    /// Coverage of a pixel whose centre lies `self` pixels inside an edge that is `softness` pixels wide.
    @inline(__always) func coverage(_ softness: Float = 1) -> Lanes { (self * (1 / softness) + 0.5).unit }
}

@inline(__always) func lower(_ a: Lanes, _ b: Lanes) -> Lanes { a.replacing(with: b, where: b .< a) }
@inline(__always) func higher(_ a: Lanes, _ b: Lanes) -> Lanes { a.replacing(with: b, where: a .< b) }

/// A smooth bump of height 1 at 0 and compact support: (1 - (x/rx)^2 - (y/ry)^2)^2 inside the ellipse, 0 outside.
@inline(__always) func bump(_ x: Lanes, _ y: Lanes, _ rx: Float, _ ry: Float) -> Lanes {
    let u = x * (1 / rx), v = y * (1 / ry)
    return higher(Lanes(1) - u * u - v * v, .zero).squared
}

/// The same in one dimension.
@inline(__always) func bump(_ x: Lanes, _ r: Float) -> Lanes {
    let u = x * (1 / r)
    return higher(Lanes(1) - u * u, .zero).squared
}

/// Three colour channels of eight pixels.
struct ColourLanes {
    var r: Lanes, g: Lanes, b: Lanes

    @inline(__always) init(r: Lanes, g: Lanes, b: Lanes) {
        self.r = r
        self.g = g
        self.b = b
    }

    @inline(__always) init(_ colour: SIMD3<Float>) {
        r = Lanes(colour.x)
        g = Lanes(colour.y)
        b = Lanes(colour.z)
    }

    /// Lays `colour` over this one with opacity `alpha`.
    @inline(__always) mutating func lay(_ colour: ColourLanes, _ alpha: Lanes) {
        r += (colour.r - r) * alpha
        g += (colour.g - g) * alpha
        b += (colour.b - b) * alpha
    }

    @inline(__always) mutating func lay(_ colour: SIMD3<Float>, _ alpha: Lanes) { lay(ColourLanes(colour), alpha) }

    @inline(__always) static func * (a: ColourLanes, b: ColourLanes) -> ColourLanes {
        ColourLanes(r: a.r * b.r, g: a.g * b.g, b: a.b * b.b)
    }

    @inline(__always) static func * (a: ColourLanes, b: Lanes) -> ColourLanes {
        ColourLanes(r: a.r * b, g: a.g * b, b: a.b * b)
    }

    @inline(__always) static func * (a: ColourLanes, b: SIMD3<Float>) -> ColourLanes {
        ColourLanes(r: a.r * b.x, g: a.g * b.y, b: a.b * b.z)
    }
}

/// A 256 x 256 table of smooth noise that repeats, zero mean and unit variance, the same for every population. Skin,
/// hair, cloth and walls look it up at their own scale and place.
struct SyntheticNoise: Sendable {
    private static let size = 256
    private static let shared = makeTable()
    private let table: [Float]

    init() { table = Self.shared }

    /// Three octaves, the coarser ones stronger: what skin and walls look like.
    private static func makeTable() -> [Float] {
        var stream = RandomStream(seed: 0, purpose: .syntheticIdentity, index: .max)
        var sum = [Float](repeating: 0, count: size * size)
        for (radius, weight) in [(1, 1), (3, 3), (8, 8)] as [(Int, Float)] {
            var layer = sum.indices.map { _ in stream.uniform() - 0.5 }
            for _ in 0..<2 { layer = smoothed(smoothed(layer, radius, 1), radius, size) }
            for i in sum.indices { sum[i] += weight * layer[i] }
        }
        let mean = sum.reduce(0, +) / Float(sum.count)
        let variance = sum.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Float(sum.count)
        return sum.map { ($0 - mean) / variance.squareRoot() }
    }

    /// Mean over 2r + 1 entries along one axis, which wraps round.
    private static func smoothed(_ layer: [Float], _ radius: Int, _ stride: Int) -> [Float] {
        var out = layer
        for line in 0..<size {
            let base = stride == 1 ? line * size : line
            for i in 0..<size {
                var sum: Float = 0
                for k in i - radius...i + radius { sum += layer[base + (k & (size - 1)) * stride] }
                out[base + i * stride] = sum / Float(2 * radius + 1)
            }
        }
        return out
    }

    /// The table at (x, y), interpolated between entries: for looking at it closely.
    @inline(__always) func smooth(_ x: Lanes, _ y: Lanes) -> Lanes {
        let left = x.rounded(.down), top = y.rounded(.down)
        let u = x - left, v = y - top
        let a = self(left, top), b = self(left + 1, top)
        let c = self(left, top + 1), d = self(left + 1, top + 1)
        let above = a + (b - a) * u, below = c + (d - c) * u
        return above + (below - above) * v
    }

    /// The table at (x, y), nearest entry; |x|, |y| < 2^21.
    @inline(__always) func callAsFunction(_ x: Lanes, _ y: Lanes) -> Lanes {
        // Adding 1.5 * 2^23 leaves the rounded integer in the low bits of the pattern.
        let shift = Lanes(12_582_912)
        let u = unsafeBitCast(x + shift, to: SIMD8<UInt32>.self) & 255
        let v = unsafeBitCast(y + shift, to: SIMD8<UInt32>.self) & 255
        let at = v &* 256 &+ u
        return table.withUnsafeBufferPointer { t in
            var out = Lanes()
            for i in 0..<8 { out[i] = t[Int(at[i])] }
            return out
        }
    }
}
