#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif
package import Tensors

/// One way of making a face worse, without any randomness of its own.
package enum Degradation: Sendable, Equatable {
    case none
    /// Reduced to side x side by area averaging and enlarged again, bicubic: both as in Pillow.
    case reduce(side: Int)
    /// Gaussian blur with a standard deviation in pixels: the kernel ends at 4 sigma, border pixels continue outwards.
    case blur(sigma: Double)
    /// Compressed as JPEG (4:2:0) and decoded again.
    case jpeg(quality: Int)
    /// v becomes 255·(v/255)^exponent.
    case gamma(Double)
    /// Gaussian noise with a standard deviation in units of 1/255, independent for every sample.
    case noise(sigma: Double, seed: UInt64)

    /// The image of the same size, degraded.
    package func apply(to image: RGBImage) -> RGBImage {
        switch self {
        case .none: return image
        case .reduce(let side):
            return image.resized(width: side, height: side, .box).resized(
                width: image.width, height: image.height, .bicubic)
        case .blur(let sigma): return image.blurred(sigma: sigma)
        case .jpeg(let quality):
            do throws(ImageError) {
                return try ImageCodec.decode(
                    ImageCodec.encodeJPEG(image, quality: quality),
                    limits: ImageLimits(encodedBytes: .max, pixels: .max))
            } catch {
                preconditionFailure("JPEG of quality \(quality) of \(image.width) x \(image.height): \(error)")
            }
        case .gamma(let exponent):
            let table = (0..<256).map { UInt8((255 * pow(Double($0) / 255, exponent)).rounded()) }
            return RGBImage(width: image.width, height: image.height, pixels: image.pixels.map { table[Int($0)] })
        case .noise(let sigma, let seed):
            var random = RandomStream(seed: seed, purpose: .degradation, index: 0)
            let pixels = image.pixels.map { value in
                UInt8(max(0, min(255, (Double(value) + sigma * random.normal()).rounded())))
            }
            return RGBImage(width: image.width, height: image.height, pixels: pixels)
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

extension RGBImage {
    /// Gaussian blur in single precision, rounded once at the end.
    fileprivate func blurred(sigma: Double) -> RGBImage {
        precondition(sigma >= 0, "a standard deviation of \(sigma)")
        let radius = Int((4 * sigma).rounded(.up))
        if radius == 0 { return self }
        var kernel = (-radius...radius).map { exp(-Double($0 * $0) / (2 * sigma * sigma)) }
        let sum = kernel.reduce(0, +)
        kernel = kernel.map { $0 / sum }
        let weights = kernel.map { Float($0) }
        let rows = Self.blur(pixels.map { Float($0) }, weights, length: width, step: 3, lines: height, lineStep: 3 * width)
        let both = Self.blur(rows, weights, length: height, step: 3 * width, lines: width, lineStep: 3)
        return RGBImage(
            width: width, height: height, pixels: both.map { UInt8(max(0, min(255, $0.rounded()))) })
    }

    /// Along one axis of `length` samples, `step` values apart, for each of `lines` lines of 3 channels.
    private static func blur(
        _ values: [Float], _ weights: [Float], length: Int, step: Int, lines: Int, lineStep: Int
    ) -> [Float] {
        let radius = weights.count / 2
        var result = [Float](repeating: 0, count: values.count)
        for line in 0..<lines {
            for position in 0..<length {
                for channel in 0..<3 {
                    let base = line * lineStep + channel
                    var sum: Float = 0
                    for (offset, weight) in weights.enumerated() {
                        let source = max(0, min(length - 1, position + offset - radius))
                        sum += weight * values[base + source * step]
                    }
                    result[base + position * step] = sum
                }
            }
        }
        return result
    }
}
