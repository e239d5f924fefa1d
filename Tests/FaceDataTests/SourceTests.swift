import FaceData
import Foundation
import Tensors
import Testing

@Suite struct FolderSourceTests {
    private let png = try! ImageCodec.encodePNG(testImage(1, width: 6, height: 5))

    @Test func identitiesAndImagesAreSortedByBytes() throws {
        let scratch = Scratch()
        for name in [
            "b/2.png", "b/10.jpg", "a/x.PNG", "B/1.jpeg", "é/1.png", ".hidden/1.png", "a/.y.png", "a/notes.txt",
        ] {
            scratch.write(name, png)
        }
        scratch.write("README", "x")
        let source = try FolderSource(scratch.path + "/")
        #expect(source.classCount == 4 && source.count == 5)
        #expect((0..<4).map(source.identityName) == ["B", "a", "b", "é"])
        #expect((0..<5).map(source.key) == ["B/1.jpeg", "a/x.PNG", "b/10.jpg", "b/2.png", "é/1.png"])
        #expect((0..<5).map(source.label) == [0, 1, 2, 2, 3])
        #expect(try source.encodedBytes(of: 3) == png)
        #expect(source.notes == ["2 entries that are no images were left out"])
        #expect(try FaceSources.open(scratch.path) is FolderSource)
    }

    @Test func anEmptyIdentityIsNamed() {
        let scratch = Scratch()
        scratch.write("a/1.png", png)
        scratch.makeFolder("empty one")
        let error = #expect(throws: FaceDataError.self) { try FolderSource(scratch.path) }
        #expect(error?.description.contains("/empty one: an identity without images") == true)
    }

    @Test func aFolderNamedLikeAnImageIsAnUnreadableImage() throws {
        let scratch = Scratch()
        scratch.write("a/1.png", png)
        scratch.makeFolder("a/2.png")
        let source = try FolderSource(scratch.path)
        #expect(source.count == 2)
        let error = #expect(throws: FaceDataError.self) { try source.image(at: 1) }
        #expect(error?.description.contains("a/2.png: not a regular file") == true)
    }

    @Test func noIdentitiesAndNoFolder() {
        let scratch = Scratch()
        scratch.write("1.png", png)
        #expect(throws: FaceDataError.self) { try FolderSource(scratch.path) }
        let missing = #expect(throws: FaceDataError.self) { try FaceSources.open(scratch.path + "/none") }
        #expect(missing?.kind == .missing)
    }

    @Test func aTruncatedImageIsNamed() throws {
        let scratch = Scratch()
        scratch.write("a/1.png", Array(png.prefix(60)))
        let error = #expect(throws: FaceDataError.self) { try FolderSource(scratch.path).image(at: 0) }
        #expect(error?.description.contains("a/1.png: not a readable image") == true)
    }
}

@Suite struct ListSourceTests {
    private let png = try! ImageCodec.encodePNG(testImage(2, width: 6, height: 5))

    private func list(_ text: String, in scratch: Scratch = Scratch()) throws -> ListSource {
        for name in ["x/1.png", "x/2.png", "3.png"] { scratch.write(name, png) }
        return try ListSource(scratch.write("list.tsv", text))
    }

    @Test func pathsAndLabels() throws {
        let scratch = Scratch()
        let source = try list("x/1.png\t1\r\n\nx/2.png\t0\n\(scratch.path)/3.png\t1", in: scratch)
        #expect(source.count == 3 && source.classCount == 2 && source.form == .pathLabel)
        #expect((0..<3).map(source.label) == [1, 0, 1])
        for index in 0..<3 { #expect(try source.encodedBytes(of: index) == png) }
        #expect(try FaceSources.open(scratch.path + "/list.tsv").count == 3)
    }

    @Test func unusedLabelsAreClosedUp() throws {
        let source = try list("x/1.png\t7\nx/2.png\t3\n3.png\t7\n")
        #expect(source.classCount == 2 && (0..<3).map(source.label) == [1, 0, 1])
        #expect(source.identityName(1) == "7" && source.notes.count == 1)
    }

    @Test func theFormsOfOtherTools() throws {
        let im2rec = try list("5\t1.000000\tx/1.png\n9\t0.000000\t3.png\n")
        #expect(im2rec.form == .im2rec && im2rec.label(of: 0) == 1 && im2rec.key(of: 1) == "3.png")
        let many = try list("5\t1\t0.5\t0.25\tx/1.png\n9\t0\t1\t1\t3.png\n")
        #expect(many.form == .im2rec && many.label(of: 0) == 1)
        let insightface = try list("1\tx/1.png\t0\n0\tx/2.png\t1\t10\t20\t30\t40\n")
        #expect(insightface.form == .insightface && (0..<2).map(insightface.label) == [0, 1])
    }

    @Test(arguments: [
        "x/1.png\t0\nx/2.png\n", "x/1.png\t0\nx/2.png\t-1\n", "x/1.png\t0\nx/2.png\tnan\n",
        "x/1.png\t0\nx/2.png\t1.5\n",
        "x/1.png\t0\nx/2.png\t2147483648\n", "x/1.png\t0\n\t1\n", "x/1.png\t0\nx/none.png\t1\n", "x/1.png\t0\nx\t1\n",
        "x/1.png\t0\nx/2.png\t\n", "x/1.png\t0\nx/2.png\t0\t0\n", "x/1.png\t0\nx/2.png\tinf\n",
    ])
    func errorsNameTheLine(_ text: String) {
        let error = #expect(throws: FaceDataError.self) { try list(text) }
        #expect(error?.place == .line(2))
    }

    @Test func emptyListsAndLongLines() {
        #expect(throws: FaceDataError.self) { try list("\n\n") }
        let error = #expect(throws: FaceDataError.self) {
            try list("x/1.png\t0\n" + String(repeating: "y", count: 3 << 20))
        }
        #expect(error?.place == .line(2))
    }

    @Test func linesAcrossReadingBlocksStayWhole() throws {
        let scratch = Scratch()
        scratch.write("3.png", png)
        let count = 150_000
        let source = try list(String(repeating: "./3.png\t0\n", count: count) + "3.png\t1\n", in: scratch)
        #expect(source.count == count + 1 && source.classCount == 2)
        #expect((0..<count).allSatisfy { source.key(of: $0) == "./3.png" })
    }

    @Test func aSubsetRenumbersItsClasses() throws {
        let source = MemorySource(classes: 4, perClass: 2, size: 8)
        let subset = try SubsetSource(source, indices: [7, 2, 3, 6])
        #expect(subset.count == 4 && subset.classCount == 2)
        #expect((0..<4).map(subset.label) == [1, 0, 0, 1])
        #expect(subset.key(of: 0) == "image 7" && subset.identityName(1) == "person 3")
        #expect(try subset.image(at: 1) == testImage(2, width: 8, height: 8))
        #expect(throws: FaceDataError.self) { try SubsetSource(source, indices: []) }
    }

    @Test func otherFilesAreExplained() throws {
        let scratch = Scratch()
        for name in ["a.bin", "a.png"] {
            scratch.write(name, "x")
            let error = #expect(throws: FaceDataError.self) { try FaceSources.open(scratch.path + "/" + name) }
            #expect(error?.kind == .unsupported)
        }
    }

    @Test(.enabled(if: Fixture.realFaces != nil, "set ACUITY_FACES to the folder of real faces"))
    func theListOfRealFaces() throws {
        let source = try ListSource(Fixture.realFaces! + "/train.tsv", folder: Fixture.realFaces! + "/train")
        #expect(source.count == 17_834 && source.classCount == 398)
        for index in stride(from: 0, to: source.count, by: 997) {
            let image = try source.image(at: index)
            #expect(image.width == 112 && image.height == 112)
        }
    }
}
