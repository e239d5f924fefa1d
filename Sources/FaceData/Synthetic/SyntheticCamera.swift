internal import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// The camera of one image: tone curve and degradations.
struct SyntheticCamera {
    /// Stops.
    var exposure: Float
    /// Steepness of the tone curve about mid-grey, and the exponent of the display.
    var contrast: Float, gamma: Float
    /// Gain of each channel, and how much colour is left (0 grey, 1 full).
    var cast: SIMD3<Float>, saturation: Float
    var blurSigma: Float, motionLength: Float, motionAngle: Float, resolution: Float, noiseSigma: Float
    var quantisation: Float
    /// Key of the noise field.
    var noiseKey: UInt32

    init(_ s: inout RandomStream, options: SyntheticFaces.Options) {
        let light = options.light
        exposure = max(-2.6, min(1.3, light * s.spread(-0.1, 0.55)))
        contrast = exp2(max(-1, min(1, light * s.spread(0, 0.28))))
        gamma = exp2(max(-1, min(1, light * s.spread(0, 0.22))))
        let warm = max(-0.5, min(0.5, light * s.spread(0, 0.13)))
        let green = max(-0.3, min(0.3, light * s.spread(0, 0.05)))
        cast = SIMD3(1 + warm, 1 + green, 1 - warm)
        let grey = s.uniform(), vivid = s.spread(0, 0.2)
        saturation = grey < 0.07 * light ? 0 : max(0.2, 1 + min(1.5, light) * vivid)

        // One level for the image, shared out over the kinds of degradation: most images are good, some are bad in
        // several ways at once, as pictures from one camera are.
        let strength = options.degradation
        let u = s.uniform()
        let level = strength * u * u
        func share(_ s: inout RandomStream) -> Float {
            let v = s.uniform(), w = s.uniform()
            return v < 0.55 ? w : 0
        }
        blurSigma = 2.2 * level * share(&s)
        let moved = s.uniform(), length = s.uniform()
        motionLength = moved < 0.2 ? 11 * level * length : 0
        motionAngle = s.between(0, 3.14159)
        resolution = max(14, 112 / (1 + 4 * level * share(&s)))
        noiseSigma = min(0.5, 0.004 * strength + 0.09 * level * share(&s))
        quantisation = min(1, 0.8 * level * share(&s))
        noiseKey = s.nextWord()
    }

    /// See `SyntheticFaceAttributes.degradation`.
    func degradation(occlusion: Float) -> Float {
        let blur = blurSigma * blurSigma + motionLength * motionLength / 12
        let off = max(0, abs(exposure) - 0.5)
        let parts = [
            blur / (blur + 4), 1 - resolution / 112, noiseSigma / (noiseSigma + 0.12), 0.6 * quantisation,
            off / (off + 3), occlusion,
        ]
        return 1 - parts.reduce(1) { $0 * (1 - $1) }
    }
}
