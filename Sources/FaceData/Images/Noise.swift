package import Tensors

extension RGBImage {
    /// With Gaussian noise, independent for every sample.
    ///
    /// The i-th sample, row by row and channel by channel, gets the i-th `normal()` of the stream (seed, degradation,
    /// 0), times sigma, in double precision, rounded once.
    /// - Parameter sigma: standard deviation in units of 1/255.
    package func noisy(sigma: Double, seed: UInt64, scratch: ImageScratch = ImageScratch()) -> RGBImage {
        precondition(sigma >= 0 && sigma <= 255, "a standard deviation of \(sigma)")
        let noise = Self.normals(3 * width * height, times: sigma, seed: seed, scratch)
        var isDoubtful = false
        let result = RGBImage(width: width, height: height, from: self) { input, output in
            for index in 0..<3 * width * height {
                // Positive, so that cutting the fraction off rounds down.
                let shifted = Double(input[index]) + Double(noise[index]) + 4096.5
                let whole = Int(shifted)
                let rest = shifted - Double(whole)
                // The float is off by up to half a unit of its last place.
                if min(rest, 1 - rest) <= Double(noise[index].magnitude) * 0x1p-23 + 1e-11 { isDoubtful = true }
                output[index] = UInt8(truncatingIfNeeded: max(0, min(255, whole - 4096)))
            }
        }
        return isDoubtful ? noisyInDouble(sigma: sigma, seed: seed) : result
    }

    /// The same, draw by draw.
    private func noisyInDouble(sigma: Double, seed: UInt64) -> RGBImage {
        var random = RandomStream(seed: seed, purpose: .degradation, index: 0)
        return RGBImage(width: width, height: height, from: self) { input, output in
            for index in 0..<3 * width * height {
                output[index] = UInt8(max(0, min(255, (Double(input[index]) + sigma * random.normal()).rounded())))
            }
        }
    }

    /// With the noise of counted light: variance v·255/photons, Gaussian, as a Poisson distribution nearly is.
    /// - Parameter photons: how many make white.
    package func shotNoisy(photons: Double, seed: UInt64, scratch: ImageScratch = ImageScratch()) -> RGBImage {
        precondition(photons > 0, "\(photons) photons")
        let noise = Self.normals(3 * width * height, times: 1, seed: seed, scratch)
        let deviations = (0...255).map { Float((Double($0) * 255 / photons).squareRoot()) }
        return deviations.withUnsafeBufferPointer { deviations in
            RGBImage(width: width, height: height, from: self) { input, output in
                for index in 0..<3 * width * height {
                    let value = input[index]
                    output[index] = Rounding.byte(Float(value) + deviations[Int(value)] * noise[index])
                }
            }
        }
    }

    /// Uniform random bytes in a region.
    func filledWithNoise(_ region: ImageRegion, seed: UInt64) -> RGBImage {
        var result = self
        var random = RandomStream(seed: seed, purpose: .degradation, index: 1)
        result.pixels.withUnsafeMutableBufferPointer { pixels in
            for y in region.y..<region.y + region.height {
                let first = 3 * (y * width + region.x)
                for index in first..<first + 3 * region.width {
                    pixels[index] = UInt8(truncatingIfNeeded: random.nextWord() &>> 24)
                }
            }
        }
        return result
    }

    private static func normals(
        _ count: Int, times deviation: Double, seed: UInt64, _ scratch: ImageScratch
    ) -> UnsafeMutablePointer<Float> {
        let values = scratch.floats(count)
        let random = RandomStream(seed: seed, purpose: .degradation, index: 0)
        random.normals(times: deviation, into: UnsafeMutableBufferPointer(start: values, count: count))
        return values
    }
}
