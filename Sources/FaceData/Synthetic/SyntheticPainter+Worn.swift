#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

extension SyntheticPainter {
    /// Where lines of sight meet a plane that stands before the face at height z.
    @inline(__always) private func plane(_ patch: SyntheticPatch, _ z: Float) -> (x: Lanes, y: Lanes) {
        let ray = scene.ray(patch.columns, patch.row)
        let d = scene.view
        let t = (Lanes(z) - ray.z) * (1 / d.z)
        return (ray.x + t * d.x, ray.y + t * d.y)
    }

    /// Rounded box: pixels inside its edge.
    @inline(__always) private func box(_ x: Lanes, _ y: Lanes, _ w: Float, _ h: Float, _ r: Float) -> Lanes {
        let qx = x.magnitude - (w - r), qy = y.magnitude - (h - r)
        let ox = higher(qx, .zero), oy = higher(qy, .zero)
        let outside = (ox * ox + oy * oy).squareRoot()
        return Lanes(r) - outside - lower(higher(qx, qy), .zero)
    }

    private var daylight: Float { moment.light.key * 0.55 + moment.light.ambient }

    @inline(__always) func glasses(_ patch: SyntheticPatch, _ colour: inout ColourLanes, _ hidden: inout Lanes) {
        if moment.glasses == .none || patch.row < 20 || patch.row > 90 { return }
        let frame = moment.frame
        let (x, y) = plane(patch, person.head.depth - 2)
        if y.min() > 18 || y.max() < -18 { return }
        let ax = x.magnitude
        let middle = max(person.eye.distance, frame.x + 2.5)
        let w = frame.x, h = frame.y
        let lens = box(ax - middle, y - 1.5, w, h, min(w, h) * frame.z)
        let rim = Lanes(frame.w + 0.35) - lens.magnitude
        let bridge = lower(Lanes(middle - w) - ax, Lanes(frame.w + 0.2) - (y + 2).magnitude)
        let hinge = lower(
            lower(ax - (middle + w), Lanes(person.head.width + 1) - ax), Lanes(frame.w) - (y + h * 0.45).magnitude)
        let solid = higher(higher(rim, bridge), hinge).coverage(1.1)
        let inside = lens.coverage(1.1)
        if moment.glasses == .dark {
            let shine = ((x * 0.6 + y + 8) * 0.05).unit * 0.12
            let tint = ColourLanes(moment.wear * 0.04 + SIMD3(0.008, 0.008, 0.01)) * (shine * 6 + 1)
            colour.lay(tint, inside * 0.95)
            hidden = higher(hidden, inside)
        } else {
            // A pane takes a little light and reflects a streak of it.
            let streak = bump(x * 0.7 + y - moment.light.direction.x * 12, 4) * inside * (0.2 * moment.light.key)
            colour = colour * (Lanes(1) - inside * 0.06)
            colour.lay(SIMD3(repeating: 0.9), streak)
        }
        colour.lay(moment.wear * (0.4 * daylight), solid * 0.95)
        hidden = higher(hidden, solid)
    }

    @inline(__always) func headwear(_ patch: SyntheticPatch, _ colour: inout ColourLanes, _ hidden: inout Lanes) {
        if moment.headwear == .none { return }
        let ray = scene.ray(patch.columns, patch.row)
        let growth: Float = moment.headwear == .scarf ? 0.1 : 0.13
        let hit = scene.meet(ray, growth: growth)
        let alpha = (hit.discriminant * (22 * scene.magnification)).coverage(1)
        if alpha.max() == 0 { return }
        let d = scene.view
        let x = ray.x + hit.t * d.x, y = ray.y + hit.t * d.y, z = ray.z + hit.t * d.z
        let n = (
            x: x * (1 / person.head.width), y: y * (1 / person.head.crown), z: higher(z, .zero) * 0.02
        )
        let weave = noise(x * 1.4 + moment.coverShape.centre.x, y * 1.4) * 0.08 + 1
        let cloth = light(n, visible: Lanes(1)) * weave * moment.wear
        let u = x * (1 / person.head.width)
        switch moment.headwear {
        case .beanie, .none:
            let line = Lanes(-25 + moment.hairDrop) + u * u * 10
            let on = (line - y).coverage(1.2) * alpha
            let cuff = Lanes(1) - bump(line - y - 11, 1.4) * 0.45
            colour.lay(cloth * cuff, on)
            hidden = higher(hidden, on)
        case .cap:
            let line = Lanes(-27 + moment.hairDrop * 0.6) + u * u * 7
            let on = (line - y).coverage(1.2) * alpha
            colour.lay(cloth, on)
            // The peak stands out before the forehead; below it lies its shadow.
            let (px, py) = plane(patch, person.head.depth + 14)
            let arc = px.squared * 0.008 - 34 + moment.hairDrop
            let peak = lower(py - arc + 6, arc + 6.5 - py).coverage(1.2) * ((Lanes(34) - px.magnitude) * 0.4).unit
            let shade = ((Lanes(4) - (patch.y - line)) * 0.06).unit * patch.alpha
            colour = colour * (Lanes(1) - shade * (Lanes(1) - on) * (0.55 * moment.light.key))
            colour.lay(moment.wear * (0.55 * daylight), peak)
            hidden = higher(hidden, higher(on, peak))
        case .scarf:
            // Cloth all round the face: an oval opening.
            let ox = x * (1 / (person.head.width * 0.9)), oy = (y - 16) * (1 / 50)
            let outside = ((ox * ox + oy * oy).squareRoot() - 1) * 34
            let on = outside.coverage(1.3) * alpha
            let drape = noise(x * 0.3 + moment.coverShape.centre.y, y * 0.3) * 0.16 + 0.95
            colour.lay(cloth * drape, on)
            hidden = higher(hidden, on)
        }
    }

    @inline(__always) func cover(_ patch: SyntheticPatch, _ colour: inout ColourLanes, _ hidden: inout Lanes) {
        let shape = moment.coverShape
        switch moment.cover {
        case .none:
            return
        case .mask:
            if patch.alpha.max() == 0 { return }
            let top = patch.y - (9 + 0.25 * shape.half.x) + patch.x.squared * -0.006
            let on = top.coverage(1.2) * patch.alpha
            let pleat = bump(patch.y - 34, 1.2) + bump(patch.y - 42, 1.2)
            let lit = light(patch.normal, visible: Lanes(1)) * (shape.colour * 0.6 + 0.3)
            colour.lay(lit * (Lanes(1) - pleat * 0.2), on)
            hidden = higher(hidden, on)
        case .hand, .bar, .object:
            let (px, py) = plane(patch, person.head.depth + 12)
            let c = cos(shape.angle), s = sin(shape.angle)
            let dx = px - shape.centre.x, dy = py - shape.centre.y
            let u = dx * c + dy * s, v = dy * c - dx * s
            var on = box(u, v, shape.half.x, shape.half.y, min(shape.half.x, shape.half.y) * 0.35).coverage(1.1)
            var shade = (u * 0.008 * moment.light.direction.x + 0.9) * daylight
            if moment.cover == .hand {
                // Four fingers side by side with dark gaps.
                let step: Float = 5.6
                let k = (v * (1 / step)).rounded(.down) + 0.5
                let w = (v - k * step).magnitude
                let long = shape.half.y + 14 - (k - 0.5).squared * 1.4
                let across = Lanes(step * 0.52) - w
                let end = higher(u.magnitude - long + step * 0.5, .zero)
                let rounded = Lanes(step * 0.52) - (w * w + end * end).squareRoot()
                let finger = lower(rounded, Lanes(step * 2) - v.magnitude)
                on = finger.coverage(1.1)
                shade *= (across * 0.35).unit * 0.5 + 0.5
            }
            colour.lay(ColourLanes(shape.colour) * shade, on)
            hidden = higher(hidden, on)
        }
    }
}
