package import Tensors

/// A face verifier that learns nothing: the normalised cross-correlation of two aligned grey images. What a network
/// must beat.
package struct PixelCorrelation: Sendable {
    private let width: Int
    private let height: Int
    /// Grey values less their mean, of unit norm; zeros for an image of one colour.
    private let values: [Float]

    /// Prepares an image: grey by ITU-R BT.601 luma weights.
    package init(_ image: RGBImage) {
        width = image.width
        height = image.height
        let count = image.width * image.height
        var grey = [Double](repeating: 0, count: count)
        for i in 0..<count {
            let (red, green, blue) = (image.pixels[3 * i], image.pixels[3 * i + 1], image.pixels[3 * i + 2])
            grey[i] = 0.299 * Double(red) + 0.587 * Double(green) + 0.114 * Double(blue)
        }
        let mean = grey.reduce(0, +) / Double(count)
        for i in grey.indices { grey[i] -= mean }
        let norm = grey.reduce(0) { $0 + $1 * $1 }.squareRoot()
        // An image of one colour leaves rounding errors only, far below one grey level.
        let scale = norm > 1e-6 * Double(count).squareRoot() ? 1 / norm : 0
        values = grey.map { Float($0 * scale) }
    }

    /// The correlation in -1...1; 0 where an image has one colour.
    ///
    /// - Throws: `EvaluationError.sizesDiffer`.
    package func similarity(to other: PixelCorrelation) throws(EvaluationError) -> Double {
        guard width == other.width, height == other.height else {
            throw .sizesDiffer(first: "\(width)x\(height)", second: "\(other.width)x\(other.height)")
        }
        var sum = 0.0
        for i in values.indices { sum += Double(values[i]) * Double(other.values[i]) }
        return min(1, max(-1, sum))
    }

    /// The correlation of two images of one size.
    ///
    /// - Throws: `EvaluationError.sizesDiffer`.
    package static func similarity(_ first: RGBImage, _ second: RGBImage) throws(EvaluationError) -> Double {
        try PixelCorrelation(first).similarity(to: PixelCorrelation(second))
    }
}
