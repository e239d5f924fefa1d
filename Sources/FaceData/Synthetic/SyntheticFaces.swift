internal import Synchronization
package import Tensors

/// Aligned faces drawn from nothing but a seed: a 2.5-D head with shaded features under pose, light, expression,
/// occlusion and camera degradations whose levels are known.
///
/// An image is a pure function of (seed, options, identity, index), so any rank can draw any image of any identity, in
/// any order. Identity lives in shape, proportion, colour and texture of the parts of a face; everything else varies
/// from image to image as strongly as `Options` says.
package struct SyntheticFaces: Sendable {
    /// Strengths of what varies within one identity. At 1 (the default) raw pixels hardly tell identities apart; at 0
    /// the kind of variation is absent. Every strength scales amplitudes and probabilities, and never moves another
    /// draw, so the same image at a larger strength is the same picture, varied more.
    package struct Options: Sendable, Equatable {
        /// Yaw, pitch and residual roll of the head.
        package var pose: Float = 1
        /// Direction, balance, colour and exposure of the light, and the camera's tone curve.
        package var light: Float = 1
        /// Smile, open mouth, brows, eyelids, gaze.
        package var expression: Float = 1
        /// Glasses, sunglasses, hats, masks, hands and other things before the face.
        package var occlusion: Float = 1
        /// Blur, lost resolution, noise and block quantisation.
        package var degradation: Float = 1
        /// Background, clothes, hair shade and length, skin tone of the day, stubble.
        package var appearance: Float = 1
        /// Error of the alignment: shift, scale and rotation.
        package var alignment: Float = 1

        package init() {}

        /// All strengths the same.
        package init(variation: Float) {
            for strength in [
                \Options.pose, \.light, \.expression, \.occlusion, \.degradation, \.appearance, \.alignment,
            ] {
                self[keyPath: strength] = variation
            }
        }

        /// No variation: every image of an identity is the same frontal, evenly lit portrait.
        package static let clean = Options(variation: 0)

        fileprivate var strengths: [Float] {
            [pose, light, expression, occlusion, degradation, appearance, alignment]
        }
    }

    /// Width and height of every image, pixels.
    package static let side = 112

    /// The landmark template of 112 x 112 aligned faces: eye centres, nose tip, mouth corners, left to right in the
    /// image, in pixels (InsightFace's `arcface_dst`).
    package static let template: [SIMD2<Float>] = [
        SIMD2(38.2946, 51.6963), SIMD2(73.5318, 51.5014), SIMD2(56.0252, 71.7366), SIMD2(41.5493, 92.3655),
        SIMD2(70.7299, 92.2041),
    ]

    package let seed: UInt64
    package let options: Options
    private let noise: SyntheticNoise
    private let canvases = CanvasPool()

    /// - Parameter seed: the population: another seed has other people.
    /// - Precondition: the strengths lie in 0...4.
    package init(seed: UInt64, options: Options = Options()) {
        precondition(options.strengths.allSatisfy { (0...4).contains($0) }, "strengths of synthetic faces lie in 0...4")
        self.seed = seed
        self.options = options
        noise = SyntheticNoise()
    }

    /// Draws one image.
    ///
    /// - Parameters:
    ///   - identity: 0..<2^32.
    ///   - index: 0..<2^32, the image of that identity.
    package func image(identity: Int, index: Int) -> (RGBImage, SyntheticFaceAttributes) {
        let person = person(identity)
        let moment = moment(identity, index, person)
        let canvas = canvases.take()
        defer { canvases.give(canvas) }
        let scene = SyntheticScene(person: person, moment: moment)
        canvas.render(scene, noise: noise)
        var attributes = SyntheticFaceAttributes(scene, occlusion: canvas.occludedFraction)
        canvas.degrade(moment.camera)
        attributes.degradation = moment.camera.degradation(occlusion: attributes.occlusion)
        return (canvas.image(moment.camera), attributes)
    }

    private func person(_ identity: Int) -> SyntheticIdentity {
        precondition(identity >= 0 && identity < 1 << 32, "identity \(identity) is not in 0..<2^32")
        var stream = RandomStream(seed: seed, purpose: .syntheticIdentity, index: UInt64(identity))
        return SyntheticIdentity(&stream)
    }

    private func moment(_ identity: Int, _ index: Int, _ person: SyntheticIdentity) -> SyntheticMoment {
        precondition(index >= 0 && index < 1 << 32, "image \(index) is not in 0..<2^32")
        var stream = RandomStream(
            seed: seed, purpose: .syntheticImage, index: UInt64(identity) << 32 | UInt64(index))
        return SyntheticMoment(&stream, options: options, person: person)
    }
}

/// Canvases that are not in use: one per thread that draws at the same time, kept so that drawing does not allocate.
private final class CanvasPool: Sendable {
    private let free = Mutex<[SyntheticCanvas]>([])

    func take() -> SyntheticCanvas { free.withLock { $0.popLast() } ?? SyntheticCanvas() }

    func give(_ canvas: SyntheticCanvas) { free.withLock { $0.append(canvas) } }
}
