import FaceData
import Foundation
import Tensors
import Testing

/// Another source whose disk fails at one record.
private struct FailingSource: FaceSource {
    let base: any FaceSource
    let failing: Int

    var location: String { base.location }
    var count: Int { base.count }
    var classCount: Int { base.classCount }
    func label(of index: Int) -> Int { base.label(of: index) }
    func key(of index: Int) -> String { base.key(of: index) }
    func identityName(_ label: Int) -> String { base.identityName(label) }
    func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] {
        if index == failing { throw FaceDataError(.cannotRead, file: "disk", "fails") }
        return try base.encodedBytes(of: index)
    }
}

@Suite struct RecordPackerTests {
    private static let suffixes = [".rec", ".idx", ".lst"]

    private func folder(_ people: [String: Int], in scratch: Scratch, name: String, size: Int = 8) throws
        -> FolderSource
    {
        var seed: UInt64 = UInt64(name.utf8.reduce(0) { $0 + Int($1) })
        for (person, count) in people.sorted(by: { $0.key < $1.key }) {
            for image in 0..<count {
                seed += 1
                scratch.write(
                    "\(name)/\(person)/\(image).png",
                    try ImageCodec.encodePNG(testImage(seed, width: size, height: size)))
            }
        }
        return try FolderSource(scratch.path + "/" + name)
    }

    private func text(_ scratch: Scratch, _ name: String) -> String {
        String(decoding: scratch.bytes(name), as: UTF8.self)
    }

    private func exists(_ scratch: Scratch, _ name: String) -> Bool {
        FileManager.default.fileExists(atPath: scratch.path + "/" + name)
    }

    // MARK: - Several sources, selection

    @Test func severalSourcesKeepTheirIdentitiesApart() throws {
        let scratch = Scratch()
        let a = try folder(["ann": 2, "bob": 1], in: scratch, name: "a")
        let b = try folder(["bob": 3, "cid": 1], in: scratch, name: "b")
        let summary = try RecordPacker.pack([a, b], to: scratch.path + "/joined")
        #expect(summary.images == 7 && summary.classes == 4)
        let packed = try RecordIOSource(scratch.path + "/joined.rec")
        #expect((0..<7).map(packed.label) == [0, 0, 1, 2, 2, 2, 3])
        #expect(
            text(scratch, "classes.tsv")
                == "# joined.rec: label, identity, source, images\n0\tann\ta\t2\n1\tbob\ta\t1\n2\tbob\tb\t3\n3\tcid\tb\t1\n"
        )
        #expect(text(scratch, "joined.lst").hasPrefix("1\ta/ann/0.png\t0\n"))
        #expect(try packed.encodedBytes(of: 3) == b.encodedBytes(of: 0))
    }

    @Test func sharedLabelsJoinIdentitiesByName() throws {
        let scratch = Scratch()
        let a = try folder(["ann": 2, "bob": 1], in: scratch, name: "a")
        let b = try folder(["bob": 3, "cid": 1], in: scratch, name: "b")
        var options = RecordPacker.Options()
        options.selection.labels = .shared
        let summary = try RecordPacker.pack([a, b], to: scratch.path + "/joined", options: options)
        #expect(summary.classes == 3 && summary.notes.isEmpty)
        let packed = try RecordIOSource(scratch.path + "/joined.rec")
        #expect((0..<7).map(packed.label) == [0, 0, 1, 1, 1, 1, 2])
        #expect(text(scratch, "classes.tsv").contains("\n1\tbob\ta\t1\n1\tbob\tb\t3\n2\tcid\tb\t1\n"))
        let names = IdentityNames(packed)
        #expect(names.names == [["ann"], ["bob"], ["cid"]])
    }

    @Test(arguments: RecordPacker.Layout.allCases) func selection(_ layout: RecordPacker.Layout) throws {
        let scratch = Scratch()
        let source = try folder(["a": 1, "b": 7, "c": 3, "d": 4, "e": 2], in: scratch, name: "s")
        scratch.write("out.txt", "# people\n\n  d  \ns/d\nother/e\nc/1.png\ns/b/0.png\nnobody\n")
        var options = RecordPacker.Options()
        options.layout = layout
        options.selection.minimumImages = 2
        options.selection.maximumImages = 3
        options.selection.exclusions = try ExclusionList(scratch.path + "/out.txt")
        let summary = try RecordPacker.pack([source], to: scratch.path + "/x", options: options)
        // a has one image, d goes altogether, c loses one of three, b one of seven and keeps three of six.
        #expect(summary.classes == 3 && summary.images == 3 + 2 + 2)
        #expect(summary.excludedImages == 4 + 1 + 1 && summary.droppedIdentities == 1)
        #expect(
            summary.notes.count == 1 && summary.notes[0].contains("2 lines name nothing that is here (nobody, other/e)")
        )
        let column = layout == .insightface ? 1 : 2
        let listed = text(scratch, "x.lst").split(separator: "\n").map { $0.split(separator: "\t")[column] }
        #expect(listed == ["b/1.png", "b/3.png", "b/5.png", "c/0.png", "c/2.png", "e/0.png", "e/1.png"])
        #expect(try RecordIOSource(scratch.path + "/x.rec").classCount == 3)
    }

    @Test func nothingLeftIsAnError() throws {
        let scratch = Scratch()
        let source = try folder(["a": 1], in: scratch, name: "s")
        var options = RecordPacker.Options()
        options.selection.minimumImages = 2
        let error = #expect(throws: FaceDataError.self) {
            try RecordPacker.pack([source], to: scratch.path + "/x", options: options)
        }
        #expect(error?.kind == .malformed && error?.description.contains("no image is left") == true)
    }

    @Test func namesOfSources() {
        #expect(PackPlan.names(["/x/a", "y/b/"]) == ["a", "b"])
        #expect(PackPlan.names(["/x/train.rec", "/y/train.rec", "z/w.lst", "train.rec"]) == ["x", "y", "w", "train"])
        #expect(PackPlan.names(["/x/train.rec", "/z/x", "y"]) == ["/x/train.rec", "/z/x", "y"])
        #expect(PackPlan.names(["a", "a"]) == ["a", "a"])
    }

    // MARK: - Conversion

    @Test func imagesAreResizedAsTheLoaderDoesIt() throws {
        let scratch = Scratch()
        let source = try folder(["a": 1], in: scratch, name: "s", size: 40)
        scratch.write("s/a/1.png", try ImageCodec.encodePNG(testImage(77, width: 16, height: 16)))
        let both = try FolderSource(scratch.path + "/s")
        var options = RecordPacker.Options()
        options.conversion = RecordConversion(size: 16, quality: 90)
        _ = try RecordPacker.pack([both], to: scratch.path + "/x", options: options)
        let packed = try RecordIOSource(scratch.path + "/x.rec")
        let fitted = Preprocessing(faceWidth: 16, faceHeight: 16).fitted(try source.image(at: 0))
        #expect(try packed.encodedBytes(of: 0) == ImageCodec.encodeJPEG(fitted, quality: 90))
        // The other one has the size already.
        #expect(try packed.encodedBytes(of: 1) == both.encodedBytes(of: 1))
        #expect(text(scratch, "property") == "1,16,16\n")
        options.conversion = RecordConversion(quality: 50, reencodes: true)
        _ = try RecordPacker.pack([both], to: scratch.path + "/y", options: options)
        let encoded = try RecordIOSource(scratch.path + "/y.rec")
        #expect(
            try encoded.encodedBytes(of: 1) == ImageCodec.encodeJPEG(testImage(77, width: 16, height: 16), quality: 50))
    }

    // MARK: - Going on

    private func pack(
        _ sources: [any FaceSource], _ scratch: Scratch, _ prefix: String, _ layout: RecordPacker.Layout,
        threads: Int = 2
    ) throws -> RecordPacker.Summary {
        var options = RecordPacker.Options()
        options.layout = layout
        options.threads = threads
        options.secondsBetweenStates = 0
        return try RecordPacker.pack(sources, to: scratch.path + "/" + prefix, options: options)
    }

    private func append(_ scratch: Scratch, _ name: String, _ bytes: [UInt8]) {
        scratch.write(name, scratch.bytes(name) + bytes)
    }

    @Test(arguments: RecordPacker.Layout.allCases) func anInterruptedPackingGoesOn(_ layout: RecordPacker.Layout) throws {
        let scratch = Scratch()
        let a = try folder(["ann": 3, "bob": 4], in: scratch, name: "a")
        let b = try folder(["cid": 5], in: scratch, name: "b")
        _ = try pack([a, b], scratch, "w", layout)
        #expect(!exists(scratch, "w.pack-state") && !exists(scratch, "w.rec.partial"))
        for failing in [0, 2, 4] {
            #expect(throws: FaceDataError.self) {
                try pack([a, FailingSource(base: b, failing: failing)], scratch, "x", layout)
            }
            #expect(!exists(scratch, "x.rec") && exists(scratch, "x.pack-state") && exists(scratch, "x.rec.partial"))
            // What a killed process has written beyond its last state.
            for suffix in Self.suffixes { append(scratch, "x\(suffix).partial", [1, 2, 3, 4, 5]) }
            let summary = try pack([a, b], scratch, "x", layout, threads: 1)
            #expect(summary.resumedAt == 7 + failing && summary.images == 12)
            for suffix in Self.suffixes { #expect(scratch.bytes("x" + suffix) == scratch.bytes("w" + suffix)) }
            #expect(!exists(scratch, "x.pack-state") && !exists(scratch, "x.rec.partial"))
            for suffix in Self.suffixes { scratch.remove("x" + suffix) }
        }
    }

    @Test func whatDoesNotFitIsNotGoneOnWith() throws {
        let scratch = Scratch()
        let a = try folder(["ann": 3, "bob": 4], in: scratch, name: "a")
        func interrupt() {
            #expect(throws: FaceDataError.self) {
                try pack([FailingSource(base: a, failing: 5)], scratch, "x", .insightface)
            }
        }
        // Another source.
        interrupt()
        let b = try folder(["cid": 5], in: scratch, name: "b")
        #expect(try pack([b], scratch, "x", .insightface).resumedAt == 0)
        #expect(try RecordIOSource(scratch.path + "/x.rec").count == 5)
        // Another layout.
        interrupt()
        #expect(try pack([a], scratch, "x", .im2rec).resumedAt == 0)
        // An unfinished file that lost what the state speaks of.
        interrupt()
        scratch.write("x.rec.partial", Array(scratch.bytes("x.rec.partial").prefix(100)))
        let summary = try pack([a], scratch, "x", .insightface)
        #expect(summary.images == 7)
        let packed = try RecordIOSource(scratch.path + "/x.rec")
        for index in 0..<7 { #expect(try packed.encodedBytes(of: index) == a.encodedBytes(of: index)) }
        // A damaged state.
        interrupt()
        scratch.write("x.pack-state", Array(scratch.bytes("x.pack-state").dropLast(8)))
        #expect(try pack([a], scratch, "x", .insightface).resumedAt == 0)
    }

    @Test func filesThatWaitForTheirNamesGetThem() throws {
        let scratch = Scratch()
        let a = try folder(["ann": 3, "bob": 4], in: scratch, name: "a")
        // A folder in the way of the class map: everything is on disk, nothing has a name.
        scratch.makeFolder("classes.tsv")
        #expect(throws: FaceDataError.self) { try pack([a], scratch, "x", .insightface) }
        #expect(exists(scratch, "x.pack-state") && !exists(scratch, "x.rec"))
        scratch.remove("classes.tsv")
        let summary = try pack([a], scratch, "x", .insightface)
        #expect(summary.images == 7 && summary.resumedAt == 7 && exists(scratch, "classes.tsv"))
        #expect(try RecordIOSource(scratch.path + "/x.rec").count == 7)
        #expect(!exists(scratch, "x.pack-state"))
    }

    @Test func skippedImagesAreRememberedAndCountOnce() throws {
        let scratch = Scratch()
        _ = try folder(["ann": 3, "bob": 3], in: scratch, name: "a")
        scratch.write("a/ann/1.png", "no image")
        let a = try FolderSource(scratch.path + "/a")
        var options = RecordPacker.Options()
        options.skipsDamaged = true
        options.secondsBetweenStates = 0
        #expect(throws: FaceDataError.self) {
            try RecordPacker.pack([FailingSource(base: a, failing: 4)], to: scratch.path + "/x", options: options)
        }
        let summary = try RecordPacker.pack([a], to: scratch.path + "/x", options: options)
        #expect(summary.resumedAt == 3 && summary.images == 5 && summary.skipped.count == 1)
        #expect(summary.skipped[0].contains("ann/1.png"))
        #expect(try RecordIOSource(scratch.path + "/x.rec").count == 5)
    }

    /// The damaged image leaves ann with too few: the labels after hers move up.
    @Test(arguments: RecordPacker.Layout.allCases)
    func identitiesThatDamageLeavesTooSmallGo(_ layout: RecordPacker.Layout) throws {
        let scratch = Scratch()
        _ = try folder(["ann": 2, "bob": 3, "cid": 2], in: scratch, name: "a")
        scratch.write("a/ann/1.png", "no image")
        scratch.write("a/bob/0.png", "no image")
        var options = RecordPacker.Options()
        options.layout = layout
        options.skipsDamaged = true
        options.selection.minimumImages = 2
        var passes: Set<Int> = []
        let summary = try RecordPacker.pack(
            [try FolderSource(scratch.path + "/a")], to: scratch.path + "/x", options: options
        ) { passes.insert($0.pass) }
        #expect(passes == [1, 2] && summary.classes == 2 && summary.images == 4 && summary.skipped.count == 2)
        #expect(summary.droppedIdentities == 1)
        let packed = try RecordIOSource(scratch.path + "/x.rec")
        #expect((0..<4).map(packed.label) == [0, 0, 1, 1] && packed.notes.isEmpty)
        #expect(IdentityNames(packed).names == [["bob"], ["cid"]])
    }

    @Test func theNumberOfThreadsDoesNotShow() throws {
        let scratch = Scratch()
        let source = MemorySource(classes: 12, perClass: 9, size: 12)
        for threads in [1, 3, 8] { _ = try pack([source], scratch, "t\(threads)", .insightface, threads: threads) }
        for suffix in Self.suffixes {
            #expect(scratch.bytes("t1" + suffix) == scratch.bytes("t3" + suffix))
            #expect(scratch.bytes("t1" + suffix) == scratch.bytes("t8" + suffix))
        }
    }

    // MARK: - Room

    @Test func tooLittleRoomIsSaidBefore() throws {
        let scratch = Scratch()
        let source = MemorySource(classes: 2, perClass: 3, size: 12)
        var options = RecordPacker.Options()
        options.freeBytes = { _ in 1000 }
        let error = #expect(throws: FaceDataError.self) {
            try RecordPacker.pack([source], to: scratch.path + "/x", options: options)
        }
        #expect(error?.kind == .cannotWrite)
        #expect(error?.description.contains("1000 bytes are free") == true, "\(error?.description ?? "")")
        #expect(!exists(scratch, "x.rec.partial"))
        #expect(DiskSpace.free(scratch.path).map { $0 > 0 } == true)
    }

    @Test func twoPackingsDoNotShareAFile() throws {
        let scratch = Scratch()
        let source = MemorySource(classes: 2, perClass: 3, size: 12)
        var inner: FaceDataError?
        var options = RecordPacker.Options()
        options.secondsBetweenStates = 1e9
        _ = try RecordPacker.pack([source], to: scratch.path + "/x", options: options) { progress in
            guard progress.done == 2 else { return }
            do throws(FaceDataError) {
                _ = try RecordPacker.pack([source], to: scratch.path + "/x")
            } catch {
                inner = error
            }
        }
        #expect(inner?.kind == .cannotWrite && inner?.reason.contains("another process") == true)
        #expect(try RecordIOSource(scratch.path + "/x.rec").count == 6)
    }
}
