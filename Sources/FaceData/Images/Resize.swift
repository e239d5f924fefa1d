#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif
package import Tensors

/// Resampling kernels that widen with the reduction (antialiasing), as Pillow and torchvision on Pillow images apply
/// them. Kernels without antialiasing, as OpenCV's, are another family.
package enum AntialiasedFilter: String, Sendable, CaseIterable {
    /// The mean of the covered area when shrinking (support 1/2).
    case box
    /// Triangle, support 1.
    case bilinear
    /// Cubic convolution with a = -1/2, support 2.
    case bicubic
    /// Windowed sinc, support 3.
    case lanczos3

    var support: Double {
        switch self {
        case .box: 0.5
        case .bilinear: 1
        case .bicubic: 2
        case .lanczos3: 3
        }
    }

    func callAsFunction(_ x: Double) -> Double {
        let t = abs(x)
        switch self {
        case .box: return x > -0.5 && x <= 0.5 ? 1 : 0
        case .bilinear: return max(0, 1 - t)
        case .bicubic:
            let a = -0.5
            if t < 1 { return ((a + 2) * t - (a + 3)) * t * t + 1 }
            return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0
        case .lanczos3:
            return t < 3 ? Self.sinc(x) * Self.sinc(x / 3) : 0
        }
    }

    private static func sinc(_ x: Double) -> Double {
        x == 0 ? 1 : sin(Double.pi * x) / (Double.pi * x)
    }
}

/// The weights with which the samples of one axis enter each output sample, in 22-bit fixed point.
private struct AxisWeights {
    static let precision = 22
    /// Per output sample: its first input sample and where its weights lie.
    var starts: [Int] = []
    var ranges: [Range<Int>] = []
    var weights: [Int32] = []

    init(from input: Int, to output: Int, _ filter: AntialiasedFilter) {
        let scale = Double(input) / Double(output)
        let widening = max(1, scale)
        let support = filter.support * widening
        for position in 0..<output {
            let centre = (Double(position) + 0.5) * scale
            let low = max(0, Int(centre - support + 0.5))
            let high = min(input, Int(centre + support + 0.5))
            var values = (low..<high).map { filter((Double($0) - centre + 0.5) / widening) }
            let sum = values.reduce(0, +)
            if sum != 0 { values = values.map { $0 / sum } }
            starts.append(low)
            ranges.append(weights.count..<weights.count + values.count)
            weights += values.map { Int32(($0 * Double(1 << Self.precision)).rounded(.toNearestOrAwayFromZero)) }
        }
    }
}

extension RGBImage {
    /// Resized with antialiasing, in two passes, rows first, rounded to 8 bits after each: bit for bit what Pillow gives.
    package func resized(width: Int, height: Int, _ filter: AntialiasedFilter) -> RGBImage {
        precondition(width > 0 && height > 0, "a size of \(width) x \(height)")
        var result = self
        if width != result.width {
            let weights = AxisWeights(from: result.width, to: width, filter)
            result = result.filtered(
                weights, width: width, height: result.height, along: 3, lines: result.height,
                inputLine: 3 * result.width, outputLine: 3 * width)
        }
        if height != result.height {
            let weights = AxisWeights(from: result.height, to: height, filter)
            result = result.filtered(
                weights, width: width, height: height, along: 3 * width, lines: width, inputLine: 3, outputLine: 3)
        }
        return result
    }

    /// Applies weights along one axis. `along` is the step from sample to sample in bytes, `inputLine` and `outputLine`
    /// the steps from line to line across the axis.
    private func filtered(
        _ axis: AxisWeights, width: Int, height: Int, along: Int, lines: Int, inputLine: Int, outputLine: Int
    ) -> RGBImage {
        let half = Int64(1) << (AxisWeights.precision - 1)
        let bytes = [UInt8](unsafeUninitializedCapacity: 3 * width * height) { output, count in
            pixels.withUnsafeBufferPointer { input in
                axis.weights.withUnsafeBufferPointer { weights in
                    for position in axis.starts.indices {
                        let range = axis.ranges[position]
                        for line in 0..<lines {
                            var source = line * inputLine + axis.starts[position] * along
                            var sums = (half, half, half)
                            for index in range {
                                let weight = Int64(weights[index])
                                sums.0 += weight * Int64(input[source])
                                sums.1 += weight * Int64(input[source + 1])
                                sums.2 += weight * Int64(input[source + 2])
                                source += along
                            }
                            let target = line * outputLine + position * along
                            output[target] = UInt8(clamping: sums.0 >> Int64(AxisWeights.precision))
                            output[target + 1] = UInt8(clamping: sums.1 >> Int64(AxisWeights.precision))
                            output[target + 2] = UInt8(clamping: sums.2 >> Int64(AxisWeights.precision))
                        }
                    }
                }
            }
            count = 3 * width * height
        }
        return RGBImage(width: width, height: height, pixels: bytes)
    }

    /// The part that begins at column `x`, row `y`.
    package func cropped(x: Int, y: Int, width: Int, height: Int) -> RGBImage {
        precondition(
            x >= 0 && y >= 0 && width > 0 && height > 0 && x + width <= self.width && y + height <= self.height,
            "crop \(width) x \(height) at (\(x), \(y)) of \(self.width) x \(self.height)")
        var result = RGBImage(width: width, height: height)
        for row in 0..<height {
            let source = 3 * ((y + row) * self.width + x)
            let target = 3 * row * width
            result.pixels.replaceSubrange(target..<target + 3 * width, with: pixels[source..<source + 3 * width])
        }
        return result
    }
}
