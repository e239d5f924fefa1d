#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

/// How an image is resampled. Two families:
///
/// - as Pillow, and torchvision on Pillow's images: the kernel widens with the reduction (antialiasing); rows first, then
///   columns, rounded to 8 bits after each;
/// - as OpenCV: half-pixel centres, the same few taps whatever the reduction, border pixels continue outwards; rounded
///   once. Only `area` takes in all that is covered.
///
/// `nearest` takes the pixel under the centre, as Pillow's and OpenCV's INTER_NEAREST_EXACT do.
package enum ResizeKernel: String, Sendable, CaseIterable {
    case nearest
    /// The mean of the covered area when shrinking; support 1/2.
    case box
    /// Triangle, support 1.
    case bilinear
    /// Hamming-windowed sinc, support 1.
    case hamming
    /// Cubic convolution with a = -1/2, support 2.
    case bicubic
    /// Windowed sinc, support 3.
    case lanczos3
    /// OpenCV's INTER_LINEAR.
    case linear
    /// OpenCV's INTER_CUBIC: a = -3/4, 4 taps.
    case cubic
    /// OpenCV's INTER_AREA: the mean of the covered area when shrinking, `linear` when enlarging.
    case area
    /// OpenCV's INTER_LANCZOS4: 8 taps, normalised.
    case lanczos4

    /// Pillow's family.
    package static let antialiased: [ResizeKernel] = [.box, .bilinear, .hamming, .bicubic, .lanczos3]
    /// OpenCV's family.
    package static let openCV: [ResizeKernel] = [.nearest, .linear, .area, .cubic, .lanczos4]

    package var isAntialiased: Bool { support != nil }

    /// Half the width of an antialiased kernel, in input pixels where nothing shrinks; nil for the others.
    private var support: Double? {
        switch self {
        case .box: 0.5
        case .bilinear, .hamming: 1
        case .bicubic: 2
        case .lanczos3: 3
        case .nearest, .linear, .cubic, .area, .lanczos4: nil
        }
    }

    /// The input samples that enter each output sample of an axis: the first of them, and their weights.
    func windows(from input: Int, to output: Int) -> [(start: Int, weights: [Double])] {
        let scale = Double(input) / Double(output)
        if let support { return antialiasedWindows(input, output, scale, support) }
        switch self {
        case .nearest:
            // Pillow adds up the step.
            var place = 0.5 * scale
            return (0..<output).map { _ in
                defer { place += scale }
                return (min(input - 1, Int(place)), [1])
            }
        case .area where scale > 1: return (0..<output).map { Self.covered($0, scale, input) }
        default: return (0..<output).map { interpolated($0, scale, input) }
        }
    }

    // MARK: Pillow

    private func antialiasedWindows(
        _ input: Int, _ output: Int, _ scale: Double, _ support: Double
    ) -> [(start: Int, weights: [Double])] {
        let widening = max(1, scale)
        let reach = support * widening
        return (0..<output).map { position in
            let centre = (Double(position) + 0.5) * scale
            let low = max(0, Int(centre - reach + 0.5))
            let high = min(input, Int(centre + reach + 0.5))
            var values = (low..<high).map { value(at: (Double($0) - centre + 0.5) / widening) }
            let sum = values.reduce(0, +)
            if sum != 0 { values = values.map { $0 / sum } }
            return (low, values)
        }
    }

    private func value(at x: Double) -> Double {
        let t = abs(x)
        switch self {
        case .box: return x > -0.5 && x <= 0.5 ? 1 : 0
        case .bilinear: return max(0, 1 - t)
        case .hamming:
            if t >= 1 { return 0 }
            // Pillow's constants are single precision.
            return Self.sinc(t) * (Double(Float(0.54)) + Double(Float(0.46)) * cos(Double.pi * t))
        case .bicubic: return Self.cubic(t, a: -0.5)
        case .lanczos3: return t < 3 ? Self.sinc(x) * Self.sinc(x / 3) : 0
        case .nearest, .linear, .cubic, .area, .lanczos4: preconditionFailure("\(self) has no antialiased kernel")
        }
    }

    // MARK: OpenCV

    /// The few taps around a centre. Those beyond the border fall on the border's sample.
    private func interpolated(_ position: Int, _ scale: Double, _ input: Int) -> (start: Int, weights: [Double]) {
        let centre = (Double(position) + 0.5) * scale - 0.5
        let base = Int(centre.rounded(.down))
        let fraction = centre - Double(base)
        let first: Int
        var values: [Double]
        switch self {
        case .cubic:
            first = base - 1
            values = (0..<4).map { Self.cubic(abs(fraction + 1 - Double($0)), a: -0.75) }
        case .lanczos4:
            first = base - 3
            values = (0..<8).map { tap in
                let distance = fraction + 3 - Double(tap)
                return Self.sinc(distance) * Self.sinc(distance / 4)
            }
            let sum = values.reduce(0, +)
            values = values.map { $0 / sum }
        default:
            first = base
            values = [1 - fraction, fraction]
        }
        let low = max(0, min(input - 1, first))
        let high = max(0, min(input - 1, first + values.count - 1))
        var folded = [Double](repeating: 0, count: high - low + 1)
        for (tap, value) in values.enumerated() { folded[max(low, min(high, first + tap)) - low] += value }
        return (low, folded)
    }

    /// The mean of what lies under an output sample.
    private static func covered(_ position: Int, _ scale: Double, _ input: Int) -> (start: Int, weights: [Double]) {
        let from = Double(position) * scale
        let to = min(Double(input), from + scale)
        let low = min(input - 1, Int(from))
        let high = max(low + 1, min(input, Int((to - 1e-9).rounded(.up))))
        let shares = (low..<high).map { max(0, min(to, Double($0 + 1)) - max(from, Double($0))) }
        let sum = shares.reduce(0, +)
        return (low, shares.map { $0 / sum })
    }

    // MARK: Formulas

    /// Keys' cubic convolution at a distance t >= 0.
    private static func cubic(_ t: Double, a: Double) -> Double {
        if t < 1 { return ((a + 2) * t - (a + 3)) * t * t + 1 }
        return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0
    }

    private static func sinc(_ x: Double) -> Double {
        x == 0 ? 1 : sin(Double.pi * x) / (Double.pi * x)
    }
}
