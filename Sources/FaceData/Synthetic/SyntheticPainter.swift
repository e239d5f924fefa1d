#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Colours of the pixels of one scene, in linear light.
struct SyntheticPainter {
    let scene: SyntheticScene
    let noise: SyntheticNoise
    let person: SyntheticIdentity
    let moment: SyntheticMoment
    private let half: SIMD3<Float>
    private let shadowSteps: [(dx: Int, dy: Int, rise: Float)]
    let ears: [Ear]
    let hairColour: SIMD3<Float>

    struct Ear {
        var centre: SIMD2<Float>, radius: SIMD2<Float>, side: Float, near: Bool
    }

    init(_ scene: SyntheticScene, noise: SyntheticNoise) {
        self.scene = scene
        self.noise = noise
        person = scene.person
        moment = scene.moment
        let l = moment.light.direction
        let sum = SIMD3(l.x, l.y, l.z + 1)
        half = sum / (sum * sum).sum().squareRoot()
        // Pixels towards the light that may throw a shadow, and how high above the surface the light passes there.
        shadowSteps = ([2, 4, 6.5, 9.5] as [Float]).map { distance in
            let flat = max(0.2, (l.x * l.x + l.y * l.y).squareRoot())
            let dx = (l.x / flat * distance).rounded(), dy = (l.y / flat * distance).rounded()
            return (Int(dx), Int(dy), distance * max(0.15, l.z) / flat)
        }
        let head = scene.person.head
        let turn = scene.axisX.z
        ears = ([-1, 1] as [Float]).map { side in
            let place = SIMD3(side * (head.width + 0.35 * head.earOut), head.earY, -4)
            let wide = head.earOut * abs(scene.axisX.x) + 6 * abs(turn)
            return Ear(
                centre: scene.screen(place), radius: SIMD2(wide, head.earSize) * scene.magnification, side: side,
                near: side * turn > -0.1)
        }
        hairColour = person.hair.colour * moment.hairShade
    }

    /// Paints eight pixels from back to front.
    ///
    /// - Parameters:
    ///   - hidden: becomes the opacity of what lies before the face.
    ///   - depthAt: the depth of the pixels that lie (columns, rows) away.
    @inline(__always) func paint(
        _ patch: SyntheticPatch, hidden: inout Lanes, depthAt: (Int, Int) -> Lanes
    ) -> ColourLanes {
        var colour = ColourLanes(.zero)
        if patch.alpha.min() < 1 {
            colour = background(patch)
            body(patch, &colour)
            hairBehind(patch, &colour)
        }
        for ear in ears where !ear.near { self.ear(ear, patch, &colour) }
        if patch.alpha.max() > 0 {
            let shadow = castShadow(patch, depthAt)
            colour.lay(skin(patch, shadow: shadow), patch.alpha)
        }
        for ear in ears where ear.near { self.ear(ear, patch, &colour) }
        hair(patch, &colour)
        glasses(patch, &colour, &hidden)
        headwear(patch, &colour, &hidden)
        cover(patch, &colour, &hidden)
        return fallingShadow(patch, colour)
    }

    /// Light that reaches a surface of white skin: key with a wrapped cosine (wider in red, as light that has travelled
    /// through skin is), a weak fill, and an ambient light that comes from above rather than below.
    @inline(__always) func light(_ n: (x: Lanes, y: Lanes, z: Lanes), visible: Lanes) -> ColourLanes {
        let light = moment.light
        let l = light.direction
        let cosine = n.x * l.x + n.y * l.y + n.z * l.z
        let fillCosine = higher(n.x * light.fill.x + n.y * light.fill.y + n.z * light.fill.z, .zero)
        let sky = (Lanes(1) - n.y * 0.35) * light.ambient
        func channel(_ wrap: Float, _ key: Float, _ ambient: Float) -> Lanes {
            let direct = higher((cosine + wrap) * (1 / (1 + wrap)), .zero) * visible
            return direct * (light.key * key) + sky * ambient + fillCosine * (light.fillStrength * ambient)
        }
        return ColourLanes(
            r: channel(0.34, light.keyColour.x, light.ambientColour.x),
            g: channel(0.2, light.keyColour.y, light.ambientColour.y),
            b: channel(0.16, light.keyColour.z, light.ambientColour.z))
    }

    /// Strength of the highlight of a glossy surface, without its colour.
    @inline(__always) func highlight(_ n: (x: Lanes, y: Lanes, z: Lanes)) -> Lanes {
        let c = higher(n.x * half.x + n.y * half.y + n.z * half.z, .zero)
        let c4 = c.squared.squared
        return c4.squared.squared * c4 * moment.light.key
    }

    /// 1 where the key light reaches the face, less where the nose or the brow stands in its way.
    @inline(__always) private func castShadow(_ patch: SyntheticPatch, _ depthAt: (Int, Int) -> Lanes) -> Lanes {
        var blocked = Lanes.zero
        for step in shadowSteps {
            let above = depthAt(step.dx, step.dy) - patch.depth - step.rise
            blocked = higher(blocked, above * 0.5)
        }
        return Lanes(1) - blocked.eased * 0.75
    }

    /// The shadow of something outside the picture.
    @inline(__always) private func fallingShadow(_ patch: SyntheticPatch, _ colour: ColourLanes) -> ColourLanes {
        let light = moment.light
        if light.shadowDepth == 0 { return colour }
        let x = patch.columns - 56, y = patch.row - 56
        let d = x * light.shadowNormal.x + (y * light.shadowNormal.y - light.shadowOffset)
        let inside = (d * (1 / light.shadowSoftness) + 0.5).eased
        return colour * (Lanes(1) - inside * light.shadowDepth)
    }

    @inline(__always) private func background(_ patch: SyntheticPatch) -> ColourLanes {
        let s = moment.surroundings
        let x = patch.columns, y = Lanes(patch.row)
        let ramp = (x - 56) * s.gradient.x + ((patch.row - 56) * s.gradient.y + 0.5)
        var colour = ColourLanes(s.colours[0])
        colour.lay(s.colours[1], ramp.eased)
        if s.texture > 0 {
            let broad = noise.smooth(x * 0.35 + s.origin.x, y * 0.35 + s.origin.y)
            colour.lay(s.colours[2], (broad * s.mix - 0.4).eased * s.texture)
            let fine = noise.smooth(x * s.grain.x - s.origin.y, y * s.grain.y + s.origin.x)
            colour.lay(s.colours[3], (fine * 0.5 + 0.1).unit * (0.6 * s.texture))
        }
        return colour
    }

    /// Neck and shoulders.
    @inline(__always) private func body(_ patch: SyntheticPatch, _ colour: inout ColourLanes) {
        if patch.row < 76 { return }
        let m = scene.magnification
        let centre = scene.screen(SIMD3(0, 62, -18))
        let x = (patch.columns - centre.x).magnitude
        let y = patch.row - centre.y
        let neck = Lanes((24 + 0.1 * max(0, y)) * m + 0.25) - x
        let shade = max(0.25, min(0.8, 0.35 + y * 0.02))
        let l = moment.light.key * 0.5 + moment.light.ambient
        colour.lay(person.skin.colour * (shade * l), neck.coverage(1.5) * (y > -22 ? 1 : 0))
        let collar = (Lanes(patch.row) - (centre.y + 30 * m)) - (x - 20) * 0.06 - (Lanes(34) - x) * 0.25
        let fold = noise(patch.columns * 0.6 + moment.surroundings.origin.x, Lanes(patch.row * 0.3)) * 0.12 + 0.9
        colour.lay(ColourLanes(moment.surroundings.clothes) * (fold * l), collar.coverage(1.5))
    }

    @inline(__always) private func ear(_ ear: Ear, _ patch: SyntheticPatch, _ colour: inout ColourLanes) {
        if abs(patch.row - ear.centre.y) > ear.radius.y + 1 { return }
        let u = (patch.columns - ear.centre.x) * (1 / ear.radius.x)
        let v = Lanes((patch.row - ear.centre.y) / ear.radius.y)
        // An ear is wider above than below.
        let squeeze = u * (1 + 0.25 * v[0])
        let r = (squeeze * squeeze + v * v).squareRoot()
        let alpha = ((Lanes(1) - r) * min(ear.radius.x, 6)).coverage()
        if alpha.max() == 0 { return }
        let inner = bump(u - 0.1 * ear.side, v + 0.1, 0.62, 0.7)
        let n = (x: u * 0.5 + ear.side * 0.45, y: v * 0.4, z: Lanes(0.75))
        var shade = light(n, visible: Lanes(1)) * person.skin.colour
        shade = shade * SIMD3(0.92, 0.78, 0.76)
        colour.lay(shade * (Lanes(1) - inner * 0.45), alpha)
    }
}
