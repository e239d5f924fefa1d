#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

extension SyntheticPainter {
    /// Both eyes: lids, lashes, the white, iris, pupil and the light's reflection.
    @inline(__always) func eyes(_ patch: SyntheticPatch, _ albedo: inout ColourLanes, _ gloss: inout Lanes) {
        let eye = person.eye
        guard patch.meetsPair(eye.distance, -1, eye.halfWidth + 4, 10) else { return }
        let side = patch.x.sign
        let size = side * eye.sizeAsymmetry + 1
        // Local coordinates: u runs from the inner (-1) to the outer corner (1), v down.
        let dx = patch.x.magnitude - eye.distance
        let u = (dx - patch.y * eye.tilt) / (size * eye.halfWidth)
        let v = patch.y + dx * eye.tilt
        let arch = higher(Lanes(1) - u * u, .zero)
        let open = max(0.06, moment.lid) * (1 - 0.14 * max(0, moment.smile)) * (1 + 0.12 * max(0, moment.raise))
        let rest = eye.upper * open - 1.1 * max(0, 1 - open)
        let upper = arch * (u * -eye.skew + 1) * size * -rest
        let lowLid = eye.lower * (0.75 + 0.25 * min(1, open)) - 0.7 * max(0, moment.smile)
        let under = arch * (u * (0.5 * eye.skew) + 1) * size * lowLid
        lidSkin(u: u, v: v, upper: upper, under: under, &albedo)
        let inside = lower(v - upper, under - v)
        let alpha = inside.coverage(1.1) * ((Lanes(1.02) - u.magnitude) * 9).unit
        if alpha.max() > 0 {
            var ball = eyeball(dx: dx, v: v, side: side, upper: upper)
            // The corner nearest the nose is pink.
            ball.lay(person.skin.colour * SIMD3(1, 0.6, 0.6), ((u + 0.82) * -6).unit * 0.8)
            albedo.lay(ball, alpha)
            // The reflection is drawn; the skin's broad highlight would whiten the ball.
            gloss -= gloss * alpha * 0.8
        }
        let along = ((Lanes(1.1) - u.magnitude) * 6).unit
        let dark = SIMD3<Float>(0.018, 0.012, 0.01)
        let weight = 0.75 + 0.5 * max(0, eye.lash) + 0.7 * moment.makeup
        let lash = bump(v - upper + 0.35, 1.1 + 0.55 * weight) * along * (u * 0.15 + 0.85)
        albedo.lay(dark, (lash * weight).unit * 0.9)
        albedo.lay(dark, bump(v - under - 0.2, 1.3) * along * (0.16 + 0.2 * moment.makeup + 0.1 * max(0, eye.lash)))
    }

    /// The fold above the lid, the shadow under it.
    @inline(__always) private func lidSkin(
        u: Lanes, v: Lanes, upper: Lanes, under: Lanes, _ albedo: inout ColourLanes
    ) {
        let eye = person.eye
        let reach = ((Lanes(1.15) - u.magnitude) * 3).unit
        let fold = v - upper * 0.95 + eye.crease + 1.2
        let crease = bump(fold, 1.7) * reach * (0.6 * eye.creaseDepth)
        let lid = bump(v - upper + eye.crease * 0.5, eye.crease + 1) * reach * 0.1
        let tear = bump(v - under - 2.2, 2) * reach * 0.07
        albedo = albedo * (Lanes(1) - crease - lid - tear)
    }

    @inline(__always) private func eyeball(dx: Lanes, v: Lanes, side: Lanes, upper: Lanes) -> ColourLanes {
        let eye = person.eye
        var ball = ColourLanes(SIMD3(0.62, 0.57, 0.54))
        // Gaze moves both irises the same way in the image, so against each other in local coordinates.
        let gx = dx - side * moment.gaze.x
        let gy = v - moment.gaze.y + 0.5
        let r = (gx * gx + gy * gy).squareRoot()
        let radius = eye.iris
        let rays = noise(gx * 2 + 31, gy * 2 + person.skin.origin.y) * 0.18 + 1
        let rim = (r * (1 / radius)).squared
        let glow = (Lanes(1.35) - rim * rim * 0.85) * rays
        let iris = ColourLanes(eye.colour) * higher(glow, Lanes(0.2))
        ball.lay(iris, (Lanes(radius) - r).coverage(1.1))
        ball.lay(SIMD3(0.006, 0.005, 0.005), (Lanes(radius * 0.42) - r).coverage(1.1))
        let lit = moment.light.direction
        let cx = dx * side - moment.gaze.x - lit.x * 2.4
        let cy = gy - lit.y * 2.2 - 0.4
        let glint = Lanes(1.0) - (cx * cx + cy * cy).squareRoot()
        ball.lay(SIMD3(repeating: 1.5), glint.coverage(0.9) * 0.85)
        // The lid throws a shadow on the ball.
        return ball * (((v - upper) * 0.28).unit * 0.55 + 0.45)
    }

    /// Lips, the line between them, teeth and the dark of an open mouth.
    @inline(__always) func mouth(_ patch: SyntheticPatch, _ albedo: inout ColourLanes, _ gloss: inout Lanes) {
        let mouth = person.mouth
        let half = scene.mouthHalf, my = scene.mouthY
        guard patch.meets(mouth.skew, my, half + 5, 17) else { return }
        let dx = patch.x - mouth.skew
        let u = dx * (1 / half)
        let square = lower(u * u, Lanes(1.3))
        let arch = higher(Lanes(1) - square, .zero)
        let round = arch.squareRoot()
        // Where the lips meet; a smile lifts the corners.
        let lift = 3.4 * moment.smile + mouth.corner
        let meet = patch.y - (my + 0.8) + square * lift + bump(u, 0.35) * -0.5 + bump(u.magnitude - 0.4, 0.4) * 0.4
        let thin = 1 - 0.22 * max(0, moment.smile)
        let bow = bump(u.magnitude - 0.3, 0.42) * (0.28 * mouth.bow) - bump(u, 0.2) * (0.42 * mouth.bow)
        let gap = arch * (7.5 * moment.open)
        let top = (round * 0.55 + arch * 0.45) * (bow + 0.95) * -(mouth.upper * thin) - gap * 0.15
        let bottom = (round * 0.35 + arch * 0.65) * (mouth.lower * thin) + gap * 0.85
        let red = mouth.colour * SIMD3(1, 1 - 0.25 * moment.makeup, 1 - 0.15 * moment.makeup)
        let reach = ((Lanes(1.03) - u.magnitude) * half * 0.5).unit
        let lips = lower(meet - top, bottom - meet).coverage(1.5) * reach
        let grain = noise(dx * 2.1, patch.y * 0.5 + person.skin.origin.x) * 0.05 + 1
        let shadeUpper = Lanes(1).replacing(with: Lanes(0.8), where: meet .< .zero)
        albedo.lay(ColourLanes(red) * (grain * shadeUpper), lips * 0.88)
        gloss += lips * (0.16 + 0.2 * moment.makeup)
        if moment.open > 0.02 {
            let inside = lower(meet + gap * 0.15, gap * 0.85 - meet)
            let hole = inside.coverage(1.2) * reach
            let teeth = ((gap * 0.5 - meet) * 0.8).unit * (Lanes(0.97) - u.magnitude).unit
            var cavity = ColourLanes(SIMD3(0.05, 0.016, 0.014))
            cavity.lay(SIMD3(0.62, 0.58, 0.5), (teeth * 2).unit * min(1, 2.2 * moment.open))
            albedo.lay(cavity, hole)
        }
        let seam = bump(meet, 1.5) * ((Lanes(1.1) - u.magnitude) * 5).unit * (1 - 0.8 * min(1, 4 * moment.open))
        albedo.lay(mouth.colour * SIMD3(0.25, 0.2, 0.2), seam * 0.75)
        let corner = bump(u.magnitude - 1.03, meet * (1 / half), 0.1, 0.14)
        let under = bump(meet - bottom - 1.8, 2.6) * arch
        albedo = albedo * (Lanes(1) - corner * 0.4 - under * 0.16)
    }
}
