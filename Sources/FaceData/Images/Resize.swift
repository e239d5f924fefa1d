package import Tensors

extension RGBImage {
    /// Resized. Kernels of Pillow's family give bit for bit what Pillow gives.
    /// - Parameter scratch: memory to use again; of this call's own by default.
    package func resized(
        width: Int, height: Int, _ kernel: ResizeKernel, scratch: ImageScratch? = nil
    ) -> RGBImage {
        precondition(width > 0 && height > 0, "a size of \(width) x \(height)")
        if width == self.width, height == self.height { return self }
        let columns = width == self.width ? nil : AxisTables.shared.table(from: self.width, to: width, kernel)
        let rows = height == self.height ? nil : AxisTables.shared.table(from: self.height, to: height, kernel)
        let scratch = scratch ?? ImageScratch()
        let bytes = [UInt8](unsafeUninitializedCapacity: 3 * width * height) { output, count in
            pixels.withUnsafeBufferPointer { input in
                let resampling = Resampling(
                    input: input.baseAddress!, inputWidth: self.width, inputHeight: self.height,
                    output: output.baseAddress!, width: width, height: height)
                if kernel.isAntialiased {
                    resampling.fixedPoint(columns, rows, scratch)
                } else {
                    resampling.floating(columns, rows, scratch)
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

/// One image on its way to another size, in two passes: along the rows, then along the columns. The first skips the rows
/// that the second does not read.
private struct Resampling {
    let input: UnsafePointer<UInt8>
    let inputWidth: Int
    let inputHeight: Int
    let output: UnsafeMutablePointer<UInt8>
    let width: Int
    let height: Int

    private var inputLine: Int { 3 * inputWidth }
    private var line: Int { 3 * width }

    /// Whether any output row reads an input row.
    private func isRead(_ row: Int, _ rows: AxisTable?) -> Bool {
        guard let rows else { return true }
        // Starts ascend: the last window that begins at or before the row reaches farthest.
        return rows.starts.withUnsafeBufferPointer { starts in
            var low = 0
            var high = starts.count
            while low < high {
                let middle = (low + high) / 2
                if Int(starts[middle]) <= row { low = middle + 1 } else { high = middle }
            }
            return low > 0 && row < Int(starts[low - 1]) + rows.taps
        }
    }

    // MARK: Fixed point

    func fixedPoint(_ columns: AxisTable?, _ rows: AxisTable?, _ scratch: ImageScratch) {
        guard let columns else {
            if let rows { fixedRows(input, rows, scratch) }
            return
        }
        let target = rows == nil ? output : scratch.bytes(line * inputHeight)
        columns.starts.withUnsafeBufferPointer { starts in
            columns.fixed.withUnsafeBufferPointer { weights in
                for row in 0..<inputHeight where isRead(row, rows) {
                    Self.fixedLine(
                        input + row * inputLine, starts.baseAddress!, weights.baseAddress!, taps: columns.taps,
                        target + row * line, count: width)
                }
            }
        }
        if let rows { fixedRows(target, rows, scratch) }
    }

    private static func fixedLine(
        _ input: UnsafePointer<UInt8>, _ starts: UnsafePointer<Int32>, _ weights: UnsafePointer<Int32>, taps: Int,
        _ output: UnsafeMutablePointer<UInt8>, count: Int
    ) {
        let half: Int32 = 1 << (AxisTable.precision - 1)
        var weight = weights
        var target = output
        for position in 0..<count {
            var source = input + 3 * Int(starts[position])
            var (red, green, blue) = (half, half, half)
            for tap in 0..<taps {
                let factor = weight[tap]
                red &+= factor &* Int32(source[0])
                green &+= factor &* Int32(source[1])
                blue &+= factor &* Int32(source[2])
                source += 3
            }
            target[0] = clipped(red)
            target[1] = clipped(green)
            target[2] = clipped(blue)
            weight += taps
            target += 3
        }
    }

    private func fixedRows(_ source: UnsafePointer<UInt8>, _ rows: AxisTable, _ scratch: ImageScratch) {
        let line = self.line
        let taps = rows.taps
        let half: Int32 = 1 << (AxisTable.precision - 1)
        let sums = scratch.integers(line)
        for row in 0..<height {
            let first = source + Int(rows.starts[row]) * line
            for index in 0..<line { sums[index] = half }
            var tap = 0
            // Two taps to a sweep over the sums.
            while tap + 1 < taps {
                let (a, b) = (rows.fixed[row * taps + tap], rows.fixed[row * taps + tap + 1])
                let upper = first + tap * line
                let lower = upper + line
                for index in 0..<line {
                    sums[index] = sums[index] &+ a &* Int32(upper[index]) &+ b &* Int32(lower[index])
                }
                tap += 2
            }
            if tap < taps {
                let factor = rows.fixed[row * taps + tap]
                let upper = first + tap * line
                for index in 0..<line { sums[index] = sums[index] &+ factor &* Int32(upper[index]) }
            }
            let target = output + row * line
            for index in 0..<line { target[index] = Self.clipped(sums[index]) }
        }
    }

    @inline(__always)
    private static func clipped(_ sum: Int32) -> UInt8 {
        UInt8(truncatingIfNeeded: max(0, min(255, sum &>> AxisTable.precision)))
    }

    // MARK: Floats

    func floating(_ columns: AxisTable?, _ rows: AxisTable?, _ scratch: ImageScratch) {
        let line = self.line
        let floats = scratch.floats(line * inputHeight + line)
        let sums = floats + line * inputHeight
        for row in 0..<inputHeight where isRead(row, rows) {
            let source = input + row * inputLine
            let target = floats + row * line
            if let columns {
                Self.floatLine(source, columns, target, count: width)
            } else {
                for index in 0..<line { target[index] = Float(source[index]) }
            }
        }
        for row in 0..<height {
            let target = output + row * line
            guard let rows, rows.taps > 1 else {
                let first = floats + Int(rows?.starts[row] ?? Int32(row)) * line
                for index in 0..<line { target[index] = Rounding.byte(first[index]) }
                continue
            }
            let first = floats + Int(rows.starts[row]) * line
            Rows.weightedSum(
                sums, count: line, taps: rows.taps, weight: { rows.floats[row * rows.taps + $0] },
                source: { UnsafePointer(first + $0 * line) })
            for index in 0..<line { target[index] = Rounding.byte(sums[index]) }
        }
    }

    private static func floatLine(
        _ input: UnsafePointer<UInt8>, _ columns: AxisTable, _ output: UnsafeMutablePointer<Float>, count: Int
    ) {
        let taps = columns.taps
        columns.starts.withUnsafeBufferPointer { starts in
            columns.floats.withUnsafeBufferPointer { weights in
                var weight = weights.baseAddress!
                var target = output
                for position in 0..<count {
                    var source = input + 3 * Int(starts[position])
                    var (red, green, blue): (Float, Float, Float) = (0, 0, 0)
                    for tap in 0..<taps {
                        let factor = weight[tap]
                        red += factor * Float(source[0])
                        green += factor * Float(source[1])
                        blue += factor * Float(source[2])
                        source += 3
                    }
                    target[0] = red
                    target[1] = green
                    target[2] = blue
                    weight += taps
                    target += 3
                }
            }
        }
    }
}
