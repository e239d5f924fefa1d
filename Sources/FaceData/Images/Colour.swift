package import Tensors

#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

/// Operators on single pixels, rounded to 8 bits. Grey is 0.299 R + 0.587 G + 0.114 B, as in Pillow's mode L.
extension RGBImage {
    /// v becomes 255·(v/255)^exponent.
    package func gammaAdjusted(_ exponent: Double) -> RGBImage {
        mapped { 255 * pow(Double($0) / 255, exponent) }
    }

    /// v becomes factor·v.
    package func brightnessAdjusted(_ factor: Double) -> RGBImage {
        mapped { factor * Double($0) }
    }

    /// v becomes factor·v + (1 - factor)·m, m being the rounded mean of the image's grey.
    package func contrastAdjusted(_ factor: Double) -> RGBImage {
        let mean = meanGrey
        return mapped { factor * Double($0) + (1 - factor) * mean }
    }

    /// v becomes factor·v + (1 - factor)·grey of its pixel.
    package func saturationAdjusted(_ factor: Double) -> RGBImage {
        let (own, other) = (Float(factor), Float(1 - factor))
        return RGBImage(width: width, height: height, from: self) { input, output in
            for pixel in 0..<width * height {
                let (source, target) = (input + 3 * pixel, output + 3 * pixel)
                let grey = other * Float(Self.grey(source))
                target[0] = Rounding.byte(own * Float(source[0]) + grey)
                target[1] = Rounding.byte(own * Float(source[1]) + grey)
                target[2] = Rounding.byte(own * Float(source[2]) + grey)
            }
        }
    }

    /// Each channel becomes the grey.
    package func greyed() -> RGBImage {
        RGBImage(width: width, height: height, from: self) { input, output in
            for pixel in 0..<width * height {
                let grey = UInt8(truncatingIfNeeded: Self.grey(input + 3 * pixel))
                for channel in 0..<3 { output[3 * pixel + channel] = grey }
            }
        }
    }

    /// The mean grey, rounded.
    package var meanGrey: Double {
        var sum = 0
        pixels.withUnsafeBufferPointer { pixels in
            let base = pixels.baseAddress!
            for pixel in 0..<width * height { sum &+= Int(Self.grey(base + 3 * pixel)) }
        }
        return (Double(sum) / Double(width * height)).rounded()
    }

    /// Each byte through a function of 256 values.
    private func mapped(_ function: (UInt8) -> Double) -> RGBImage {
        let table = (0...255).map { UInt8(max(0, min(255, function(UInt8($0)).rounded()))) }
        return table.withUnsafeBufferPointer { table in
            RGBImage(width: width, height: height, from: self) { input, output in
                for index in 0..<3 * width * height { output[index] = table[Int(input[index])] }
            }
        }
    }

    /// In 16-bit fixed point, as Pillow computes it.
    @inline(__always)
    private static func grey(_ pixel: UnsafePointer<UInt8>) -> UInt32 {
        (UInt32(pixel[0]) &* 19595 &+ UInt32(pixel[1]) &* 38470 &+ UInt32(pixel[2]) &* 7471 &+ 0x8000) &>> 16
    }
}
