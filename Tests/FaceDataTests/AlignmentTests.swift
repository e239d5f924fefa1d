import FaceData
import Foundation
import Tensors
import Testing

@Suite struct AlignmentTests {
    private let landmarks = [
        ImagePoint(40, 50), ImagePoint(75, 52), ImagePoint(58, 74), ImagePoint(44, 95), ImagePoint(72, 94),
    ]

    @Test func theKnownAlignment() throws {
        let found = try #require(FaceTemplate.standard.alignment(of: landmarks))
        // To the ten digits that are known.
        #expect(abs(found.a - 0.9634624104) < 1e-9 && abs(found.b + 0.0054683260) < 1e-9)
        #expect(abs(found.shift.x + 0.0611551158) < 1e-9 && abs(found.shift.y - 1.8840932846) < 1e-9)
    }

    /// No similarity nearby does better.
    @Test func theErrorIsLeast() throws {
        let template = FaceTemplate.standard
        let best = try #require(template.alignment(of: landmarks))
        func error(_ map: Similarity) -> Double {
            zip(landmarks, template.points).reduce(0) { sum, pair in
                let image = map(pair.0)
                return sum + pow(image.x - pair.1.x, 2) + pow(image.y - pair.1.y, 2)
            }
        }
        for step in [1e-3, -1e-3] {
            for change in 0..<4 {
                let other = Similarity(
                    a: best.a + (change == 0 ? step : 0), b: best.b + (change == 1 ? step : 0),
                    shift: ImagePoint(
                        best.shift.x + (change == 2 ? step : 0), best.shift.y + (change == 3 ? step : 0)))
                #expect(error(other) > error(best))
            }
        }
    }

    @Test func exactSimilaritiesAreFound() throws {
        let map = Similarity(a: 0.3, b: -1.2, shift: ImagePoint(12, -70))
        let found = try #require(Similarity(mapping: landmarks, to: landmarks.map { map($0) }))
        #expect(abs(found.a - map.a) < 1e-12 && abs(found.b - map.b) < 1e-12)
        #expect(abs(found.shift.x - 12) < 1e-9 && abs(found.shift.y + 70) < 1e-9)
        #expect(abs(found.scale - 1.53.squareRoot()) < 1e-12)
        let back = map.inverse(map(ImagePoint(3, 4)))
        #expect(abs(back.x - 3) < 1e-12 && abs(back.y - 4) < 1e-12)
    }

    /// Mirrored points are met by a rotation, never by a mirror image.
    @Test func nothingIsMirrored() throws {
        let mirrored = landmarks.map { ImagePoint(-$0.x, $0.y) }
        let found = try #require(Similarity(mapping: landmarks, to: mirrored))
        let corners = [ImagePoint(0, 0), ImagePoint(1, 0), ImagePoint(0, 1)].map { found($0) }
        let area =
            (corners[1].x - corners[0].x) * (corners[2].y - corners[0].y)
            - (corners[1].y - corners[0].y) * (corners[2].x - corners[0].x)
        #expect(area > 0)
    }

    @Test func degenerateLandmarks() {
        let template = FaceTemplate.standard
        #expect(template.alignment(of: Array(repeating: ImagePoint(5, 5), count: 5)) == nil)
        #expect(template.alignment(of: Array(repeating: ImagePoint(.nan, 5), count: 5)) == nil)
        #expect(template.alignment(of: [ImagePoint(.infinity, 1)] + Array(landmarks.dropFirst())) == nil)
        // On a line is enough for a similarity.
        #expect(template.alignment(of: (0..<5).map { ImagePoint(Double($0), 2 * Double($0)) }) != nil)
    }

    @Test func templates() {
        let large = FaceTemplate(size: 224)
        #expect(zip(large.points, FaceTemplate.standard.points).allSatisfy { abs($0.x - 2 * $1.x) < 1e-12 })
        let narrow = FaceTemplate(size: 112, width: 96)
        #expect(narrow.width == 96 && narrow.height == 112)
        #expect(zip(narrow.points, FaceTemplate.standard.points).allSatisfy { abs($0.x + 8 - $1.x) < 1e-12 })
    }

    @Test func warping() {
        let image = testImage(5, width: 30, height: 20)
        let same = Similarity(a: 1, b: 0, shift: ImagePoint(0, 0))
        #expect(image.warped(by: same, width: 30, height: 20) == image)
        // By whole pixels; what comes from outside is black.
        let moved = image.warped(by: Similarity(a: 1, b: 0, shift: ImagePoint(3, 2)), width: 30, height: 20)
        for y in 0..<20 {
            for x in 0..<30 {
                let expected = x >= 3 && y >= 2 ? image.pixels[3 * (30 * (y - 2) + x - 3)] : 0
                #expect(moved.pixels[3 * (30 * y + x)] == expected)
            }
        }
        // Half a pixel: the mean of two, at the border with black.
        let half = image.warped(by: Similarity(a: 1, b: 0, shift: ImagePoint(0.5, 0)), width: 30, height: 20)
        for x in 0..<30 {
            let left = x == 0 ? 0 : Double(image.pixels[3 * (x - 1)])
            #expect(abs(Double(half.pixels[3 * x]) - (left + Double(image.pixels[3 * x])) / 2) <= 0.5)
        }
        // Far away there is nothing.
        let far = image.warped(by: Similarity(a: 1, b: 0, shift: ImagePoint(1e9, -1e9)), width: 4, height: 4)
        #expect(far == RGBImage(width: 4, height: 4))
    }

    /// The landmarks of a photo come to the template's places.
    @Test func aFaceIsCutOut() throws {
        let map = Similarity(a: 1.4, b: 0.5, shift: ImagePoint(30, 10))
        let points = FaceTemplate.standard.points.map { map($0) }
        var photo = RGBImage(width: 200, height: 220)
        for point in points {
            photo = photo.filled(
                ImageRegion(x: Int(point.x.rounded()) - 1, y: Int(point.y.rounded()) - 1, width: 3, height: 3),
                with: (255, 255, 255))
        }
        let alignment = try #require(FaceTemplate.standard.alignment(of: points))
        let face = FaceTemplate.standard.aligned(photo, by: alignment)
        #expect(face.width == 112 && face.height == 112)
        for point in FaceTemplate.standard.points {
            #expect(face.pixels[3 * (112 * Int(point.y.rounded()) + Int(point.x.rounded()))] > 128)
        }
        #expect(face.pixels.filter { $0 > 128 }.count < 3 * 60)
    }

    // MARK: - Lists

    private let row = "40 50 75 52 58 74 44 95 72 94"

    @Test func listsOfLandmarks() throws {
        let scratch = Scratch()
        let tabs = "a/b c.jpg\t" + row.replacingOccurrences(of: " ", with: "\t")
        let path = scratch.write(
            "points.txt", "# path x1 ...\n\(tabs)\r\n\nd.jpg \(row)\nwith space.png  \(row)\ne.jpg\t\(row)\n")
        let list = try LandmarkList(path)
        #expect(list.entries.map(\.path) == ["a/b c.jpg", "d.jpg", "with space.png", "e.jpg"])
        #expect(list.entries.map(\.line) == [2, 4, 5, 6])
        #expect(list.entries.allSatisfy { $0.points == landmarks } && list.failures.isEmpty)
    }

    @Test func badRowsAreNamed() throws {
        let scratch = Scratch()
        let bad = [
            "a.jpg 1 2 3", "b.jpg \(row) 7", "c.jpg 1 1 1 1 1 1 1 1 1 1", "d.jpg nan 50 75 52 58 74 44 95 72 94",
            "../e.jpg\t\(row)", "/f.jpg \(row)", "g.jpg 40 50 75 52 58 74 44 95 72 x", "\(row)", "good.jpg \(row)",
            "h.jpg 1e7 50 75 52 58 74 44 95 72 94",
        ]
        let list = try LandmarkList(scratch.write("bad.txt", "good.jpg \(row)\n" + bad.joined(separator: "\n")))
        // "b.jpg 40" is a path with a space as good as any.
        #expect(list.entries.map(\.path) == ["good.jpg", "b.jpg 40"])
        let lines = [2, 4, 5, 6, 7, 8, 9, 10, 11].map { FaceDataError.Place.line($0) }
        #expect(list.failures.compactMap(\.place) == lines)
        #expect(list.failures.allSatisfy { $0.kind == .malformed && $0.file.hasSuffix("bad.txt") })
        for text in ["", "# nothing\n", "x 1\n"] {
            #expect(throws: FaceDataError.self) { try LandmarkList(scratch.write("none.txt", text)) }
        }
    }

    @Test(.enabled(if: Fixture.realFaces != nil, "set ACUITY_FACES to the folder of real faces"))
    func theLandmarksOfLFW() throws {
        let list = try LandmarkList(Fixture.realFaces! + "/lfw-protocol/landmarks-5pt.txt")
        #expect(list.failures.isEmpty && list.entries.count > 7000)
        let first = list.entries[0]
        #expect(first.path == "Aaron_Eckhart/Aaron_Eckhart_0001.jpg")
        #expect(first.points[0] == ImagePoint(107, 107) && first.points[4] == ImagePoint(139, 161))
    }
}
