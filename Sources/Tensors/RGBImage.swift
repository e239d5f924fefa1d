/// An 8-bit RGB image, rows from the top, three interleaved bytes per pixel.
package struct RGBImage: Sendable, Equatable {
    package let width: Int
    package let height: Int
    /// height x width x 3 bytes.
    package var pixels: [UInt8]

    package init(width: Int, height: Int, pixels: [UInt8]) {
        precondition(
            width > 0 && height > 0 && pixels.count == 3 * width * height,
            "\(pixels.count) bytes for a \(width) x \(height) RGB image")
        self.width = width
        self.height = height
        self.pixels = pixels
    }

    /// An image of one colour, black by default.
    package init(width: Int, height: Int, fill: (UInt8, UInt8, UInt8) = (0, 0, 0)) {
        var pixels = [UInt8](repeating: fill.0, count: 3 * width * height)
        if fill.0 == fill.1, fill.0 == fill.2 {
            self.init(width: width, height: height, pixels: pixels)
            return
        }
        for i in stride(from: 0, to: pixels.count, by: 3) {
            pixels[i] = fill.0
            pixels[i + 1] = fill.1
            pixels[i + 2] = fill.2
        }
        self.init(width: width, height: height, pixels: pixels)
    }
}
