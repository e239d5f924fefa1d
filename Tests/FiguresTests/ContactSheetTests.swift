import Figures
import Tensors
import Testing

@Suite struct ContactSheetTests {
    private func items(_ count: Int, caption: [String] = []) -> [ContactSheet.Item] {
        (0..<count).map { n in
            ContactSheet.Item(
                RGBImage(width: 20, height: 30, fill: (UInt8(10 * n), 200, 7)), caption: caption)
        }
    }

    private func pixel(_ image: RGBImage, _ x: Int, _ y: Int) -> [UInt8] {
        Array(image.pixels[3 * (y * image.width + x)..<3 * (y * image.width + x) + 3])
    }

    @Test func gridWithoutCaptions() {
        let sheet = ContactSheet(items(7), columns: 3, background: Colour(1, 2, 3), gap: 4)
        let image = sheet.image()
        #expect(sheet.rows == 3)
        #expect(image.width == 3 * 24 + 4 && image.height == 3 * 34 + 4)
        for index in 0..<7 {
            let frame = sheet.frame(of: index)
            #expect(frame == Rectangle(Double(4 + index % 3 * 24), Double(4 + index / 3 * 34), 20, 30))
            let (x, y) = (Int(frame.x), Int(frame.y))
            #expect(pixel(image, x, y) == [UInt8(10 * index), 200, 7])
            #expect(pixel(image, x + 19, y + 29) == [UInt8(10 * index), 200, 7])
            #expect(pixel(image, x - 1, y) == [1, 2, 3] && pixel(image, x + 20, y) == [1, 2, 3])
        }
        // The places of the last row without images stay empty.
        #expect(pixel(image, 4 + 24 + 5, 4 + 68 + 5) == [1, 2, 3])
    }

    @Test func smallerImagesAreCentredAndEnlarged() {
        let mixed = [
            ContactSheet.Item(RGBImage(width: 20, height: 30)),
            ContactSheet.Item(RGBImage(width: 10, height: 30, fill: (9, 9, 9))),
        ]
        let sheet = ContactSheet(mixed, columns: 2, enlargement: 2, gap: 0)
        #expect(sheet.frame(of: 1) == Rectangle(40 + 10, 0, 20, 60))
        #expect(pixel(sheet.image(), 50, 59) == [9, 9, 9])
        #expect(pixel(sheet.image(), 49, 59) == [255, 255, 255])
    }

    @Test func captionsStandBelowTheImages() {
        let sheet = ContactSheet(items(2, caption: ["H", "H"]), columns: 1, gap: 4)
        let image = sheet.image()
        let (first, second) = (sheet.frame(of: 0), sheet.frame(of: 1))
        let between = Int(first.bottom)..<Int(second.y)
        #expect(between.count >= 2 * 14)
        let ink = between.filter { y in (0..<image.width).contains { pixel(image, $0, y)[0] < 128 } }
        #expect(!ink.isEmpty)
        #expect(pixel(image, 4, Int(second.y)) == [10, 200, 7])
    }

    @Test func longCaptionsAreShortened() {
        #expect(ContactSheet.shortened("short", to: 200) == "short")
        let cut = ContactSheet.shortened("a caption that is far too long for its image", to: 112)
        #expect(cut.hasSuffix("…") && cut.count < 25 && cut.hasPrefix("a capt"))
    }

    @Test func sheetIsAboutSquareByDefault() throws {
        #expect(ContactSheet(items(10)).columns == 4)
        #expect(ContactSheet(items(1)).columns == 1)
        let bytes = try ContactSheet(items(4), title: "t").png()
        #expect(bytes.prefix(4) == [0x89, 0x50, 0x4E, 0x47])
    }
}
