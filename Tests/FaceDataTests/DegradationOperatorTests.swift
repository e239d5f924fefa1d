import FaceData
import Foundation
import Tensors
import Testing

/// What each operator promises.
@Suite struct DegradationOperatorTests {
    private let face = testImage(3)

    private func impulse(_ size: Int = 31) -> RGBImage {
        RGBImage(width: size, height: size).filled(
            ImageRegion(x: size / 2, y: size / 2, width: 1, height: 1), with: (255, 255, 255))
    }

    private func deviation(_ image: RGBImage, from level: Double) -> Double {
        let squares = image.pixels.reduce(0) { $0 + (Double($1) - level) * (Double($1) - level) }
        return (squares / Double(image.pixels.count)).squareRoot()
    }

    @Test(arguments: [
        Degradation.blur(sigma: 0.3), .blur(sigma: 4), .motion(length: 9, angle: 33), .motion(length: 0, angle: 0),
        .motion(length: 40, angle: 90), .defocus(radius: 0.2), .defocus(radius: 5.5), .noise(sigma: 0, seed: 1),
        .brightness(1), .contrast(1), .contrast(0), .saturation(1), .gamma(1), .rotate(degrees: 0),
        .resample(.init(width: 20, height: 20, down: .lanczos3, up: .cubic)),
    ]) func constantsStay(_ degradation: Degradation) {
        let image = RGBImage(width: 40, height: 32, fill: (201, 201, 201))
        #expect(degradation.apply(to: image) == image)
    }

    @Test func blurIsSymmetricAndKeepsTheSum() {
        let spread = impulse(63).blurred(sigma: 2)
        for y in 0..<63 {
            for x in 0..<63 {
                let value = spread.pixels[3 * (63 * y + x)]
                #expect(
                    value == spread.pixels[3 * (63 * x + y)] && value == spread.pixels[3 * (63 * (62 - y) + 62 - x)])
                // 255/(2π·4)·exp(-r²/8), rounded.
                let square = Double((x - 31) * (x - 31) + (y - 31) * (y - 31))
                #expect(abs(Double(value) - 255 / (8 * .pi) * exp(-square / 8)) < 0.52)
            }
        }
    }

    /// The blur of the evaluation tables, written plainly: sums in the order of the taps, single precision.
    @Test func blurIsTheSameSumInTheSameOrder() {
        let image = testImage(8, width: 33, height: 21)
        for sigma in [0.7, 2.3] {
            let radius = Int((4 * sigma).rounded(.up))
            var kernel = (-radius...radius).map { exp(-Double($0 * $0) / (2 * sigma * sigma)) }
            let total = kernel.reduce(0, +)
            kernel = kernel.map { $0 / total }
            func pass(_ values: [Float], alongRows: Bool) -> [Float] {
                var result = values
                for y in 0..<21 {
                    for x in 0..<33 {
                        for channel in 0..<3 {
                            var sum: Float = 0
                            for (tap, weight) in kernel.enumerated() {
                                let (i, j) =
                                    alongRows
                                    ? (max(0, min(32, x + tap - radius)), y) : (x, max(0, min(20, y + tap - radius)))
                                sum += Float(weight) * values[3 * (33 * j + i) + channel]
                            }
                            result[3 * (33 * y + x) + channel] = sum
                        }
                    }
                }
                return result
            }
            let both = pass(pass(image.pixels.map { Float($0) }, alongRows: true), alongRows: false)
            let expected = both.map { UInt8(max(0, min(255, $0.rounded()))) }
            #expect(image.blurred(sigma: sigma).pixels == expected)
        }
    }

    @Test func motionRunsAlongItsLine() {
        let flat = impulse().motionBlurred(length: 9, angle: 0)
        let upright = impulse().motionBlurred(length: 9, angle: 90)
        let rising = impulse().motionBlurred(length: 12, angle: 45)
        for y in 0..<31 {
            for x in 0..<31 {
                let place = 3 * (31 * y + x)
                if y != 15 { #expect(flat.pixels[place] == 0) }
                if x != 15 { #expect(upright.pixels[place] == 0) }
                // Up to the right: x grows while y falls.
                if abs(x + y - 30) > 2 { #expect(rising.pixels[place] == 0) }
            }
        }
        let reached = (0..<31).filter { flat.pixels[3 * (31 * 15 + $0)] > 10 }
        #expect(reached.count >= 9 && reached.count <= 11)
        #expect(reached.first! + reached.last! == 30)
    }

    @Test func defocusIsADisk() {
        let spread = impulse().defocused(radius: 4)
        for y in 0..<31 {
            for x in 0..<31 {
                let distance = Double((x - 15) * (x - 15) + (y - 15) * (y - 15)).squareRoot()
                let value = spread.pixels[3 * (31 * y + x)]
                if distance > 4.8 { #expect(value == 0) }
                // 255/(π·16) = 5.07 inside.
                if distance < 3.2 { #expect(value == 5) }
                #expect(value == spread.pixels[3 * (31 * x + 30 - y)])
            }
        }
    }

    @Test func noiseIsDrawnSampleBySample() {
        let image = testImage(6, width: 40, height: 30)
        for (sigma, seed) in [(0.4, 1), (8.5, 7), (60, 9)] as [(Double, UInt64)] {
            var random = RandomStream(seed: seed, purpose: .degradation, index: 0)
            let expected = image.pixels.map {
                UInt8(max(0, min(255, (Double($0) + sigma * random.normal()).rounded())))
            }
            #expect(Degradation.noise(sigma: sigma, seed: seed).apply(to: image).pixels == expected)
        }
    }

    /// Over enough samples that some floats do not say which way to round.
    @Test func doubtfulNoiseIsDrawnAgain() {
        let image = RGBImage(width: 112, height: 112, fill: (100, 100, 100))
        for seed in 0..<6 as Range<UInt64> {
            var random = RandomStream(seed: seed, purpose: .degradation, index: 0)
            let expected = image.pixels.map {
                UInt8(max(0, min(255, (Double($0) + 40 * random.normal()).rounded())))
            }
            let same = Degradation.noise(sigma: 40, seed: seed).apply(to: image).pixels == expected
            #expect(same)
        }
    }

    @Test func shotNoiseGrowsWithTheLight() {
        for level in [50, 200] as [UInt8] {
            let image = RGBImage(width: 96, height: 96, fill: (level, level, level))
            let noisy = image.shotNoisy(photons: 200, seed: 5)
            let expected = (Double(level) * 255 / 200).squareRoot()
            #expect(abs(deviation(noisy, from: Double(level)) - expected) < 0.03 * expected, "\(level)")
            #expect(noisy == image.shotNoisy(photons: 200, seed: 5) && noisy != image.shotNoisy(photons: 200, seed: 6))
        }
        #expect(RGBImage(width: 8, height: 8).shotNoisy(photons: 10, seed: 1) == RGBImage(width: 8, height: 8))
    }

    @Test func compressionIsTheCodecs() throws {
        let decoded = try ImageCodec.decode(ImageCodec.encodeJPEG(face, quality: 30))
        #expect(Degradation.jpeg(quality: 30).apply(to: face) == decoded)
        let small = face.resized(width: 31, height: 31, .bicubic)
        let compressed = try ImageCodec.decode(ImageCodec.encodeJPEG(small, quality: 75))
        let plan = Degradation.Resampling(width: 31, height: 31, down: .bicubic, up: .box, quality: 75)
        #expect(Degradation.resample(plan).apply(to: face) == compressed.resized(width: 112, height: 112, .box))
    }

    @Test func evaluationsReductionIsBoxAndBicubic() {
        let expected = face.resized(width: 16, height: 16, .box).resized(width: 112, height: 112, .bicubic)
        #expect(Degradation.reduce(side: 16).apply(to: face) == expected)
    }

    @Test func light() {
        #expect(face.brightnessAdjusted(0) == RGBImage(width: 112, height: 112))
        #expect(face.saturationAdjusted(0) == face.greyed())
        let flat = face.contrastAdjusted(0)
        #expect(Set(flat.pixels).count == 1 && Double(flat.pixels[0]) == face.meanGrey)
        let bright = face.brightnessAdjusted(1.5)
        #expect(zip(face.pixels, bright.pixels).allSatisfy { abs(min(255, 1.5 * Double($0)) - Double($1)) <= 0.5 })
        let contrast = face.contrastAdjusted(1.7)
        #expect(
            zip(face.pixels, contrast.pixels).allSatisfy {
                abs(max(0, min(255, 1.7 * Double($0) - 0.7 * face.meanGrey)) - Double($1)) <= 0.51
            })
        #expect(face.gammaAdjusted(2).pixels[5] == UInt8((255 * pow(Double(face.pixels[5]) / 255, 2)).rounded()))
    }

    @Test func crops() {
        let region = ImageRegion(x: 20, y: 31, width: 50, height: 44)
        let masked = Degradation.crop(region, resized: nil).apply(to: face)
        for y in 0..<112 {
            for x in 0..<112 {
                let isInside = (20..<70).contains(x) && (31..<75).contains(y)
                let place = 3 * (112 * y + x)
                #expect(masked.pixels[place + 1] == (isInside ? face.pixels[place + 1] : 0))
            }
        }
        let part = face.cropped(x: 20, y: 31, width: 50, height: 44)
        #expect(
            Degradation.crop(region, resized: .bilinear).apply(to: face)
                == part.resized(width: 112, height: 112, .bilinear))
    }

    @Test func occlusions() {
        let region = ImageRegion(x: 5, y: 60, width: 30, height: 20)
        let inside = 3 * (112 * 70 + 10)
        for (fill, value) in [(Degradation.Fill.black, 0), (.grey, 128), (.white, 255)] as [(Degradation.Fill, UInt8)] {
            let covered = Degradation.occlude(region, fill).apply(to: face)
            #expect(covered.pixels[inside] == value)
            #expect(zip(covered.pixels, face.pixels).filter { $0 != $1 }.count <= 3 * 600)
        }
        let mean = Degradation.occlude(region, .mean).apply(to: face)
        let red = face.pixels.enumerated().filter { $0.offset % 3 == 0 }.reduce(0.0) { $0 + Double($1.element) } / 12544
        #expect(abs(Double(mean.pixels[inside]) - red) <= 0.5)
        let noise = Degradation.occlude(region, .noise(seed: 4)).apply(to: face)
        #expect(noise == Degradation.occlude(region, .noise(seed: 4)).apply(to: face))
        #expect(noise != Degradation.occlude(region, .noise(seed: 5)).apply(to: face))
        let bytes = noise.cropped(x: 5, y: 60, width: 30, height: 20).pixels
        // Uniform over 256 values: 255/√12.
        #expect(abs(deviation(RGBImage(width: 30, height: 20, pixels: bytes), from: 127.5) - 73.6) < 3)
    }

    @Test func rotations() {
        let turned = face.rotated(degrees: 90)
        // Counter-clockwise: the top right corner comes to the top left.
        for (x, y) in [(0, 0), (5, 90), (111, 3)] {
            for channel in 0..<3 {
                let (found, source) = (3 * (112 * y + x) + channel, 3 * (112 * x + 111 - y) + channel)
                #expect(abs(Int(turned.pixels[found]) - Int(face.pixels[source])) <= 1)
            }
        }
        #expect(face.rotated(degrees: 0) == face)
        let tilted = face.rotated(degrees: 45)
        for corner in [0, 111, 112 * 111, 112 * 112 - 1] { #expect(tilted.pixels[3 * corner] == 0) }
        #expect(tilted.pixels[3 * (112 * 56 + 56)] > 0)
    }

    @Test func randomRegionsKeepTheirRanges() {
        var random = RandomStream(seed: 2, purpose: .test, index: 0)
        var mean = 0.0
        for _ in 0..<3000 {
            let region = ImageRegion.random(in: (112, 96), share: 0.2...0.9, ratio: 0.75...1.333, &random)
            #expect(region.x >= 0 && region.y >= 0 && region.x + region.width <= 112 && region.y + region.height <= 96)
            let share = Double(region.width * region.height) / (112 * 96)
            let ratio = Double(region.width) / Double(region.height)
            #expect(share > 0.185 && share < 0.92 && ratio > 0.73 && ratio < 1.37)
            mean += share / 3000
        }
        // Large ones do not always fit, so that the mean is below the middle of the range.
        #expect(mean > 0.48 && mean < 0.56, "\(mean)")
        // None fits: the centre of the nearest shape.
        let wide = ImageRegion.random(in: (112, 112), share: 1...1, ratio: 2...3, &random)
        #expect(wide == ImageRegion(x: 0, y: 28, width: 112, height: 56))
        let tall = ImageRegion.random(in: (112, 112), share: 1...1, ratio: 0.25...0.5, &random)
        #expect(tall == ImageRegion(x: 28, y: 0, width: 56, height: 112))
    }

    @Test func descriptionsNameTheParameters() {
        let plan = Degradation.Resampling(width: 31, height: 31, down: .area, up: .cubic, quality: 75)
        #expect(Degradation.resample(plan).description == "reduce side=31 down=area up=cubic jpeg=75")
        #expect(Degradation.blur(sigma: 1.23456789).description == "blur sigma=1.2346")
        #expect(
            Degradation.occlude(ImageRegion(x: 1, y: 2, width: 3, height: 4), .noise(seed: 9)).description
                == "occlude x=1 y=2 width=3 height=4 fill=noise seed=9")
    }
}
