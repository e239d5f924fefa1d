/// What is known about a synthetic image because it was drawn so.
package struct SyntheticFaceAttributes: Sendable, Equatable {
    /// Eye centres, nose tip, mouth corners, left to right in the image, in pixels (a pixel's centre is an integer).
    package var landmarks: [SIMD2<Float>]
    /// Rotation to the image's right, degrees.
    package var yaw: Float
    /// Rotation downwards, degrees.
    package var pitch: Float
    /// Rotation in the image plane that the alignment left, degrees, clockwise.
    package var roll: Float
    /// Unit vector from the face to the main light: right, down, towards the camera.
    package var lightDirection: SIMD3<Float>
    /// Share of the main light in all light on the face, 0...1: high is harsh.
    package var lightContrast: Float
    /// The camera's exposure, stops from the nominal one.
    package var exposure: Float
    /// 0 closed mouth, 1 wide open.
    package var mouthOpen: Float
    /// -1 sad ... 1 wide smile.
    package var smile: Float
    /// Standard deviation of the Gaussian blur, pixels.
    package var blurSigma: Float
    /// Length of the motion blur, pixels.
    package var motionLength: Float
    /// Side of the image that the resolution was reduced to before scaling back, pixels; 112 is full resolution.
    package var resolution: Float
    /// Standard deviation of the sensor noise, as a fraction of full scale.
    package var noiseSigma: Float
    /// Strength of the 8 x 8 block quantisation: 0 none, 1 about quality 5 of baseline JPEG.
    package var quantisation: Float
    /// Fraction of the face's area that something hides, 0...1.
    package var occlusion: Float
    package var glasses: Bool
    /// All image degradations combined, 0 (none) ..< 1: `1 - product of (1 - each)`. Grows with each of blur, lost
    /// resolution, noise, quantisation, under- or over-exposure and occlusion; pose and expression do not count.
    package var degradation: Float

    init(_ scene: SyntheticScene, occlusion: Float) {
        let moment = scene.moment
        landmarks = scene.landmarks
        yaw = moment.yaw
        pitch = moment.pitch
        roll = moment.roll
        lightDirection = moment.light.direction
        lightContrast = moment.light.key / (moment.light.key + moment.light.ambient)
        exposure = moment.camera.exposure
        mouthOpen = moment.open
        smile = moment.smile
        blurSigma = moment.camera.blurSigma
        motionLength = moment.camera.motionLength
        resolution = moment.camera.resolution
        noiseSigma = moment.camera.noiseSigma
        quantisation = moment.camera.quantisation
        self.occlusion = occlusion
        glasses = moment.glasses != .none
        degradation = 0
    }
}
