#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// One image's geometry: the head as an ellipsoid whose width follows a jaw profile, with a relief of nose, sockets,
/// lips and chin on it, turned, projected orthographically and aligned to the template by its landmarks.
struct SyntheticScene {
    let person: SyntheticIdentity
    let moment: SyntheticMoment
    /// Columns: the head's axes seen from the camera (right, down, towards the viewer).
    let axisX: SIMD3<Float>, axisY: SIMD3<Float>, axisZ: SIMD3<Float>
    /// Screen = similarity (a + ib) times the head's projection, plus an offset; and its inverse.
    private(set) var similarity = SIMD2<Float>(1, 0)
    private(set) var offset = SIMD2<Float>(56, 52)
    private(set) var landmarks: [SIMD2<Float>] = []
    /// Half height of the head below its centre, with the jaw dropped as far as the mouth is open.
    let chin: Float
    static let centreY: Float = -2

    init(person: SyntheticIdentity, moment: SyntheticMoment) {
        self.person = person
        self.moment = moment
        chin = person.head.chin + 5 * moment.open
        let yaw = moment.yaw * .pi / 180, pitch = moment.pitch * .pi / 180
        let cy = cos(yaw), sy = sin(yaw), cp = cos(pitch), sp = sin(pitch)
        // Yaw about the vertical, then pitch about the camera's horizontal.
        axisX = SIMD3(cy, -sy * sp, -sy * cp)
        axisY = SIMD3(0, cp, -sp)
        axisZ = SIMD3(sy, cy * sp, cy * cp)
        align()
    }

    /// Least squares similarity from the projected landmarks to the template, then the alignment's own error.
    private mutating func align() {
        let eye = person.eye.distance, half = mouthHalf
        let corner = mouthY - 2.5 * moment.smile
        let x = Lanes(-eye, eye, noseX, -half + person.mouth.skew, half + person.mouth.skew, 0, 0, 0)
        let y = Lanes(0, 0, person.nose.tip - 1, corner, corner, 0, 0, 0)
        let z = frontZ(x, y) + relief(x, y)
        let points = (0..<5).map { project(SIMD3(x[$0], y[$0], z[$0])) }
        let target = SyntheticFaces.template
        let from = points.reduce(.zero, +) / 5, to = target.reduce(.zero, +) / 5
        var a = SIMD2<Float>.zero
        var square: Float = 0
        for (p, t) in zip(points, target) {
            let u = p - from, v = t - to
            a += SIMD2(u.x * v.x + u.y * v.y, u.x * v.y - u.y * v.x)
            square += u.x * u.x + u.y * u.y
        }
        let roll = moment.roll * .pi / 180
        let error = SIMD2(cos(roll), sin(roll)) * moment.scale
        a /= square
        similarity = SIMD2(a.x * error.x - a.y * error.y, a.x * error.y + a.y * error.x)
        offset = to + moment.shift - rotate(from)
        landmarks = points.map { rotate($0) + offset }
    }

    private func rotate(_ p: SIMD2<Float>) -> SIMD2<Float> {
        SIMD2(similarity.x * p.x - similarity.y * p.y, similarity.y * p.x + similarity.x * p.y)
    }

    /// A head point before alignment.
    private func project(_ p: SIMD3<Float>) -> SIMD2<Float> {
        SIMD2(
            axisX.x * p.x + axisY.x * p.y + axisZ.x * p.z, axisX.y * p.x + axisY.y * p.y + axisZ.y * p.z)
    }

    /// Where a point of the head's frame lies in the image.
    func screen(_ p: SIMD3<Float>) -> SIMD2<Float> { rotate(project(p)) + offset }

    /// Pixels of the image per pixel of the head's frame.
    var magnification: Float { (similarity.x * similarity.x + similarity.y * similarity.y).squareRoot() }

    var mouthHalf: Float { person.mouth.half * (1 + 0.16 * max(0, moment.smile) - 0.1 * moment.open) }
    var mouthY: Float { person.mouth.y + 2.2 * moment.open }
    var noseX: Float { person.nose.skew }

    /// A line of sight: the head's frame coordinates of its start in the plane through the head's centre.
    struct Ray {
        var x: Lanes, y: Lanes, z: Lanes
    }

    /// The lines of sight of eight pixels from (px, py).
    @inline(__always) func ray(_ px: Lanes, _ py: Float) -> Ray {
        let square = similarity.x * similarity.x + similarity.y * similarity.y
        let c = similarity.x / square, s = similarity.y / square
        let u = px - offset.x, v = py - offset.y
        let qx = u * c + v * s
        let qy = Lanes(v * c) - u * s
        return Ray(
            x: qx * axisX.x + qy * axisX.y, y: qx * axisY.x + qy * axisY.y, z: qx * axisZ.x + qy * axisZ.y)
    }

    /// Towards the viewer, in the head's frame.
    var view: SIMD3<Float> { SIMD3(axisX.z, axisY.z, axisZ.z) }

    /// Half width of the head at q in -1...1, from crown to chin.
    @inline(__always) func width(_ q: Lanes) -> Lanes {
        let head = person.head
        let square = q * q
        let fourth = square * square
        let jaw = (square - fourth) * (4 * head.jaw) + fourth * head.chinWidth
        let upper = square * head.forehead
        let factor = upper.replacing(with: jaw, where: q .> .zero)
        return (factor + 1) * head.width
    }

    struct Hit {
        /// Distance along the line of sight, and the discriminant: negative where the line misses.
        var t: Lanes, discriminant: Lanes
        /// Slope of the surface against the line of sight, for moving along it.
        var grazing: Lanes
    }

    /// Where lines of sight meet the head grown by `growth` (a fraction).
    @inline(__always) func meet(_ ray: Ray, growth: Float) -> Hit {
        let d = view
        let head = person.head
        let grow = 1 + growth
        let depth = 1 / (head.depth * grow * head.depth * grow)
        var t = Lanes(40 * d.z)
        var hit = Hit(t: t, discriminant: t, grazing: t)
        for _ in 0..<2 {
            let y = ray.y + t * d.y - Self.centreY
            let inverse = Lanes(1 / (head.crown * grow)).replacing(with: Lanes(1 / (chin * grow)), where: y .> .zero)
            let q = lower(higher(y * inverse, Lanes(-1)), Lanes(1))
            let w = width(q) * grow
            let wide = Lanes(1) / (w * w), high = inverse * inverse
            let oy = ray.y - Self.centreY
            let a = wide * (d.x * d.x) + high * (d.y * d.y) + depth * d.z * d.z
            let b = wide * ray.x * d.x + high * oy * d.y + ray.z * (depth * d.z)
            let c = wide * ray.x.squared + high * oy.squared + ray.z.squared * depth - 1
            let discriminant = b * b - a * c, reciprocal = Lanes(1) / a
            let root = higher(discriminant, .zero).squareRoot()
            t = (root - b) * reciprocal
            hit.discriminant = discriminant * reciprocal
            hit.grazing = root
        }
        hit.t = t
        return hit
    }

    /// The front of the bare ellipsoid over (x, y) of the head's frame.
    @inline(__always) func frontZ(_ x: Lanes, _ y: Lanes) -> Lanes {
        let v = y - Self.centreY
        let inverse = Lanes(1 / person.head.crown).replacing(with: Lanes(1 / chin), where: v .> .zero)
        let q = lower(higher(v * inverse, Lanes(-1)), Lanes(1))
        let u = x / width(q)
        return higher(Lanes(1) - u * u - q * q, .zero).squareRoot() * person.head.depth
    }
}

extension SyntheticScene {
    /// Height of the face's features above the ellipsoid at (x, y) of the head's frame, pixels.
    @inline(__always) func relief(_ x: Lanes, _ y: Lanes) -> Lanes {
        let head = person.head, eye = person.eye
        let ax = x.magnitude
        var h = bump(ax - eye.distance, y + 1, 15, 11) * -head.socket
        h += bump(ax - eye.distance, y, eye.halfWidth + 2, 6.5) * 2.4
        h += bump(ax - 16, y + 12, 19, 7.5) * head.brow
        h += bump(ax - 25, y - 17, 15, 13) * (head.cheekbone + 1.5 * max(0, moment.smile))
        h += bump(ax - 25, y - 35, 13, 15) * head.cheek
        h += bump(ax - 37, y + 14, 13, 16) * -head.temple
        h += nose(x, y)
        h += mouthRelief(x, y, ax)
        return h
    }

    @inline(__always) private func nose(_ x: Lanes, _ y: Lanes) -> Lanes {
        let nose = person.nose
        let tip = nose.tip
        // From the root (0) to the tip (1); below the tip the profile falls back to the lip within a few pixels.
        let s = (y + 7) * (1 / (tip + 7))
        let along = s.unit
        let lean = x - along * noseX
        let profile = along * along * (nose.height - nose.bridge) + nose.bridge
        let root = ((y + 16) * 0.1).eased
        let base = (Lanes(tip + 5.5) - y) * 0.17
        let ridge = profile * root * base.eased + bump(y - tip * 0.4, 7) * nose.hump
        let half = along * along * (nose.width - nose.bridgeWidth) + nose.bridgeWidth
        let u = lean / (half * 1.25)
        let across = higher(Lanes(1) - u * u, .zero)
        var h = ridge * across * (across * 0.6 + 0.4)
        h += bump(lean, y - (tip - 0.5), 6.2, 5.6) * nose.ball
        let wing = lean.magnitude - nose.width * 0.82
        h += bump(wing, y - (tip + 1.2), 4.4, 4.6) * 3.1
        return h
    }

    @inline(__always) private func mouthRelief(_ x: Lanes, _ y: Lanes, _ ax: Lanes) -> Lanes {
        let mouth = person.mouth, head = person.head
        let my = mouthY
        var h = bump(ax, y - (my - 3), 21, 15) * 3.2
        h += bump(ax, y - (my - 1.6 - 0.3 * mouth.upper), mouthHalf, 3.6) * (0.2 * mouth.upper + 0.5)
        let under = my + 1.5 + 0.45 * mouth.lower + 4 * moment.open
        h += bump(ax, y - under, mouthHalf * 0.85, 4.4) * (0.22 * mouth.lower + 0.6)
        h += bump(ax, y - (under + 5.6), 12, 4.2) * -1.3
        h += bump(x, y - (person.nose.tip + my) * 0.5, 2.6, 7) * -mouth.philtrum
        let drop = chin - person.head.chin
        h += bump(ax, y - (56 + drop), 14, 9.5) * head.chinRelief
        h += bump(x, y - (57 + drop), 2.2, 7) * -head.cleft
        return h
    }
}
