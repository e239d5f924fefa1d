package import Tensors

#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

/// A rectangle of pixels.
package struct ImageRegion: Sendable, Equatable {
    package let x: Int
    package let y: Int
    package let width: Int
    package let height: Int

    package init(x: Int, y: Int, width: Int, height: Int) {
        self.x = x
        self.y = y
        self.width = width
        self.height = height
    }

    /// A rectangle as torchvision's RandomResizedCrop draws it: in up to ten attempts area = U(share)·whole and ratio =
    /// exp U(log low, log high) give width √(area·ratio) and height √(area/ratio), rounded, anywhere in the image; when
    /// none fits, the centre with the nearest ratio that is allowed.
    package static func random(
        in size: (width: Int, height: Int), share: ClosedRange<Double>, ratio: ClosedRange<Double>,
        _ random: inout RandomStream
    ) -> ImageRegion {
        let whole = Double(size.width * size.height)
        for _ in 0..<10 {
            let area = random.uniform(share.lowerBound, share.upperBound) * whole
            let aspect = random.logUniform(ratio)
            let width = Int((area * aspect).squareRoot().rounded(.toNearestOrEven))
            let height = Int((area / aspect).squareRoot().rounded(.toNearestOrEven))
            if (1...size.width).contains(width), (1...size.height).contains(height) {
                return ImageRegion(
                    x: random.below(size.width - width + 1), y: random.below(size.height - height + 1), width: width,
                    height: height)
            }
        }
        let own = Double(size.width) / Double(size.height)
        var (width, height) = size
        if own < ratio.lowerBound {
            height = max(1, min(size.height, Int((Double(width) / ratio.lowerBound).rounded())))
        } else if own > ratio.upperBound {
            width = max(1, min(size.width, Int((Double(height) * ratio.upperBound).rounded())))
        }
        return ImageRegion(x: (size.width - width) / 2, y: (size.height - height) / 2, width: width, height: height)
    }
}

extension RandomStream {
    /// exp U(log low, log high); the bounds are positive.
    mutating func logUniform(_ range: ClosedRange<Double>) -> Double {
        exp(uniform(log(range.lowerBound), log(range.upperBound)))
    }
}

extension RGBImage {
    /// Black, but for one region.
    package func masked(to region: ImageRegion) -> RGBImage {
        var result = RGBImage(width: width, height: height)
        for y in region.y..<region.y + region.height {
            let row = 3 * (y * width + region.x)..<3 * (y * width + region.x + region.width)
            result.pixels.replaceSubrange(row, with: pixels[row])
        }
        return result
    }

    /// With one region in one colour.
    package func filled(_ region: ImageRegion, with colour: (UInt8, UInt8, UInt8)) -> RGBImage {
        var result = self
        result.pixels.withUnsafeMutableBufferPointer { pixels in
            for y in region.y..<region.y + region.height {
                for x in region.x..<region.x + region.width {
                    let place = 3 * (y * width + x)
                    pixels[place] = colour.0
                    pixels[place + 1] = colour.1
                    pixels[place + 2] = colour.2
                }
            }
        }
        return result
    }

    /// The mean of each channel, rounded.
    package var meanColour: (UInt8, UInt8, UInt8) {
        var sums = (0, 0, 0)
        pixels.withUnsafeBufferPointer { pixels in
            for place in stride(from: 0, to: pixels.count, by: 3) {
                sums.0 &+= Int(pixels[place])
                sums.1 &+= Int(pixels[place + 1])
                sums.2 &+= Int(pixels[place + 2])
            }
        }
        let count = width * height
        func mean(_ sum: Int) -> UInt8 { UInt8((sum + count / 2) / count) }
        return (mean(sums.0), mean(sums.1), mean(sums.2))
    }
}
