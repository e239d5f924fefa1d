import FaceData
import Foundation
import Tensors
import Testing

@Suite struct ImageCodecTests {
    @Test func pngKeepsEveryPixel() throws {
        let image = testImage(1, width: 37, height: 21)
        let bytes = try ImageCodec.encodePNG(image)
        #expect(ImageCodec.format(of: bytes) == .png)
        let info = try ImageCodec.info(bytes)
        #expect(info.format == .png && info.width == 37 && info.height == 21 && !info.isGrey)
        #expect(try ImageCodec.decode(bytes) == image)
    }

    /// A large JPEG is decoded at the least eighth of its size that covers what is needed.
    @Test(arguments: [
        (250, 250, 112, 112, 125, 125), (1000, 600, 112, 112, 250, 150), (224, 300, 112, 112, 112, 150),
        (113, 500, 112, 112, 113, 500), (112, 112, 112, 112, 112, 112), (50, 40, 112, 112, 50, 40),
        (128, 128, 112, 112, 112, 112), (897, 897, 112, 112, 113, 113), (1300, 1300, 112, 96, 163, 163),
    ])
    func largeImagesAreDecodedSmaller(
        _ width: Int, _ height: Int, _ coverWidth: Int, _ coverHeight: Int, _ wantedWidth: Int, _ wantedHeight: Int
    ) throws {
        var smooth = RGBImage(width: width, height: height)
        for y in 0..<height {
            for x in 0..<width {
                let value = 128 + 100 * sin(6 * Double(x) / Double(width)) * cos(5 * Double(y) / Double(height))
                for c in 0..<3 { smooth.pixels[3 * (y * width + x) + c] = UInt8(value) }
            }
        }
        let jpeg = try ImageCodec.encodeJPEG(smooth, quality: 95)
        var image = RGBImage(width: 3, height: 5)
        func decode(_ bytes: [UInt8]) throws {
            try bytes.withUnsafeBytes {
                try ImageCodec.decode($0, into: &image, limits: ImageLimits(), covering: (coverWidth, coverHeight))
            }
        }
        try decode(jpeg)
        #expect(image.width == wantedWidth && image.height == wantedHeight)
        let preprocessing = Preprocessing.arcFace
        let reduced = preprocessing.fitted(image)
        let whole = preprocessing.fitted(try ImageCodec.decode(jpeg))
        let error = zip(reduced.pixels, whole.pixels).reduce(0.0) { $0 + abs(Double($1.0) - Double($1.1)) }
        #expect(error / Double(whole.pixels.count) < 1.5)
        // A PNG has no such way.
        try decode(ImageCodec.encodePNG(smooth))
        #expect(image == smooth)
    }

    @Test(arguments: [ImageCodec.Subsampling.full444, .half420])
    func jpegIsCloseToTheOriginal(_ subsampling: ImageCodec.Subsampling) throws {
        let image = testImage(2, width: 50, height: 33)
        let bytes = try ImageCodec.encodeJPEG(image, quality: 95, subsampling: subsampling)
        let decoded = try ImageCodec.decode(bytes)
        #expect(decoded.width == 50 && decoded.height == 33)
        let error = zip(image.pixels, decoded.pixels).reduce(0.0) { $0 + abs(Double($1.0) - Double($1.1)) }
        #expect(error / Double(image.pixels.count) < (subsampling == .full444 ? 3 : 6))
    }

    @Test func subsamplingAndQualityShowInTheSize() throws {
        let image = testImage(3)
        let full = try ImageCodec.encodeJPEG(image, quality: 90, subsampling: .full444).count
        let half = try ImageCodec.encodeJPEG(image, quality: 90, subsampling: .half420).count
        let poor = try ImageCodec.encodeJPEG(image, quality: 10, subsampling: .half420).count
        #expect(full > half && half > poor)
        #expect(throws: ImageError.self) { try ImageCodec.encodeJPEG(image, quality: 0) }
        #expect(throws: ImageError.self) { try ImageCodec.encodeJPEG(image, quality: 101) }
    }

    @Test func everyTruncationOfAJPEGIsRefused() throws {
        let bytes = try ImageCodec.encodeJPEG(testImage(4, width: 40, height: 40), quality: 80)
        for count in 0..<bytes.count {
            #expect(throws: ImageError.self, "\(count) of \(bytes.count) bytes") {
                try ImageCodec.decode(Array(bytes.prefix(count)))
            }
        }
    }

    @Test func aTruncatedPNGIsRefused() throws {
        let image = testImage(5, width: 40, height: 40)
        let bytes = try ImageCodec.encodePNG(image)
        // Without the end chunk (12 bytes) and the checksums before it all pixels may still be there.
        for count in 0..<bytes.count {
            let decoded = try? ImageCodec.decode(Array(bytes.prefix(count)))
            #expect(count < bytes.count - 24 ? decoded == nil : decoded == nil || decoded == image)
        }
    }

    @Test func limitsHoldBeforeDecoding() throws {
        let bytes = try ImageCodec.encodePNG(testImage(6, width: 64, height: 64))
        let pixels = #expect(throws: ImageError.self) {
            try ImageCodec.decode(bytes, limits: ImageLimits(pixels: 64 * 64 - 1))
        }
        #expect(pixels?.kind == .tooLarge)
        #expect(throws: Never.self) { try ImageCodec.decode(bytes, limits: ImageLimits(pixels: 64 * 64)) }
        let encoded = #expect(throws: ImageError.self) {
            try ImageCodec.info(bytes, limits: ImageLimits(encodedBytes: bytes.count - 1))
        }
        #expect(encoded?.kind == .tooLarge)
    }

    @Test func anAnnouncedGiantIsRefusedByItsHeader() throws {
        // Width and height of the header chunk set to 65535 x 65535, its checksum made right.
        var bytes = try ImageCodec.encodePNG(testImage(7, width: 8, height: 8))
        for (offset, value) in [(16, 0), (17, 0), (18, 0xFF), (19, 0xFF), (20, 0), (21, 0), (22, 0xFF), (23, 0xFF)] {
            bytes[offset] = UInt8(value)
        }
        var crc: UInt32 = 0xFFFF_FFFF
        for byte in bytes[12..<29] {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
        }
        crc = ~crc
        for shift in 0..<4 { bytes[29 + shift] = UInt8(truncatingIfNeeded: crc >> UInt32(24 - 8 * shift)) }
        let error = #expect(throws: ImageError.self) { try ImageCodec.decode(bytes) }
        #expect(error?.kind == .tooLarge)
    }

    @Test func theLibraryIsKnown() { #expect(ImageCodec.pngVersion.hasPrefix("1.")) }

    @Test func otherBytesAreNamedAsSuch() {
        for bytes in [[], Array("GIF89a".utf8), [0xFF, 0xD8], [UInt8](repeating: 0, count: 100)] {
            let error = #expect(throws: ImageError.self) { try ImageCodec.decode(bytes) }
            #expect(error?.kind == .unknownFormat)
        }
    }

    /// Pillow wrote these files and says what is in them.
    @Test func filesOfPillowDecodeAsPillowDecodesThem() throws {
        for name in ["grey.jpg", "colour.jpg", "progressive.jpg", "grey.png", "palette.png", "alpha.png", "deep.png"] {
            let decoded = try ImageCodec.decode(Fixture.bytes(name))
            let expected = Fixture.bytes(name + ".rgb")
            #expect(decoded.pixels.count == expected.count, "\(name)")
            let worst = zip(decoded.pixels, expected).map { abs(Int($0) - Int($1)) }.max()
            #expect(worst == 0, "\(name)")
        }
        #expect(try ImageCodec.info(Fixture.bytes("grey.jpg")).isGrey)
    }

    @Test func aCMYKJPEGIsRefusedByName() {
        let error = #expect(throws: ImageError.self) { try ImageCodec.decode(Fixture.bytes("cmyk.jpg")) }
        #expect(error?.kind == .unsupported)
        #expect(error?.description.contains("CMYK") == true)
    }

    @Test func mutatedImagesNeverTrap() throws {
        let image = testImage(8, width: 24, height: 24)
        let limits = ImageLimits(encodedBytes: 1 << 20, pixels: 1 << 16)
        for bytes in [
            try ImageCodec.encodePNG(image), try ImageCodec.encodeJPEG(image), Fixture.bytes("progressive.jpg"),
        ] {
            var decoded = 0
            let rounds = mutate(bytes, seconds: 0.4) { variant in
                if let result = try? ImageCodec.decode(variant, limits: limits) {
                    decoded += 1
                    #expect(result.width * result.height <= 1 << 16)
                }
            }
            #expect(rounds > 100 && decoded < rounds)
        }
    }
}
