internal import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Things worn or held before the face.
enum Glasses { case none, clear, dark }
enum Headwear { case none, cap, beanie, scarf }
enum Cover { case none, mask, hand, bar, object }

/// What is particular to one image of a person: pose, expression, light, surroundings, camera.
struct SyntheticMoment {
    struct Light {
        var direction: SIMD3<Float>
        var key: Float, ambient: Float
        var keyColour: SIMD3<Float>, ambientColour: SIMD3<Float>
        /// Direction of a weaker second light and its strength.
        var fill: SIMD3<Float>, fillStrength: Float
        /// A shadow that falls on the scene: its edge (a line's normal and offset, pixels) and how dark it is.
        var shadowNormal: SIMD2<Float>, shadowOffset: Float, shadowDepth: Float, shadowSoftness: Float
    }
    struct Surroundings {
        var colours: [SIMD3<Float>]
        var gradient: SIMD2<Float>, origin: SIMD2<Float>, grain: SIMD2<Float>, texture: Float, mix: Float
        var clothes: SIMD3<Float>
    }
    struct Shape {
        var centre: SIMD2<Float>, half: SIMD2<Float>, angle: Float, colour: SIMD3<Float>
    }

    var yaw: Float, pitch: Float, roll: Float
    var shift: SIMD2<Float>, scale: Float
    var smile: Float, open: Float, raise: Float, frown: Float, lid: Float, gaze: SIMD2<Float>
    var light: Light, surroundings: Surroundings, camera: SyntheticCamera
    var hairShade: Float, hairDrop: Float, hairWave: SIMD2<Float>, skinShade: Float, stubble: Float, makeup: Float
    var glasses: Glasses, headwear: Headwear, cover: Cover
    var frame: SIMD4<Float>, wear: SIMD3<Float>, coverShape: Shape

    /// Draws an image's circumstances. Every draw is made whatever the strengths, so that a strength moves only its own
    /// kind of variation.
    init(_ s: inout RandomStream, options: SyntheticFaces.Options, person: SyntheticIdentity) {
        yaw = max(-50, min(50, options.pose * s.spread(0, 15)))
        pitch = max(-28, min(28, options.pose * s.spread(0, 8)))
        roll = options.alignment * s.spread(0, 2.2) + options.pose * s.spread(0, 1.5)
        shift = SIMD2(s.spread(0, 1.6), s.spread(0, 1.6)) * options.alignment
        scale = 1 + min(0.3, options.alignment * 0.03) * s.spread(0, 1)
        let e = options.expression
        smile = max(-1, min(1, e * s.spread(0.2, 0.45)))
        let opening = s.uniform()
        open = min(1, e * max(0, opening - 0.55) * 1.9)
        raise = max(-1, min(1, e * s.spread(0, 0.45)))
        frown = max(0, min(1, e * s.spread(0, 0.4)))
        let blink = s.uniform(), squint = s.spread(0, 0.14)
        lid = max(0.08, min(1.25, 1 + e * squint - (blink < 0.05 * e ? 0.85 : 0)))
        gaze = SIMD2(s.spread(0, 1.1), s.spread(0, 0.5)) * min(1.4, e)
        light = Self.light(&s, strength: options.light)
        surroundings = Self.surroundings(&s, strength: options.appearance)
        let a = min(1.5, options.appearance)
        hairShade = exp2(a * s.spread(0, 0.45))
        hairDrop = a * s.spread(0, 2.6)
        hairWave = SIMD2(s.between(0, 256), s.between(0, 256)) * (a > 0 ? 1 : 0)
        skinShade = exp2(a * s.spread(0, 0.11))
        stubble = a * s.uniform()
        makeup = a * max(0, s.uniform() - 0.5)
        glasses = Self.glasses(&s, strength: options.occlusion)
        headwear = Self.headwear(&s, strength: options.occlusion)
        cover = Self.cover(&s, strength: options.occlusion)
        frame = SIMD4(s.between(10.5, 14), s.between(7.5, 11), s.between(0.5, 1), s.between(0.5, 1.3))
        wear = Self.paint(&s, saturation: 0.9)
        coverShape = Self.coverShape(&s, cover: cover, person: person)
        camera = SyntheticCamera(&s, options: options)
    }

    private static func light(_ s: inout RandomStream, strength: Float) -> Light {
        let soft = min(1.6, strength)
        let azimuth = soft * s.spread(0, 0.75)
        let elevation = 0.45 + soft * s.spread(0, 0.42)
        let direction = SIMD3(sin(azimuth) * cos(elevation), -sin(elevation), cos(azimuth) * cos(elevation))
        let contrast = max(0.12, min(0.9, 0.5 + soft * s.spread(0.04, 0.2)))
        let warm = soft * s.spread(0, 0.16), cool = soft * s.spread(0, 0.16)
        let side: Float = s.uniform() < 0.5 ? -1 : 1
        let angle = s.between(0, 6.2832)
        let shaded = s.uniform()
        return Light(
            direction: direction, key: 1.15 * contrast, ambient: 0.95 * (1 - contrast),
            keyColour: SIMD3(1 + warm, 1, 1 - warm), ambientColour: SIMD3(1 + cool, 1, 1 - cool),
            fill: SIMD3(side * 0.87, -0.1, 0.48), fillStrength: min(0.7, soft * max(0, s.spread(0.08, 0.18))),
            shadowNormal: SIMD2(cos(angle), sin(angle)), shadowOffset: s.spread(0, 22),
            shadowDepth: shaded < 0.22 * strength ? s.between(0.25, 0.75) : 0, shadowSoftness: s.between(2, 16))
    }

    static func paint(_ s: inout RandomStream, saturation: Float) -> SIMD3<Float> {
        let grey = s.uniform() * s.uniform()
        let tint = SIMD3(s.uniform(), s.uniform(), s.uniform()) * s.uniform()
        return SIMD3(repeating: 0.01 + 0.8 * grey) * (1 - saturation * 0.6) + tint * (saturation * 0.6)
    }

    private static func surroundings(_ s: inout RandomStream, strength: Float) -> Surroundings {
        let neutral = SIMD3<Float>(0.30, 0.31, 0.33)
        let blend = min(1, strength)
        var colours: [SIMD3<Float>] = []
        for _ in 0..<4 { colours.append(neutral * (1 - blend) + paint(&s, saturation: 0.8) * blend) }
        let angle = s.between(0, 6.2832)
        let grain = SIMD2(exp2(s.between(-2.6, 1.2)), exp2(s.between(-2.6, 1.2)))
        return Surroundings(
            colours: colours, gradient: SIMD2(cos(angle), sin(angle)) * (s.between(0.2, 1) / 112),
            origin: SIMD2(s.between(0, 256), s.between(0, 256)), grain: grain, texture: blend * s.uniform(),
            mix: s.between(0.3, 3), clothes: neutral * (1 - blend) + paint(&s, saturation: 1) * blend)
    }

    private static func glasses(_ s: inout RandomStream, strength: Float) -> Glasses {
        let u = s.uniform()
        return u < 0.05 * strength ? .dark : u < 0.2 * strength ? .clear : .none
    }

    private static func headwear(_ s: inout RandomStream, strength: Float) -> Headwear {
        let u = s.uniform()
        return u < 0.06 * strength ? .cap : u < 0.1 * strength ? .beanie : u < 0.125 * strength ? .scarf : .none
    }

    private static func cover(_ s: inout RandomStream, strength: Float) -> Cover {
        let u = s.uniform()
        if u < 0.02 * strength { return .mask }
        if u < 0.05 * strength { return .hand }
        if u < 0.065 * strength { return .bar }
        return u < 0.085 * strength ? .object : .none
    }

    private static func coverShape(_ s: inout RandomStream, cover: Cover, person: SyntheticIdentity) -> Shape {
        let paint = paint(&s, saturation: 0.8)
        let angle = s.between(-0.9, 0.9)
        let side: Float = s.uniform() < 0.5 ? -1 : 1
        let place = SIMD2(side * s.between(14, 44), s.between(12, 52))
        let half = SIMD2(s.between(7, 18), s.between(9, 24))
        switch cover {
        case .hand:
            return Shape(
                centre: place * SIMD2(0.8, 1), half: half, angle: side * (0.6 + abs(angle)),
                colour: person.skin.colour)
        case .bar:
            return Shape(
                centre: SIMD2(place.x * 0.5, place.y), half: SIMD2(200, 2 + half.x * 0.25), angle: angle * 2,
                colour: paint)
        case .none, .mask, .object:
            return Shape(centre: place, half: half, angle: angle, colour: paint)
        }
    }
}
