internal import Tensors

/// Buffers that one thread draws an image in, and the order in which things are drawn. Used by one caller at a time.
final class SyntheticCanvas: @unchecked Sendable {
    static let side = SyntheticFaces.side
    static let count = side * side

    /// Head coordinates, depth and coverage of the head per pixel.
    let headX: UnsafeMutablePointer<Float>, headY: UnsafeMutablePointer<Float>
    let depth: UnsafeMutablePointer<Float>, coverage: UnsafeMutablePointer<Float>
    /// Linear light while drawing; display values, 0...1, from the tone curve on.
    let red: UnsafeMutablePointer<Float>, green: UnsafeMutablePointer<Float>, blue: UnsafeMutablePointer<Float>
    /// For the filters.
    let scratch: UnsafeMutablePointer<Float>
    private let storage: UnsafeMutablePointer<Float>
    private var faceArea: Float = 0, hiddenArea: Float = 0

    init() {
        let storage = UnsafeMutablePointer<Float>.allocate(capacity: 8 * Self.count)
        storage.initialize(repeating: 0, count: 8 * Self.count)
        self.storage = storage
        let planes = (0..<8).map { storage + $0 * Self.count }
        headX = planes[0]
        headY = planes[1]
        depth = planes[2]
        coverage = planes[3]
        red = planes[4]
        green = planes[5]
        blue = planes[6]
        scratch = planes[7]
    }

    deinit { storage.deallocate() }

    @inline(__always) func load(_ plane: UnsafeMutablePointer<Float>, _ at: Int) -> Lanes {
        UnsafeRawPointer(plane + at).loadUnaligned(as: Lanes.self)
    }

    @inline(__always) func store(_ value: Lanes, _ plane: UnsafeMutablePointer<Float>, _ at: Int) {
        UnsafeMutableRawPointer(plane + at).storeBytes(of: value, as: Lanes.self)
    }

    /// Fraction of the face that things before it hide, of the last drawing.
    var occludedFraction: Float { faceArea > 0 ? min(1, hiddenArea / faceArea) : 0 }

    /// Draws a scene in linear light.
    func render(_ scene: SyntheticScene, noise: SyntheticNoise) {
        let painter = SyntheticPainter(scene, noise: noise)
        for row in 0..<Self.side {
            for column in stride(from: 0, to: Self.side, by: 8) { trace(scene, row, column) }
        }
        faceArea = 0
        hiddenArea = 0
        for row in 0..<Self.side {
            for column in stride(from: 0, to: Self.side, by: 8) {
                let at = row * Self.side + column
                let patch = patch(row, column)
                var hidden = Lanes.zero
                let colour = painter.paint(patch, hidden: &hidden) { dx, dy in self.shifted(row + dy, column + dx) }
                store(colour.r, red, at)
                store(colour.g, green, at)
                store(colour.b, blue, at)
                let face = patch.alpha.replacing(with: Lanes(0), where: patch.y .< Lanes(-34))
                faceArea += face.sum()
                hiddenArea += (face * hidden).sum()
            }
        }
    }

    /// Geometry of eight pixels: where their lines of sight meet the head.
    private func trace(_ scene: SyntheticScene, _ row: Int, _ column: Int) {
        let at = row * Self.side + column
        let ray = scene.ray(Lanes.ramp + Float(column), Float(row))
        let hit = scene.meet(ray, growth: 0)
        let d = scene.view
        var t = hit.t
        let alpha = (hit.discriminant * (20 * scene.magnification) + 0.5).unit
        if alpha.max() > 0 {
            // Two steps of a fixed point: the relief lifts the surface, which moves the point that the line meets.
            let inverse = 1 / (scene.person.head.depth * scene.person.head.depth)
            let slope = higher((ray.z + t * d.z) * inverse, .zero) / higher(hit.grazing, Lanes(0.004))
            let ratio = lower(slope, Lanes(1.6))
            for _ in 0..<2 { t = hit.t + scene.relief(ray.x + t * d.x, ray.y + t * d.y) * ratio }
        }
        store(ray.x + t * d.x, headX, at)
        store(ray.y + t * d.y, headY, at)
        store(t * scene.magnification, depth, at)
        store(alpha, coverage, at)
    }

    /// Depth of eight pixels, the nearest ones inside the image where they lie outside.
    @inline(__always) private func shifted(_ row: Int, _ column: Int) -> Lanes {
        let y = max(0, min(Self.side - 1, row)), x = max(0, min(Self.side - 8, column))
        return load(depth, y * Self.side + x)
    }

    private func patch(_ row: Int, _ column: Int) -> SyntheticPatch {
        let at = row * Self.side + column
        let alpha = load(coverage, at)
        let x = load(headX, at), y = load(headY, at)
        let t = load(depth, at)
        var normal = (Lanes.zero, Lanes.zero, Lanes(1))
        if alpha.max() > 0 {
            // At the left and right border the difference is one-sided, so it must not be halved.
            let left = column == 0 ? Self.leftNeighbours(t) : load(depth, at - 1)
            let right = column == Self.side - 8 ? Self.rightNeighbours(t) : load(depth, at + 1)
            let dx = (left - right) * 0.5
            let dy = (shifted(row - 1, column) - shifted(row + 1, column)) * 0.5
            let length = (dx * dx + dy * dy + 1).squareRoot()
            normal = (dx / length, dy / length, Lanes(1) / length)
        }
        return SyntheticPatch(
            row: Float(row), column: Float(column), x: x, y: y, depth: t, alpha: alpha, normal: normal)
    }

    private static func leftNeighbours(_ t: Lanes) -> Lanes {
        Lanes(2 * t[0] - t[1], t[0], t[1], t[2], t[3], t[4], t[5], t[6])
    }

    private static func rightNeighbours(_ t: Lanes) -> Lanes {
        Lanes(t[1], t[2], t[3], t[4], t[5], t[6], t[7], 2 * t[7] - t[6])
    }
}

/// Eight pixels being painted: place in the image, and what the line of sight meets there.
struct SyntheticPatch {
    let row: Float, column: Float
    /// Head coordinates.
    let x: Lanes, y: Lanes
    let depth: Lanes, alpha: Lanes
    /// Unit normal seen from the camera.
    let normal: (x: Lanes, y: Lanes, z: Lanes)
    private let low: SIMD2<Float>, high: SIMD2<Float>

    init(
        row: Float, column: Float, x: Lanes, y: Lanes, depth: Lanes, alpha: Lanes, normal: (Lanes, Lanes, Lanes)
    ) {
        self.row = row
        self.column = column
        self.x = x
        self.y = y
        self.depth = depth
        self.alpha = alpha
        self.normal = normal
        low = SIMD2(x.min(), y.min())
        high = SIMD2(x.max(), y.max())
    }

    /// The pixels' columns.
    var columns: Lanes { Lanes.ramp + column }

    /// Whether some of these pixels may lie in a box of the head's frame.
    @inline(__always) func meets(_ x: Float, _ y: Float, _ rx: Float, _ ry: Float) -> Bool {
        low.x < x + rx && high.x > x - rx && low.y < y + ry && high.y > y - ry
    }

    /// The same for a box and its mirror image.
    @inline(__always) func meetsPair(_ x: Float, _ y: Float, _ rx: Float, _ ry: Float) -> Bool {
        meets(x, y, rx, ry) || meets(-x, y, rx, ry)
    }

    /// Whether all of these pixels lie below the eyes and within `half` of the midline.
    @inline(__always) func isCentral(_ half: Float) -> Bool { low.y > 6 && high.x < half && low.x > -half }
}
