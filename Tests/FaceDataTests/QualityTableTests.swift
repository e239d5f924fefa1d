import FaceData
import Tensors
import Testing

@Suite struct QualityTableTests {
    private func failure(_ body: () throws -> Void) -> String {
        do {
            try body()
            return "nothing"
        } catch {
            return "\(error)"
        }
    }

    @Test func linesAreSplitAtTheirLastTab() throws {
        let scratch = Scratch()
        let path = scratch.write("q.tsv", "a b/c d.jpg\t12.5\nrecord key 7\t1e-05\r\nwith\ttab\t-3\n\n")
        let table = try QualityTable(path)
        #expect(table.count == 3)
        #expect(table["a b/c d.jpg"] == 12.5 && table["record key 7"] == 1e-05 && table["with\ttab"] == -3)
        #expect(table["a"] == nil)
    }

    @Test func scoresAreReadAsCommaSeparatedValues() throws {
        let scratch = Scratch()
        let path = scratch.write(
            "q.csv", "identity,image,quality\nA,\"a, \"\"b\"\".png\",0.25\nB,c.png,7\n")
        let table = try QualityTable(path)
        #expect(table["a, \"b\".png"] == 0.25 && table["c.png"] == 7)
        #expect(CSV.field("a, \"b\".png") == "\"a, \"\"b\"\".png\"")
        #expect(CSV.field("plain name.png") == "plain name.png")
        for text in ["", ",", "a\"b", " x", "\"\"", "é,\n"] { #expect(CSV.fields(CSV.field(text)) == [text]) }
        #expect(CSV.fields("a,\"b") == nil)
    }

    @Test(arguments: [
        ("a\t1\nb\n", "line 2: expected key and value, separated by a tab"),
        ("a\t1\nb\tx\n", "line 2: \"x\" is not a finite number"),
        ("a\tnan\n", "line 1: \"nan\" is not a finite number"),
        ("a\t1\nb\t2\na\t3\n", "line 3: a comes twice"),
        ("\t1\n", "line 1: the key is empty"), ("\n", "lists no image"),
    ])
    func whatIsWrongIsNamed(text: String, reason: String) {
        let scratch = Scratch()
        let path = scratch.write("q.tsv", text)
        let found = failure { _ = try QualityTable(path) }
        #expect(found.hasPrefix(path) && found.contains(reason), "\(found)")
    }

    @Test func columnsOfOtherFilesAreRefused() {
        let scratch = Scratch()
        let path = scratch.write("q.csv", "name,score\na,1\n")
        #expect(failure { _ = try QualityTable(path) }.contains("line 1: the first line does not name the columns"))
    }

    @Test func aSourceGetsItsQualities() throws {
        let scratch = Scratch()
        let source = MemorySource(classes: 2, perClass: 2, size: 8)
        let whole = try QualityTable(scratch.write("a.tsv", (0..<4).map { "image \($0)\t\($0 * 10)\n" }.joined()))
        let all = try whole.qualities(of: source, missing: .refuse(allowedBy: "no way"))
        #expect(all.values == [0, 10, 20, 30] && all.missing == 0)
        let part = try QualityTable(scratch.write("b.tsv", "image 2\t5\nother\t6\n"))
        let some = try part.qualities(of: source, missing: .value(50))
        #expect(some.values == [50, 50, 5, 50] && some.missing == 3)
        let refused = failure { _ = try part.qualities(of: source, missing: .refuse(allowedBy: "say so")) }
        #expect(refused.contains("b.tsv: lacks 3 of 4 images of memory: image 0, image 1, image 3"))
        #expect(refused.contains("say so"))
        // A table of something else altogether is a mistake, whatever missing images may get.
        let foreign = try QualityTable(scratch.write("c.tsv", "x\t5\n"))
        #expect(failure { _ = try foreign.qualities(of: source, missing: .value(50)) }.contains("lacks 4 of 4 images"))
        #expect(
            failure { _ = try foreign.qualities(of: source, missing: .refuse(allowedBy: "say so")) }
                .contains("keys are those of another data set"))
    }

    @Test func whatIsWrittenIsRead() throws {
        let scratch = Scratch()
        let path = scratch.path + "/made.tsv"
        let values: [Float?] = [1.0 / 3, nil, 99.999_99, 0]
        try QualityTable.write(path, count: 4) { index in values[index].map { ("key \(index)", $0) } }
        let table = try QualityTable(path)
        #expect(table.count == 3)
        for index in 0..<4 { #expect(table["key \(index)"] == values[index]) }
        #expect(QualityTable.problem(withKey: "a b") == nil)
        #expect(QualityTable.problem(withKey: "a\nb")?.contains("line break") == true)
    }

    @Test func hostileTablesAreRefusedOrRead() {
        let scratch = Scratch()
        let bytes = Array("image 0\t1.5\n\"image, 1\"\t2\nimage 2\t3e4\n".utf8)
        let rounds = mutate(bytes, seconds: 0.2) { variant in
            for name in ["x.tsv", "x.csv"] { _ = try? QualityTable(scratch.write(name, variant)) }
        }
        #expect(rounds > 10)
    }
}

@Suite struct ImageCollectionTests {
    private let png = try! ImageCodec.encodePNG(testImage(1, width: 6, height: 5))

    @Test func aFolderOfImages() throws {
        let scratch = Scratch()
        for name in ["b 2.png", "a.PNG", "notes.txt"] { scratch.write(name, png) }
        let images = try ImageCollection.open(scratch.path)
        #expect(images.count == 2 && images.labels == nil)
        #expect((0..<2).map(images.key) == ["a.PNG", "b 2.png"])
        #expect(try images.image(1).width == 6)
        #expect(images.notes == ["1 entries that are no images were left out"])
        scratch.write("deeper/c.png", png)
        let error = #expect(throws: FaceDataError.self) { try ImageCollection.open(scratch.path) }
        #expect(error?.description.contains("holds both images (a.PNG) and folders (deeper)") == true)
    }

    @Test func identitiesAndPairs() throws {
        let scratch = Scratch()
        for name in ["a/1.png", "b/1.png", "b/2.png"] { scratch.write(name, png) }
        let folder = try ImageCollection.open(scratch.path)
        #expect(folder.labels == [0, 1, 1] && folder.key(2) == "b/2.png")
        try PairSet.writeBin([png, png], same: [true], to: scratch.path + "/p.bin")
        let pairs = try ImageCollection.open(scratch.path + "/p.bin")
        #expect(pairs.count == 2 && pairs.labels == nil && pairs.key(1) == "image 1")
    }

    @Test func degradation() throws {
        let scratch = Scratch()
        let face = try ImageCodec.encodePNG(testImage(5))
        for name in ["a/1.png", "a/2.png"] { scratch.write(name, face) }
        let plain = try ImageCollection.open(scratch.path)
        let small = try ImageCollection.open(scratch.path, degrade: "16")
        #expect(small.degradation == "16 px" && small.key(0) == plain.key(0) && small.labels == plain.labels)
        #expect(try small.image(0) == Degradation.reduce(side: 16).apply(to: plain.image(0)))
        let table = scratch.write("t.txt", "a/1.png\tblur\t2\t0\n")
        let error = #expect(throws: FaceDataError.self) { try ImageCollection.open(scratch.path, degrade: table) }
        #expect(error?.description.contains("does not list a/2.png") == true)
    }
}
