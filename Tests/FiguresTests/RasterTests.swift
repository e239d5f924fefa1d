import Figures
import Tensors
import Testing

@Suite struct RasterTests {
    private func pixel(_ image: RGBImage, _ x: Int, _ y: Int) -> [UInt8] {
        Array(image.pixels[3 * (y * image.width + x)..<3 * (y * image.width + x) + 3])
    }

    @Test func areaCoversWholeAndHalfPixels() {
        var drawing = Drawing(width: 8, height: 8)
        drawing.elements = [
            .area([Point(1, 1), Point(4.5, 1), Point(4.5, 3.25), Point(1, 3.25)], colour: .black, opacity: 1)
        ]
        let image = drawing.raster(scale: 1)
        #expect(image.width == 8 && image.height == 8)
        #expect(pixel(image, 0, 1) == [255, 255, 255])
        #expect(pixel(image, 1, 1) == [0, 0, 0] && pixel(image, 3, 2) == [0, 0, 0])
        #expect(pixel(image, 4, 2)[0] == 128)
        #expect(pixel(image, 2, 3)[0] == 191)
        #expect(pixel(image, 5, 2) == [255, 255, 255] && pixel(image, 2, 4) == [255, 255, 255])
    }

    @Test func opacityMixesWithWhatIsBelow() {
        var drawing = Drawing(width: 4, height: 4)
        let all = [Point(0, 0), Point(4, 0), Point(4, 4), Point(0, 4)]
        drawing.elements = [
            .area(all, colour: Colour(200, 0, 0), opacity: 1), .area(all, colour: Colour(0, 100, 0), opacity: 0.5),
        ]
        #expect(pixel(drawing.raster(), 5, 5) == [100, 50, 0])
    }

    @Test func lineHasItsWidthAndCrossingsAreDrawnOnce() {
        var drawing = Drawing(width: 20, height: 20)
        // Two points wide, four pixels at scale 2, along pixel borders.
        drawing.elements = [
            .line([Point(2, 10), Point(18, 10), Point(10, 10), Point(10, 2)], colour: .black, width: 2, dash: [])
        ]
        let image = drawing.raster(scale: 2)
        #expect((17..<23).map { pixel(image, 20, $0)[0] } == [0, 0, 0, 0, 0, 255])
        #expect((17..<23).map { pixel(image, 30, $0)[0] } == [255, 0, 0, 0, 0, 255])
        #expect(pixel(image, 38, 20)[0] == 255)
    }

    @Test func dashesLeaveGaps() {
        var drawing = Drawing(width: 30, height: 4)
        drawing.elements = [.line([Point(1, 2), Point(29, 2)], colour: .black, width: 1, dash: [6, 6])]
        let image = drawing.raster(scale: 1)
        // Drawn 1...7 and 13...19, with round ends of half a point.
        #expect([3, 5, 15, 17].allSatisfy { pixel(image, $0, 1)[0] < 130 })
        #expect([9, 11, 21, 23].allSatisfy { pixel(image, $0, 1)[0] == 255 })
    }

    @Test func nothingIsDrawnOutsideTheClipOrTheImage() {
        var drawing = Drawing(width: 10, height: 10)
        drawing.elements = [
            .clipped(
                Rectangle(2, 2, 4, 4),
                [
                    .line([Point(-1e12, 4), Point(1e12, 4)], colour: .black, width: 1, dash: []),
                    .area([Point(-50, -50), Point(3, -50), Point(3, 50), Point(-50, 50)], colour: .black, opacity: 1),
                    .line([Point(.nan, 4), Point(3, .infinity)], colour: .black, width: 1, dash: []),
                ])
        ]
        let image = drawing.raster(scale: 1)
        for y in 0..<10 {
            for x in 0..<10 where !(2..<6).contains(x) || !(2..<6).contains(y) {
                #expect(pixel(image, x, y) == [255, 255, 255])
            }
        }
        #expect(pixel(image, 2, 5) == [0, 0, 0])
        #expect(pixel(image, 5, 3)[0] < 255)
    }

    @Test func textLeavesInkWhereItIsAnchored() {
        func ink(_ text: Drawing.Text) -> (left: Int, right: Int, top: Int, bottom: Int) {
            var drawing = Drawing(width: 100, height: 60)
            drawing.elements = [.text(text)]
            let image = drawing.raster(scale: 1)
            var box = (left: 1000, right: -1, top: 1000, bottom: -1)
            for y in 0..<60 {
                for x in 0..<100 where pixel(image, x, y)[0] < 200 {
                    box = (min(box.left, x), max(box.right, x), min(box.top, y), max(box.bottom, y))
                }
            }
            return box
        }
        let start = ink(Drawing.Text(Label("HIH"), at: Point(50, 30), size: 14))
        // Capitals rise 0.716 of the size above the baseline.
        #expect(start.left >= 50 && start.top >= 18 && start.top <= 20 && (29...31).contains(start.bottom))
        let end = ink(Drawing.Text(Label("HIH"), at: Point(50, 30), size: 14, anchor: .end))
        #expect(end.right <= 50)
        let middle = ink(Drawing.Text(Label("HIH"), at: Point(50, 30), size: 14, anchor: .middle))
        #expect(abs((middle.left + middle.right) / 2 - 50) <= 1)
        let upwards = ink(Drawing.Text(Label("HIH"), at: Point(50, 50), size: 14, upwards: true))
        #expect(upwards.bottom <= 50 && upwards.bottom - upwards.top > 18 && upwards.right <= 51)
        // A letter that the font lacks is a box, not nothing.
        #expect(ink(Drawing.Text(Label("\u{4E00}"), at: Point(20, 30), size: 14)).right > 20)
    }

    @Test func pngIsSignedAndSized() throws {
        let plot = Plot(x: Plot.Axis("x"), y: Plot.Axis("y"), series: [Plot.Series("", [Point(0, 0), Point(1, 1)])])
        let bytes = try plot.png(scale: 2)
        #expect(bytes.prefix(8) == [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A])
        #expect(bytes[12..<16].elementsEqual("IHDR".utf8))
        func word(_ at: Int) -> Int { bytes[at..<at + 4].reduce(0) { $0 << 8 | Int($1) } }
        #expect(word(16) == 960 && word(20) == 680)
        // 8 bits, RGB.
        #expect(bytes[24] == 8 && bytes[25] == 2)
        #expect(bytes.suffix(8).prefix(4).elementsEqual("IEND".utf8))
    }
}
