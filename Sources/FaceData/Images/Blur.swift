package import Tensors

#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

extension RGBImage {
    /// Gaussian blur in single precision, rounded once at the end. The kernel ends at 4 sigma, border pixels continue
    /// outwards.
    /// - Parameter sigma: in pixels.
    package func blurred(sigma: Double, scratch: ImageScratch = ImageScratch()) -> RGBImage {
        precondition(sigma >= 0, "a standard deviation of \(sigma)")
        let radius = Int((4 * sigma).rounded(.up))
        if radius == 0 { return self }
        var kernel = (-radius...radius).map { exp(-Double($0 * $0) / (2 * sigma * sigma)) }
        let sum = kernel.reduce(0, +)
        kernel = kernel.map { $0 / sum }
        let weights = kernel.map { Float($0) }

        let line = 3 * width
        let floats = scratch.floats(line * height + line + 6 * radius + line)
        let padded = floats + line * height
        let sums = padded + line + 6 * radius
        return RGBImage(width: width, height: height, from: self) { input, output in
            for row in 0..<height {
                Self.pad(input + row * line, pixels: width, by: radius, into: padded)
                Rows.weightedSum(
                    floats + row * line, count: line, taps: weights.count, weight: { weights[$0] },
                    source: { UnsafePointer(padded + 3 * $0) })
            }
            for row in 0..<height {
                Rows.weightedSum(
                    sums, count: line, taps: weights.count, weight: { weights[$0] },
                    source: { UnsafePointer(floats + max(0, min(height - 1, row + $0 - radius)) * line) })
                let target = output + row * line
                for index in 0..<line { target[index] = Rounding.byteTiesUp(sums[index]) }
            }
        }
    }

    /// Motion blur: the mean along a line through each pixel. Border pixels continue outwards.
    /// - Parameters:
    ///   - length: of the line, in pixels.
    ///   - angle: in degrees, from the rows' direction towards the top.
    package func motionBlurred(
        length: Double, angle: Double, scratch: ImageScratch = ImageScratch()
    ) -> RGBImage {
        precondition(length >= 0, "a length of \(length)")
        return convolved(with: .line(length: length, angle: angle), scratch: scratch)
    }

    /// Out-of-focus blur: the mean over a disk around each pixel. Border pixels continue outwards.
    /// - Parameter radius: in pixels.
    package func defocused(radius: Double, scratch: ImageScratch = ImageScratch()) -> RGBImage {
        precondition(radius >= 0, "a radius of \(radius)")
        return convolved(with: .disk(radius: radius), scratch: scratch)
    }

    private func convolved(with kernel: PlaneKernel, scratch: ImageScratch) -> RGBImage {
        let reach = kernel.reach
        if reach == 0 { return self }
        let line = 3 * width
        let paddedLine = line + 6 * reach
        let floats = scratch.floats(paddedLine * (height + 2 * reach) + line)
        let sums = floats + paddedLine * (height + 2 * reach)
        return RGBImage(width: width, height: height, from: self) { input, output in
            for row in 0..<height + 2 * reach {
                let source = input + max(0, min(height - 1, row - reach)) * line
                Self.pad(source, pixels: width, by: reach, into: floats + row * paddedLine)
            }
            for row in 0..<height {
                let centre = floats + (row + reach) * paddedLine + 3 * reach
                Rows.weightedSum(
                    sums, count: line, taps: kernel.taps.count, weight: { kernel.taps[$0].weight },
                    source: { UnsafePointer(centre + kernel.taps[$0].y * paddedLine + 3 * kernel.taps[$0].x) })
                let target = output + row * line
                for index in 0..<line { target[index] = Rounding.byteTiesUp(sums[index]) }
            }
        }
    }

    /// A row as floats, its first and last pixels repeated `margin` times.
    private static func pad(
        _ row: UnsafePointer<UInt8>, pixels: Int, by margin: Int, into target: UnsafeMutablePointer<Float>
    ) {
        let last = 3 * (pixels - 1)
        let right = target + 3 * (margin + pixels)
        for pixel in 0..<margin {
            for channel in 0..<3 {
                target[3 * pixel + channel] = Float(row[channel])
                right[3 * pixel + channel] = Float(row[last + channel])
            }
        }
        let inner = target + 3 * margin
        for index in 0..<3 * pixels { inner[index] = Float(row[index]) }
    }

    /// An image of the same size made from this one's bytes.
    init(
        width: Int, height: Int,
        from source: RGBImage, _ fill: (_ input: UnsafePointer<UInt8>, _ output: UnsafeMutablePointer<UInt8>) -> Void
    ) {
        let bytes = [UInt8](unsafeUninitializedCapacity: 3 * width * height) { output, count in
            source.pixels.withUnsafeBufferPointer { fill($0.baseAddress!, output.baseAddress!) }
            count = 3 * width * height
        }
        self.init(width: width, height: height, pixels: bytes)
    }
}

/// A sparse kernel in the plane; its weights add up to 1.
private struct PlaneKernel {
    struct Tap {
        let x: Int
        let y: Int
        let weight: Float
    }

    private(set) var taps: [Tap] = []
    /// The largest distance along an axis.
    private(set) var reach = 0

    /// - Parameter plane: (2·reach + 1)² weights, row by row.
    private init(reach: Int, plane: [Double]) {
        let side = 2 * reach + 1
        let sum = plane.reduce(0, +)
        for y in 0..<side {
            for x in 0..<side where plane[y * side + x] > 0 {
                taps.append(Tap(x: x - reach, y: y - reach, weight: Float(plane[y * side + x] / sum)))
            }
        }
        self.reach = taps.map { max(abs($0.x), abs($0.y)) }.max() ?? 0
    }

    /// Points every eighth of a pixel along the line, each shared out to the four pixels around it.
    static func line(length: Double, angle: Double) -> PlaneKernel {
        let reach = Int((length / 2).rounded(.up)) + 1
        let side = 2 * reach + 1
        var plane = [Double](repeating: 0, count: side * side)
        let steps = Int((8 * length).rounded(.up))
        let (dx, dy) = (cos(angle * .pi / 180), -sin(angle * .pi / 180))
        for step in 0...steps {
            let place = steps == 0 ? 0 : length * (Double(step) / Double(steps) - 0.5)
            let (x, y) = (Double(reach) + place * dx, Double(reach) + place * dy)
            let (left, top) = (Int(x), Int(y))
            let (fx, fy) = (x - Double(left), y - Double(top))
            plane[top * side + left] += (1 - fx) * (1 - fy)
            if fx > 0 { plane[top * side + left + 1] += fx * (1 - fy) }
            if fy > 0 { plane[(top + 1) * side + left] += (1 - fx) * fy }
            if fx > 0, fy > 0 { plane[(top + 1) * side + left + 1] += fx * fy }
        }
        return PlaneKernel(reach: reach, plane: plane)
    }

    /// The share of each pixel that the disk covers, from 8 x 8 points in it. The central pixel counts at least once.
    static func disk(radius: Double) -> PlaneKernel {
        let reach = Int(radius.rounded(.up))
        let side = 2 * reach + 1
        var plane = [Double](repeating: 0, count: side * side)
        for y in 0..<side {
            for x in 0..<side {
                for point in 0..<64 {
                    let px = Double(x - reach) + (Double(point % 8) + 0.5) / 8 - 0.5
                    let py = Double(y - reach) + (Double(point / 8) + 0.5) / 8 - 0.5
                    if px * px + py * py <= radius * radius { plane[y * side + x] += 1 }
                }
            }
        }
        if plane[reach * side + reach] == 0 { plane[reach * side + reach] = 1 }
        return PlaneKernel(reach: reach, plane: plane)
    }
}
