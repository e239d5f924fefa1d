extension SyntheticPainter {
    /// The lit face of eight pixels.
    @inline(__always) func skin(_ patch: SyntheticPatch, shadow: Lanes) -> ColourLanes {
        let x = patch.x, y = patch.y
        var albedo = complexion(x, y)
        blemishes(patch, &albedo)
        growth(patch, &albedo)
        var gloss = Lanes(person.skin.oil * 0.2)
        brows(patch, &albedo)
        nostrils(patch, &albedo)
        mouth(patch, &albedo, &gloss)
        eyes(patch, &albedo, &gloss)
        let visible = shadow * hairShade(x, y)
        var lit = albedo * light(patch.normal, visible: visible)
        let shine = highlight(patch.normal) * gloss * visible
        let tint = moment.light.keyColour
        lit.r += shine * tint.x
        lit.g += shine * tint.y
        lit.b += shine * tint.z
        return lit
    }

    /// Colour of the skin before features: tone, blotches, blush, and the darker skin of the sockets.
    @inline(__always) private func complexion(_ x: Lanes, _ y: Lanes) -> ColourLanes {
        let skin = person.skin
        let origin = skin.origin
        let broad = noise(x * 0.8 + origin.x, y * 0.8 + origin.y)
        let pores = noise(x * 3.7 - origin.y, y * 3.7 + origin.x)
        var shade = broad * (0.035 * skin.blotch) + pores * 0.018 + moment.skinShade
        let ax = x.magnitude
        shade -= bump(ax - person.eye.distance, y + 2, 14, 9) * (0.1 + 0.12 * moment.makeup)
        shade -= bump(ax - (person.nose.width + 2.5), y - person.nose.tip, 4, 6) * 0.08
        var colour = ColourLanes(skin.colour) * shade
        let flush = bump(ax - 25, y - 20, 17, 14) * (0.8 + moment.makeup) + bump(x, y - person.nose.tip, 10, 8) * 0.7
        let red = (flush + broad * 0.15) * (0.16 * skin.blush)
        colour.g -= colour.g * red
        colour.b -= colour.b * (red * 0.8)
        return colour
    }

    @inline(__always) private func blemishes(_ patch: SyntheticPatch, _ albedo: inout ColourLanes) {
        let x = patch.x, y = patch.y
        let skin = person.skin
        if skin.freckles > 0 && patch.meets(0, 14, 36, 26) {
            let spots = noise(x * 2.6 + skin.origin.y, y * 2.6 - skin.origin.x)
            let cheeks = bump(x, y - 14, 36, 26)
            let strength = ((spots - 0.9) * 1.6).unit * cheeks * (0.5 * skin.freckles)
            albedo.lay(skin.colour * SIMD3(0.55, 0.38, 0.3), strength)
        }
        for mole in skin.moles where patch.meets(mole.x, mole.y, mole.z + 1, mole.z + 1) {
            let dx = x - mole.x, dy = y - mole.y
            let inside = Lanes(mole.z) - (dx * dx + dy * dy).squareRoot()
            albedo.lay(skin.colour * SIMD3(0.22, 0.14, 0.12), inside.coverage(1.2) * mole.w)
        }
        folds(patch, &albedo)
    }

    /// Lines that age and expression draw: beside nose and mouth, on the forehead, under the eyes, between the brows.
    @inline(__always) private func folds(_ patch: SyntheticPatch, _ albedo: inout ColourLanes) {
        let x = patch.x, y = patch.y
        let ax = x.magnitude
        var dark = Lanes.zero
        let mouth = person.mouth, skin = person.skin
        let cheek = mouth.fold + 0.4 * max(0, moment.smile)
        let top = person.nose.tip - 2, bottom = scene.mouthY + 3
        if patch.meetsPair(17, (top + bottom) * 0.5, 12, 18) {
            let s = (y - top) * (1 / (bottom - top))
            let line = s * (scene.mouthHalf + 4 - person.nose.width - 3.5) + (person.nose.width + 3.5)
            let bow = (Lanes(1) - (s * 2 - 1).squared) * 2
            dark += bump(ax - line - bow, 2.6) * bump(s - 0.45, 0.75) * (0.42 * cheek)
        }
        if skin.wrinkle > 0.02 || moment.raise > 0.1 {
            if patch.meets(0, -29, 30, 10) {
                let wave = y + x.squared * 0.004 + noise(x * 0.5 + skin.origin.x, Lanes(skin.origin.y)) * 0.5
                var lines = bump(wave + 24, 1.6) + bump(wave + 29.5, 1.7)
                lines += bump(wave + 35, 1.6)
                dark += lines * bump(ax, 29) * (0.16 * skin.wrinkle + 0.12 * max(0, moment.raise))
            }
        }
        if moment.frown > 0.05 && patch.meets(0, -12, 6, 9) {
            dark += bump(ax - 3, 1.5) * bump(y + 12, 8) * (0.35 * moment.frown)
        }
        let eye = person.eye
        if patch.meetsPair(eye.distance, 8, 12, 6) {
            let bag = y - 6.5 + (ax - eye.distance).squared * 0.025
            dark += bump(bag, 2.4) * bump(ax - eye.distance + 1, 11) * (0.35 * eye.bag)
        }
        albedo = albedo * (Lanes(1) - dark)
        albedo.g -= albedo.g * dark * 0.15
    }

    /// Beard and moustache: from a shadow to full, as thick as this person's and as long as today's.
    @inline(__always) private func growth(_ patch: SyntheticPatch, _ albedo: inout ColourLanes) {
        let skin = person.skin
        if skin.beard == 0 && skin.moustache == 0 { return }
        if !patch.meets(0, 46, 46, 36) { return }
        let x = patch.x, y = patch.y
        let ax = x.magnitude
        let my = scene.mouthY
        let strands = noise(x * 2.2 + skin.origin.x, y * 0.9 + skin.origin.y) * 0.22 + 0.85
        let today = 0.55 + 0.45 * moment.stubble
        // The upper edge runs from the sideburns to the corners of the mouth.
        let edge = y - 46 + ax.squared * 0.021
        let lip = bump(ax, y - (my + 2), scene.mouthHalf + 4, 9)
        let jaw = (edge * 0.13).eased * (Lanes(1) - lip * 1.8).unit
        albedo.lay(hairColour * 0.9 + skin.colour * 0.08, (jaw * strands).unit * (skin.beard * today))
        let centre = (person.nose.tip + my) * 0.5 + 2.5
        let moustache = bump(ax, y - centre - ax.squared * 0.012, scene.mouthHalf + 5, 6.5)
        let dense = (moustache * 1.7 * strands).unit * (skin.moustache * today)
        albedo.lay(hairColour * 0.9 + skin.colour * 0.06, dense)
    }

    @inline(__always) private func nostrils(_ patch: SyntheticPatch, _ albedo: inout ColourLanes) {
        let nose = person.nose
        let y = nose.tip + 3.6, x = nose.width * 0.46
        guard patch.meets(nose.skew, y, nose.width + 5, 6) else { return }
        let dx = (patch.x - nose.skew).magnitude
        let hole = bump(dx - x, patch.y - y - (dx - x) * 0.15, 3.4, 2.1 * (0.6 + 0.4 * nose.nostril))
        albedo.lay(person.skin.colour * SIMD3(0.13, 0.07, 0.06), (hole * 1.8).unit * 0.9)
        let wing = bump(dx - nose.width * 1.16, patch.y - nose.tip, 1.8, 5)
        let base = bump(dx, patch.y - (nose.tip + 5.4), nose.width, 2)
        albedo = albedo * (Lanes(1) - wing * 0.3 - base * 0.22)
    }

    @inline(__always) private func brows(_ patch: SyntheticPatch, _ albedo: inout ColourLanes) {
        let brow = person.brow
        let lift = -3.2 * moment.raise
        guard patch.meetsPair(brow.inner + brow.length * 0.5, brow.y + lift, brow.length * 0.5 + 3, 10) else { return }
        let side = patch.x.sign
        let ax = patch.x.magnitude
        let u = (ax - brow.inner) * (1 / brow.length)
        let inner = (Lanes(1) - u * 2.2).unit
        var line = u * brow.slope - (Lanes(1) - (u - 0.62).squared * 2.6) * brow.arch
        line += inner * (3 * moment.frown) + side * brow.asymmetry + (brow.y + lift)
        let taper = lower((u + 0.12) * 5, (Lanes(1.04) - u) * (1 / (0.2 + 0.6 * brow.taper))).unit
        let strand = noise(patch.x * 1.1 - patch.y * side * 0.9, patch.y * 2.4 + person.skin.origin.x) * 0.12 + 0.9
        let inside = taper * (brow.thickness + 0.3) - (patch.y - line).magnitude
        let alpha = inside.coverage(1.7) * (taper * 3).unit * strand * brow.density
        albedo.lay(brow.colour * (0.5 + 0.5 * moment.hairShade), alpha.unit)
    }
}
