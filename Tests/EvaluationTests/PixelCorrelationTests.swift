import Evaluation
import Tensors
import Testing

@Suite struct PixelCorrelationTests {
    private func image(_ value: (Int, Int) -> Int) -> RGBImage {
        var image = RGBImage(width: 8, height: 6)
        for y in 0..<6 {
            for x in 0..<8 { for c in 0..<3 { image.pixels[3 * (8 * y + x) + c] = UInt8(value(x, y)) } }
        }
        return image
    }

    @Test func brightnessAndContrastDoNotMatter() throws {
        let ramp = image { x, y in 10 * x + 3 * y }
        let brighter = image { x, y in 100 + 20 * x / 2 + 3 * y }
        let negative = image { x, y in 200 - 10 * x - 3 * y }
        #expect(abs(try PixelCorrelation.similarity(ramp, brighter) - 1) < 1e-6)
        #expect(abs(try PixelCorrelation.similarity(ramp, negative) + 1) < 1e-6)
        // Stripes across the ramp's direction have nothing in common with it.
        let stripes = image { x, y in y % 2 == 0 ? 0 : 200 }
        let columns = image { x, y in 10 * x }
        #expect(abs(try PixelCorrelation.similarity(columns, stripes)) < 1e-6)
    }

    @Test func oneColourCorrelatesWithNothing() throws {
        let grey = image { _, _ in 77 }
        #expect(try PixelCorrelation.similarity(grey, grey) == 0)
        #expect(try PixelCorrelation.similarity(grey, image { x, _ in x }) == 0)
    }

    @Test func colourIsWeighedByLuma() throws {
        var coloured = RGBImage(width: 2, height: 1)
        coloured.pixels = [200, 0, 0, 0, 200, 0]
        var grey = RGBImage(width: 2, height: 1)
        grey.pixels = [10, 10, 10, 20, 20, 20]
        // Green is the brighter of the two.
        #expect(abs(try PixelCorrelation.similarity(coloured, grey) - 1) < 1e-6)
    }

    @Test func sizesMustAgree() {
        #expect(throws: EvaluationError.sizesDiffer(first: "8x6", second: "2x2")) {
            try PixelCorrelation.similarity(image { _, _ in 0 }, RGBImage(width: 2, height: 2))
        }
    }
}
