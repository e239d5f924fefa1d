extension SyntheticPainter {
    /// Where the hair begins above the eyes at x of the head's frame (y, negative is up): high over the forehead, down
    /// the temples to the sideburns.
    @inline(__always) private func hairline(_ x: Lanes) -> Lanes {
        let hair = person.hair
        let u = x * (1 / person.head.width)
        let u2 = lower(u * u, Lanes(1.04))
        let u4 = u2 * u2
        var line = u4 * u2 * (hair.line + hair.sideburn + moment.hairDrop) - hair.line
        line += bump(x, 12) * hair.widow - bump(x.magnitude - 17, 14) * (0.4 * hair.widow + 1)
        switch hair.style {
        case .fringe, .longFringe:
            line += bump(x - 14 * hair.part, 44) * (14 + moment.hairDrop)
        case .parted:
            let d = x - 22 * hair.part
            line += (d.magnitude * 0.06).unit * (5 + moment.hairDrop) - 2
        case .bald:
            line -= bump(x, 34) * 26
        case .cropped, .short, .curly, .long:
            line += moment.hairDrop * 0.4
        }
        return line
    }

    private var thickness: Float {
        switch person.hair.style {
        case .bald, .cropped: return 0.012
        case .curly: return 0.08 + person.hair.volume
        case .short, .parted, .fringe, .long, .longFringe: return 0.02 + person.hair.volume
        }
    }

    /// 1 far from the hair, less on the skin just below its edge.
    @inline(__always) func hairShade(_ x: Lanes, _ y: Lanes) -> Lanes {
        if y.min() > 10 { return Lanes(1) }
        let below = y - hairline(x)
        return Lanes(1) - bump(below, 8) * 0.45
    }

    /// Long hair that falls behind the face.
    @inline(__always) func hairBehind(_ patch: SyntheticPatch, _ colour: inout ColourLanes) {
        let hair = person.hair
        let m = scene.magnification
        let centre = scene.screen(SIMD3(0, 0, -20))
        let y = (patch.row - centre.y) / m
        let x = (patch.columns - centre.x) * (1 / m)
        var half = person.head.width * (1.08 + hair.volume * 1.4)
        switch hair.style {
        case .long, .longFringe:
            half += max(0, y) * (0.02 + 0.1 * hair.wave)
            if y < -20 {
                let up = min(1, (-20 - y) / (person.head.crown * (1 + hair.volume) - 18))
                half *= (1 - up * up).squareRoot()
            }
        case .bald, .cropped, .short, .parted, .fringe, .curly:
            return
        }
        let flow = noise.smooth(x * 1.6 + moment.hairWave.x, Lanes(y * 0.12 + moment.hairWave.y))
        let wavy = noise.smooth(Lanes(y * 0.25) + x.sign * 40, Lanes(moment.hairWave.x)) * (1 + 2 * hair.wave)
        let inside = Lanes(half) + wavy - x.magnitude
        let l = moment.light.key * 0.45 + moment.light.ambient
        let side = x * (moment.light.direction.x * 0.012) + 1
        let shade = (flow * 0.22 + 0.85) * side * l
        let depth = (inside * 0.06).unit * -0.35 + 1
        colour.lay(ColourLanes(hairColour) * (shade * depth), inside.coverage(2.2))
    }

    /// Hair on the head: a shell over the skull, cut off at the hairline.
    @inline(__always) func hair(_ patch: SyntheticPatch, _ colour: inout ColourLanes) {
        let hair = person.hair
        // Cheeks and nose lie well below the lowest fringe.
        if patch.alpha.min() == 1 && patch.isCentral(0.7 * person.head.width) { return }
        let ray = scene.ray(patch.columns, patch.row)
        let hit = scene.meet(ray, growth: thickness)
        let d = scene.view
        let grow = 1 + thickness
        let edge = hit.discriminant * (20 * scene.magnification * grow)
        let curls: Float = hair.style == .curly ? 2.6 : 0.7
        let rough = noise(patch.columns * 0.9 + moment.hairWave.x, Lanes(patch.row * 0.9 + moment.hairWave.y))
        let silhouette = (edge + rough * curls * 0.7).coverage(1.6)
        if silhouette.max() == 0 { return }
        // The width is not scaled back, so that beside the head's outline the shell is hair down to the sideburns.
        let x = ray.x + hit.t * d.x, y = (ray.y + hit.t * d.y) * (1 / grow)
        let z = ray.z + hit.t * d.z
        if y.min() > 40 { return }
        // Strands run down the head, away from the parting, and end raggedly at the hairline.
        let fan = (x - 22 * hair.part) / (y * -0.02 + 1.6)
        let texture: Lanes
        if hair.style == .curly {
            texture = noise.smooth(x * 0.55 + moment.hairWave.y, y * 0.55 + moment.hairWave.x)
        } else {
            texture = noise.smooth(fan * 1.8 + moment.hairWave.x, y * 0.16 + moment.hairWave.y)
        }
        // Beyond the head's outline hair goes as far down as at the outline, or a strand would hang in the air.
        let across = x.replacing(with: patch.x, where: patch.alpha .< Lanes(0.5))
        var above = hairline(across) - y + texture * (hair.style == .curly ? 1.8 : 1.3)
        // Behind the ears hair reaches further down, to the nape where it is long.
        let isLong = hair.style == .long || hair.style == .longFringe
        let behind = (Lanes(-6) - z) * 1.2
        let nape = lower(behind, Lanes(isLong ? 34 : 8) - y)
        above = higher(above, nape)
        var alpha = above.coverage(hair.style == .cropped ? 4 : 2.2) * silhouette
        if hair.style == .bald || hair.style == .cropped { alpha *= 0.88 }
        if alpha.max() == 0 { return }
        let n = (x: x * (1 / person.head.width), y: y * (1 / person.head.crown), z: higher(z, .zero) * 0.02)
        let lit = light(n, visible: Lanes(1))
        let band = bump(n.y - moment.light.direction.y * 0.5 + 0.12, 0.3) * (texture * 0.4 + 0.7)
        let root = (above * 0.15).unit * 0.35 + 0.65
        let shade = (texture * 0.24 + 0.8) * root
        var tone = lit * shade * hairColour
        let sheen = band * (0.07 * moment.light.key)
        tone.r += sheen * (hairColour.x + 0.12)
        tone.g += sheen * (hairColour.y + 0.1)
        tone.b += sheen * (hairColour.z + 0.09)
        colour.lay(tone, alpha)
    }
}
