package import Tensors

/// One way of making a face worse, without any randomness of its own: the same image gives the same result everywhere.
/// The image keeps its size.
package enum Degradation: Sendable, Equatable {
    case none
    /// Reduced to side x side by area averaging and enlarged again, bicubic: both as in Pillow. Evaluation's `set@P`.
    case reduce(side: Int)
    /// Reduced and enlarged again with any kernels.
    case resample(Resampling)
    /// Gaussian blur with a standard deviation in pixels: the kernel ends at 4 sigma, border pixels continue outwards.
    case blur(sigma: Double)
    /// The mean along a line: its length in pixels, its angle in degrees.
    case motion(length: Double, angle: Double)
    /// The mean over a disk: its radius in pixels.
    case defocus(radius: Double)
    /// Compressed as JPEG (4:2:0) and decoded again.
    case jpeg(quality: Int)
    /// v becomes 255·(v/255)^exponent.
    case gamma(Double)
    /// Gaussian noise with a standard deviation in units of 1/255, independent for every sample.
    case noise(sigma: Double, seed: UInt64)
    /// Noise of variance v·255/photons.
    case shotNoise(photons: Double, seed: UInt64)
    case brightness(Double)
    case contrast(Double)
    case saturation(Double)
    case grey
    /// Only the region is left: at its place on black, or resized to the whole with a kernel.
    case crop(ImageRegion, resized: ResizeKernel?)
    /// The region is covered.
    case occlude(ImageRegion, Fill)
    /// By an angle in degrees around the centre; black comes in.
    case rotate(degrees: Double)

    package struct Resampling: Sendable, Equatable {
        package var width: Int
        package var height: Int
        package var down: ResizeKernel
        package var up: ResizeKernel
        /// JPEG compression of the small image; nil for none.
        package var quality: Int?

        package init(width: Int, height: Int, down: ResizeKernel, up: ResizeKernel, quality: Int? = nil) {
            self.width = width
            self.height = height
            self.down = down
            self.up = up
            self.quality = quality
        }
    }

    /// What covers a region.
    package enum Fill: Sendable, Equatable {
        case black, grey, white
        /// The image's mean colour.
        case mean
        /// Uniform random bytes.
        case noise(seed: UInt64)
    }

    /// The image of the same size, degraded.
    package func apply(to image: RGBImage, scratch: ImageScratch = ImageScratch()) -> RGBImage {
        switch self {
        case .none: return image
        case .reduce(let side):
            return image.resized(width: side, height: side, .box, scratch: scratch).resized(
                width: image.width, height: image.height, .bicubic, scratch: scratch)
        case .resample(let plan):
            var small = image.resized(width: plan.width, height: plan.height, plan.down, scratch: scratch)
            if let quality = plan.quality { small = Self.compressed(small, quality: quality) }
            return small.resized(width: image.width, height: image.height, plan.up, scratch: scratch)
        case .blur(let sigma): return image.blurred(sigma: sigma, scratch: scratch)
        case .motion(let length, let angle):
            return image.motionBlurred(length: length, angle: angle, scratch: scratch)
        case .defocus(let radius): return image.defocused(radius: radius, scratch: scratch)
        case .jpeg(let quality): return Self.compressed(image, quality: quality)
        case .gamma(let exponent): return image.gammaAdjusted(exponent)
        case .noise(let sigma, let seed): return image.noisy(sigma: sigma, seed: seed, scratch: scratch)
        case .shotNoise(let photons, let seed):
            return image.shotNoisy(photons: photons, seed: seed, scratch: scratch)
        case .brightness(let factor): return image.brightnessAdjusted(factor)
        case .contrast(let factor): return image.contrastAdjusted(factor)
        case .saturation(let factor): return image.saturationAdjusted(factor)
        case .grey: return image.greyed()
        case .crop(let region, nil): return image.masked(to: region)
        case .crop(let region, .some(let kernel)):
            return image.cropped(x: region.x, y: region.y, width: region.width, height: region.height).resized(
                width: image.width, height: image.height, kernel, scratch: scratch)
        case .occlude(let region, let fill): return Self.covered(image, region, fill)
        case .rotate(let degrees): return image.rotated(degrees: degrees)
        }
    }

    private static func compressed(_ image: RGBImage, quality: Int) -> RGBImage {
        do throws(ImageError) {
            return try ImageCodec.decode(
                ImageCodec.encodeJPEG(image, quality: quality),
                limits: ImageLimits(encodedBytes: .max, pixels: .max))
        } catch {
            preconditionFailure("JPEG of quality \(quality) of \(image.width) x \(image.height): \(error)")
        }
    }

    private static func covered(_ image: RGBImage, _ region: ImageRegion, _ fill: Fill) -> RGBImage {
        switch fill {
        case .black: image.filled(region, with: (0, 0, 0))
        case .grey: image.filled(region, with: (128, 128, 128))
        case .white: image.filled(region, with: (255, 255, 255))
        case .mean: image.filled(region, with: image.meanColour)
        case .noise(let seed): image.filledWithNoise(region, seed: seed)
        }
    }

    /// - Parameters:
    ///   - kind: none, reduce, blur, jpeg, gamma or noise.
    ///   - value: the side, standard deviation, quality or exponent; not used by `none`.
    /// - Returns: nil when the kind is unknown or the value outside what makes sense.
    package init?(kind: String, value: Double, seed: UInt64) {
        guard value.isFinite else { return nil }
        let whole = Int(exactly: value) ?? -1
        switch kind {
        case "none": self = .none
        case "reduce" where (1...4096).contains(whole): self = .reduce(side: whole)
        case "blur" where value >= 0 && value <= 100: self = .blur(sigma: value)
        case "jpeg" where (1...100).contains(whole): self = .jpeg(quality: whole)
        case "gamma" where value > 0 && value <= 100: self = .gamma(value)
        case "noise" where value >= 0 && value <= 255: self = .noise(sigma: value, seed: seed)
        default: return nil
        }
    }
}

extension Degradation: CustomStringConvertible {
    /// The operator and its parameters, as `key=value`: what `degradation.tsv` says of an image.
    package var description: String {
        switch self {
        case .none: "none"
        case .reduce(let side): "reduce side=\(side) down=box up=bicubic"
        case .resample(let plan):
            "reduce side=\(plan.width == plan.height ? "\(plan.width)" : "\(plan.width)x\(plan.height)") "
                + "down=\(plan.down.rawValue) up=\(plan.up.rawValue)" + (plan.quality.map { " jpeg=\($0)" } ?? "")
        case .blur(let sigma): "blur sigma=\(Self.short(sigma))"
        case .motion(let length, let angle): "motion length=\(Self.short(length)) angle=\(Self.short(angle))"
        case .defocus(let radius): "defocus radius=\(Self.short(radius))"
        case .jpeg(let quality): "jpeg quality=\(quality)"
        case .gamma(let exponent): "gamma exponent=\(Self.short(exponent))"
        case .noise(let sigma, let seed): "noise sigma=\(Self.short(sigma)) seed=\(seed)"
        case .shotNoise(let photons, let seed): "shot_noise photons=\(Self.short(photons)) seed=\(seed)"
        case .brightness(let factor): "brightness factor=\(Self.short(factor))"
        case .contrast(let factor): "contrast factor=\(Self.short(factor))"
        case .saturation(let factor): "saturation factor=\(Self.short(factor))"
        case .grey: "grey"
        case .crop(let region, let kernel): "crop \(Self.text(region)) to=\(kernel == nil ? "black" : "whole")"
        case .occlude(let region, let fill): "occlude \(Self.text(region)) fill=\(Self.text(fill))"
        case .rotate(let degrees): "rotate angle=\(Self.short(degrees))"
        }
    }

    private static func text(_ region: ImageRegion) -> String {
        "x=\(region.x) y=\(region.y) width=\(region.width) height=\(region.height)"
    }

    private static func text(_ fill: Fill) -> String {
        if case .noise(let seed) = fill { "noise seed=\(seed)" } else { "\(fill)" }
    }

    /// Four digits after the point at most.
    private static func short(_ value: Double) -> String { "\((value * 10_000).rounded() / 10_000)" }
}
