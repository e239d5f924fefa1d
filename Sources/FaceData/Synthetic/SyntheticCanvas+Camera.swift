internal import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// What a camera does to a scene: tone curve, blur, lost resolution, noise, quantisation.
extension SyntheticCanvas {
    private var planes: [UnsafeMutablePointer<Float>] { [red, green, blue] }

    /// Turns linear light into display values and degrades them.
    func degrade(_ camera: SyntheticCamera) {
        tone(camera)
        for plane in planes {
            if camera.motionLength > 0.5 { smear(plane, camera) }
            if camera.blurSigma > 0.15 { blur(plane, sigma: camera.blurSigma) }
            if camera.resolution < 111 { resample(plane, side: Int(camera.resolution.rounded())) }
        }
        if camera.noiseSigma > 0 { addNoise(camera) }
        if camera.quantisation > 0.01 { quantise(strength: camera.quantisation) }
    }

    /// The finished image.
    func image(_ camera: SyntheticCamera) -> RGBImage {
        let pixels = [UInt8](unsafeUninitializedCapacity: 3 * Self.count) { buffer, count in
            for i in 0..<Self.count {
                buffer[3 * i] = Self.byte(red[i])
                buffer[3 * i + 1] = Self.byte(green[i])
                buffer[3 * i + 2] = Self.byte(blue[i])
            }
            count = 3 * Self.count
        }
        return RGBImage(width: Self.side, height: Self.side, pixels: pixels)
    }

    @inline(__always) private static func byte(_ value: Float) -> UInt8 {
        UInt8(max(0, min(255, value * 255 + 0.5)))
    }

    /// Exposure, colour cast and saturation in linear light, then a display curve from a table.
    private func tone(_ camera: SyntheticCamera) {
        let gain = camera.cast * exp2(camera.exposure)
        let entries = 1024
        let curve = (0...entries).map { i -> Float in
            // A soft shoulder up to twice full scale, the display's exponent, then contrast about mid-grey.
            let linear = 2 * Float(i) / Float(entries)
            let soft = linear < 0.7 ? linear : 0.7 + 0.3 * (1 - exp(-(linear - 0.7) / 0.45))
            let display = pow(soft, camera.gamma / 2.2)
            let side = display < 0.5 ? display : 1 - display
            let bent = 0.5 * pow(2 * max(0, side), camera.contrast)
            return display < 0.5 ? bent : 1 - bent
        }
        let grey = 1 - camera.saturation
        curve.withUnsafeBufferPointer { curve in
            let scale = Lanes(Float(entries) / 2)
            for at in stride(from: 0, to: Self.count, by: 8) {
                let r = load(red, at) * gain.x, g = load(green, at) * gain.y, b = load(blue, at) * gain.z
                let luma = (r * 0.2126 + g * 0.7152 + b * 0.0722) * grey
                store(Self.look(curve, (luma + r * camera.saturation) * scale), red, at)
                store(Self.look(curve, (luma + g * camera.saturation) * scale), green, at)
                store(Self.look(curve, (luma + b * camera.saturation) * scale), blue, at)
            }
        }
    }

    @inline(__always) private static func look(_ curve: UnsafeBufferPointer<Float>, _ at: Lanes) -> Lanes {
        let limited = lower(higher(at, .zero), Lanes(1024))
        let index = unsafeBitCast(limited + Lanes(12_582_912), to: SIMD8<UInt32>.self) & 0xFFFF
        var out = Lanes()
        for i in 0..<8 { out[i] = curve[Int(index[i])] }
        return out
    }

    /// Separable Gaussian, edges repeated.
    private func blur(_ plane: UnsafeMutablePointer<Float>, sigma: Float) {
        let radius = max(1, Int((2.6 * sigma).rounded(.up)))
        var weights = (0...radius).map { exp(-Float($0 * $0) / (2 * sigma * sigma)) }
        let total = 2 * weights.reduce(0, +) - weights[0]
        weights = weights.map { $0 / total }
        let n = Self.side
        for row in 0..<n {
            for column in stride(from: 0, to: n, by: 8) {
                var sum = load(plane, row * n + column) * weights[0]
                for k in 1...radius {
                    let above = max(0, row - k), below = min(n - 1, row + k)
                    sum += (load(plane, above * n + column) + load(plane, below * n + column)) * weights[k]
                }
                store(sum, scratch, row * n + column)
            }
        }
        padded { line in
            for row in 0..<n {
                Self.pad(scratch + row * n, line)
                for column in stride(from: 0, to: n, by: 8) {
                    var sum = load(line, Self.margin + column) * weights[0]
                    for k in 1...radius {
                        let at = Self.margin + column
                        sum += (load(line, at - k) + load(line, at + k)) * weights[k]
                    }
                    store(sum, plane, row * n + column)
                }
            }
        }
    }

    private static let margin = 32

    private func padded(_ body: (UnsafeMutablePointer<Float>) -> Void) {
        withUnsafeTemporaryAllocation(of: Float.self, capacity: Self.side + 2 * Self.margin) { line in
            body(line.baseAddress!)
        }
    }

    private static func pad(_ row: UnsafeMutablePointer<Float>, _ line: UnsafeMutablePointer<Float>) {
        for i in 0..<margin {
            line[i] = row[0]
            line[margin + side + i] = row[side - 1]
        }
        (line + margin).update(from: row, count: side)
    }

    /// Mean along a line: motion blur.
    private func smear(_ plane: UnsafeMutablePointer<Float>, _ camera: SyntheticCamera) {
        let n = Self.side
        let taps = max(2, Int(camera.motionLength.rounded()) + 1)
        let c = cos(camera.motionAngle), s = sin(camera.motionAngle)
        let steps = (0..<taps).map { k -> (Int, Int) in
            let along = (Float(k) / Float(taps - 1) - 0.5) * camera.motionLength
            return (Int((along * c).rounded()), Int((along * s).rounded()))
        }
        padded { line in
            for row in 0..<n {
                for column in stride(from: 0, to: n, by: 8) { store(.zero, scratch, row * n + column) }
                for (dx, dy) in steps {
                    Self.pad(plane + max(0, min(n - 1, row + dy)) * n, line)
                    for column in stride(from: 0, to: n, by: 8) {
                        let sum = load(scratch, row * n + column) + load(line, Self.margin + column + dx)
                        store(sum, scratch, row * n + column)
                    }
                }
            }
        }
        let share = 1 / Float(taps)
        for at in stride(from: 0, to: Self.count, by: 8) { store(load(scratch, at) * share, plane, at) }
    }
}
