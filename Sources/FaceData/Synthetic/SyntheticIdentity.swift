internal import Tensors

extension RandomStream {
    /// A normal draw cut at two standard deviations: no part of a face becomes grotesque.
    mutating func spread(_ mean: Float, _ deviation: Float) -> Float {
        mean + deviation * Float(max(-2, min(2, normal())))
    }

    mutating func between(_ low: Float, _ high: Float) -> Float { low + (high - low) * uniform() }
}

/// How hair is worn: what `SyntheticCanvas` draws around and over the head.
enum HairStyle: Int {
    case bald, cropped, short, parted, fringe, curly, long, longFringe
}

/// What stays the same over all images of one person. Lengths are in pixels of the aligned frame (35 between the eyes),
/// x to the right, y down from the line of the eyes, z towards the viewer; colours are linear RGB.
struct SyntheticIdentity {
    struct Head {
        var width: Float, crown: Float, chin: Float, depth: Float
        /// Relative widening of the jaw's angle, of the chin, and of the forehead.
        var jaw: Float, chinWidth: Float, forehead: Float
        var cheekbone: Float, cheek: Float, chinRelief: Float, cleft: Float, brow: Float, socket: Float
        var temple: Float
        var earSize: Float, earOut: Float, earY: Float
        var skew: Float, tilt: Float
    }
    struct Eye {
        var distance: Float, halfWidth: Float, upper: Float, lower: Float, tilt: Float, skew: Float
        var crease: Float, creaseDepth: Float, iris: Float, lash: Float, bag: Float, sizeAsymmetry: Float
        var colour: SIMD3<Float>
    }
    struct Brow {
        var y: Float, inner: Float, length: Float, thickness: Float, arch: Float, slope: Float
        var taper: Float, density: Float, asymmetry: Float
        var colour: SIMD3<Float>
    }
    struct Nose {
        var tip: Float, height: Float, bridge: Float, bridgeWidth: Float, width: Float, ball: Float
        var hump: Float, nostril: Float, skew: Float
    }
    struct Mouth {
        var y: Float, half: Float, upper: Float, lower: Float, bow: Float, corner: Float, philtrum: Float
        var skew: Float, fold: Float
        var colour: SIMD3<Float>
    }
    struct Skin {
        var tone: Float
        var colour: SIMD3<Float>
        var blush: Float, freckles: Float, blotch: Float, wrinkle: Float, oil: Float
        var beard: Float, moustache: Float
        /// Position (x, y), radius and darkness.
        var moles: [SIMD4<Float>]
        /// Where this skin's texture starts in the noise table.
        var origin: SIMD2<Float>
    }
    struct Hair {
        var style: HairStyle
        var colour: SIMD3<Float>
        var line: Float, widow: Float, volume: Float, part: Float, sideburn: Float, wave: Float
    }

    var head: Head, eye: Eye, brow: Brow, nose: Nose, mouth: Mouth, skin: Skin, hair: Hair

    /// Draws a person. The order of the draws is part of every identity.
    init(_ stream: inout RandomStream) {
        // Latent traits make parts go together as they do in people: heavy brows with broad jaws.
        let heavy = stream.spread(0, 1)
        let age = stream.uniform()
        let tone = stream.uniform()
        let lid = stream.uniform()
        head = Self.head(&stream, heavy: heavy)
        eye = Self.eye(&stream, heavy: heavy, lid: lid, age: age, tone: tone)
        nose = Self.nose(&stream, heavy: heavy)
        mouth = Self.mouth(&stream, heavy: heavy, age: age, tone: tone)
        skin = Self.skin(&stream, heavy: heavy, tone: tone, age: age)
        hair = Self.hair(&stream, heavy: heavy, tone: tone, age: age)
        brow = Self.brow(&stream, heavy: heavy, hair: hair.colour)
        mouth.colour = skin.colour * mouth.colour
    }

    private static func head(_ s: inout RandomStream, heavy: Float) -> Head {
        Head(
            width: s.spread(41.5, 2.2) + 0.5 * heavy, crown: s.spread(66, 3), chin: s.spread(64, 3.2) + 1.2 * heavy,
            depth: s.spread(45, 3), jaw: s.spread(0.02, 0.075) + 0.035 * heavy, chinWidth: s.spread(0.06, 0.16),
            forehead: s.spread(0, 0.07), cheekbone: s.spread(2.2, 1.5), cheek: s.spread(0.6, 1.6),
            chinRelief: s.spread(3.6, 1.4) + 0.5 * heavy, cleft: max(0, s.spread(-0.2, 0.8)),
            brow: max(0, s.spread(1.6, 0.9) + 0.8 * heavy), socket: s.spread(4.0, 1.1), temple: s.spread(1, 0.9),
            earSize: s.spread(11, 1.5), earOut: s.spread(3.4, 1.5), earY: s.spread(10, 2.4),
            skew: s.spread(0, 0.014), tilt: s.spread(0, 0.014))
    }

    private static func eye(
        _ s: inout RandomStream, heavy: Float, lid: Float, age: Float, tone: Float
    ) -> Eye {
        let narrow = lid < 0.3 ? 1 as Float : 0
        var eye = Eye(
            distance: s.spread(17.4, 1.15), halfWidth: s.spread(9.2, 0.8), upper: s.spread(4.4, 0.65) - 0.8 * narrow,
            lower: s.spread(2.4, 0.45), tilt: s.spread(0.03, 0.07) + 0.05 * narrow, skew: s.spread(0.1, 0.28),
            crease: s.spread(2.6, 0.8) - 0.8 * narrow, creaseDepth: max(0, s.spread(0.5, 0.22) - 0.35 * narrow),
            iris: s.spread(4.6, 0.35), lash: s.spread(0.75, 0.28) - 0.2 * heavy,
            bag: max(0, s.spread(0.1, 0.13) + 0.25 * age), sizeAsymmetry: s.spread(0, 0.035), colour: .zero)
        let kinds: [SIMD3<Float>] = [
            SIMD3(0.050, 0.022, 0.010), SIMD3(0.11, 0.05, 0.02), SIMD3(0.16, 0.11, 0.035), SIMD3(0.12, 0.17, 0.08),
            SIMD3(0.10, 0.19, 0.32), SIMD3(0.24, 0.30, 0.36),
        ]
        let pick = min(5, Int(s.uniform() * (tone < 0.6 ? 6 : 2.2)))
        eye.colour = kinds[pick] * s.between(0.75, 1.3)
        return eye
    }

    private static func nose(_ s: inout RandomStream, heavy: Float) -> Nose {
        Nose(
            tip: s.spread(20.4, 1.9), height: s.spread(10.5, 1.6) + 0.4 * heavy, bridge: s.spread(4.2, 1.4),
            bridgeWidth: s.spread(6.2, 1.0), width: s.spread(8.6, 1.25) + 0.3 * heavy, ball: s.spread(2.4, 1.0),
            hump: s.spread(0.3, 1.1), nostril: s.spread(1, 0.3), skew: s.spread(0, 0.7))
    }

    private static func mouth(_ s: inout RandomStream, heavy: Float, age: Float, tone: Float) -> Mouth {
        let red = s.between(0.85, 1.15) - 0.05 * heavy
        return Mouth(
            y: s.spread(40.6, 1.7), half: s.spread(14.6, 1.5), upper: s.spread(3.4, 0.95) - 0.4 * heavy,
            lower: s.spread(4.7, 1.1) - 0.3 * heavy, bow: s.spread(0.4, 0.22), corner: s.spread(1.1, 0.9),
            philtrum: s.spread(0.8, 0.4), skew: s.spread(0, 0.5), fold: max(0, s.spread(0.0, 0.1) + 0.3 * age),
            colour: SIMD3(red, 0.56 + 0.14 * tone, 0.58 + 0.14 * tone))
    }

    private static func skin(_ s: inout RandomStream, heavy: Float, tone: Float, age: Float) -> Skin {
        let anchors: [SIMD3<Float>] = [
            SIMD3(0.70, 0.46, 0.36), SIMD3(0.62, 0.385, 0.27), SIMD3(0.49, 0.275, 0.175), SIMD3(0.33, 0.165, 0.095),
        ]
        let place = tone * 2.999
        let low = Int(place)
        let colour = anchors[low] + (anchors[low + 1] - anchors[low]) * (place - Float(low))
        let beard = s.uniform(), moustache = s.uniform(), growth = s.between(0.25, 0.85)
        var moles: [SIMD4<Float>] = []
        for _ in 0..<s.below(4) {
            moles.append(SIMD4(s.between(-32, 32), s.between(-34, 56), s.between(0.8, 1.7), s.between(0.35, 0.85)))
        }
        return Skin(
            tone: tone, colour: colour * s.between(0.92, 1.08), blush: max(0, s.spread(0.35, 0.25)),
            freckles: tone < 0.5 && s.uniform() < 0.28 ? s.between(0.3, 1) : 0, blotch: s.between(0.3, 1),
            wrinkle: max(0, age * 1.6 - 0.9), oil: s.between(0.25, 1),
            beard: heavy > 0.1 && beard < 0.55 ? growth : 0, moustache: heavy > 0.1 && moustache < 0.5 ? growth : 0,
            moles: moles, origin: SIMD2(s.between(0, 256), s.between(0, 256)))
    }

    private static func hair(_ s: inout RandomStream, heavy: Float, tone: Float, age: Float) -> Hair {
        let kinds: [SIMD3<Float>] = [
            SIMD3(0.012, 0.009, 0.008), SIMD3(0.035, 0.018, 0.010), SIMD3(0.085, 0.042, 0.020),
            SIMD3(0.22, 0.125, 0.050), SIMD3(0.42, 0.29, 0.13), SIMD3(0.24, 0.075, 0.022),
        ]
        let pick = min(5, Int(s.uniform() * (tone < 0.45 ? 6 : 2.6)))
        let grey = s.uniform() < max(0, age - 0.55) * 1.6 ? s.between(0.4, 0.95) : 0
        let silver = SIMD3<Float>(0.38, 0.38, 0.39)
        let styles: [HairStyle] =
            heavy > 0
            ? [.bald, .cropped, .cropped, .short, .short, .short, .parted, .parted, .fringe, .curly]
            : [.short, .parted, .fringe, .curly, .long, .long, .long, .longFringe, .longFringe, .parted]
        let style = styles[min(9, Int(s.uniform() * 10))]
        return Hair(
            style: style, colour: kinds[pick] * (1 - grey) + silver * grey,
            line: s.spread(41, 3.6) + (heavy > 0 ? 3 * age : 0), widow: s.spread(0, 2.2), volume: s.between(0.05, 0.14),
            part: s.between(-0.8, 0.8), sideburn: s.spread(4, 6), wave: s.between(0, 1))
    }

    private static func brow(_ s: inout RandomStream, heavy: Float, hair: SIMD3<Float>) -> Brow {
        Brow(
            y: s.spread(-12.2, 1.3) + 0.5 * heavy, inner: s.spread(6.6, 1.5) - 0.7 * heavy, length: s.spread(20.5, 1.8),
            thickness: max(0.8, s.spread(2.0, 0.5) + 0.35 * heavy), arch: s.spread(2.2, 1.1) - 0.5 * heavy,
            slope: s.spread(0.4, 1.3), taper: s.between(0.25, 0.75), density: s.between(0.55, 0.97),
            asymmetry: s.spread(0, 0.5), colour: hair * 0.75 + SIMD3(0.008, 0.006, 0.005))
    }
}
