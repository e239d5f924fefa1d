import FaceData
import Foundation
import Tensors
import Testing

@Suite struct RecordIOTests {
    private func hex(_ bytes: [UInt8]) -> String { bytes.map { String(format: "%02x", $0) }.joined() }

    @Test func bytesOfKnownRecords() {
        let scalar = ImageRecord(label: 7, id: 3, image: Array("JPEG!".utf8))
        #expect(
            hex(RecordIO.frame(scalar.payload))
                == "0a23d7ce1d000000000000000000e040030000000000000000000000000000004a50454721000000")
        let metadata = ImageRecord(labels: [6, 8], id: 0)
        #expect(
            hex(RecordIO.frame(metadata.payload))
                == "0a23d7ce20000000020000000000000000000000000000000000000000000000000" + "0c04000000041")
        let split = Array("ABCD".utf8) + [0x0A, 0x23, 0xD7, 0xCE] + Array("EF".utf8)
        #expect(hex(RecordIO.frame(split)) == "0a23d7ce04000020414243440a23d7ce0200006045460000")
    }

    @Test func anyPayloadComesBack() throws {
        let magic: [UInt8] = [0x0A, 0x23, 0xD7, 0xCE]
        var payloads: [[UInt8]] = [[], magic, magic + magic, magic + [1], [1] + magic, Array("ABCD".utf8) + magic]
        var random = RandomStream(seed: 1, purpose: .test, index: 0)
        for length in 0..<40 { payloads.append((0..<length).map { _ in UInt8(random.below(256)) }) }
        for _ in 0..<60 {
            var payload: [UInt8] = []
            for _ in 0..<random.below(12) {
                if random.below(2) == 0 { payload += magic }
                payload += (0..<random.below(6)).map { _ in UInt8(random.below(256)) }
            }
            payloads.append(payload)
        }
        let scratch = Scratch()
        let writer = try RecordIOWriter(scratch.path + "/x")
        var offsets: [UInt64] = []
        for (key, payload) in payloads.enumerated() { offsets.append(try writer.append(key: UInt64(key), payload)) }
        try writer.finish()
        let index = String(decoding: scratch.bytes("x.idx"), as: UTF8.self)
        #expect(index == offsets.enumerated().map { "\($0)\t\($1)\n" }.joined())
        let reader = try RecordIOReader(scratch.path + "/x.rec")
        var next: UInt64 = 0
        for (payload, offset) in zip(payloads, offsets) {
            #expect(next == offset && offset % 4 == 0)
            let record = try reader.record(at: offset)
            #expect(record.payload == payload)
            next = record.next
        }
        #expect(next == reader.size)
    }

    /// Packs 3 identities of 2, 3 and 1 images, out of order.
    private func packed(_ layout: RecordPacker.Layout, in scratch: Scratch) throws -> (ListSource, RecordIOSource) {
        var list = ""
        for (index, label) in [1, 0, 1, 2, 0, 1].enumerated() {
            scratch.write(
                "images/\(index).png", try ImageCodec.encodePNG(testImage(UInt64(index), width: 8, height: 6)))
            list += "\(index).png\t\(label)\n"
        }
        let source = try ListSource(scratch.write("images/list.tsv", list))
        let summary = try RecordPacker.pack(source, to: scratch.path + "/train", layout: layout)
        #expect(summary.images == 6 && summary.classes == 3 && summary.skipped.isEmpty)
        return (source, try RecordIOSource(scratch.path + "/train.rec"))
    }

    @Test(arguments: [true, false]) func insightfaceLayout(_ withIndex: Bool) throws {
        let scratch = Scratch()
        _ = try packed(.insightface, in: scratch)
        if !withIndex { scratch.remove("train.idx") }
        let records = try RecordIOSource(scratch.path + "/train.rec")
        #expect(records.count == 6 && records.classCount == 3)
        #expect((0..<6).map(records.label) == [0, 0, 1, 1, 1, 2])
        #expect(records.key(of: 0) == "record key 1")
        #expect(records.notes.count == (withIndex ? 0 : 1))
        for (index, original) in [1, 4, 0, 2, 5, 3].enumerated() {
            #expect(try records.image(at: index) == testImage(UInt64(original), width: 8, height: 6))
        }
        #expect(String(decoding: scratch.bytes("property"), as: UTF8.self) == "3,6,8\n")
        #expect(String(decoding: scratch.bytes("train.lst"), as: UTF8.self).hasPrefix("1\t1.png\t0\n1\t4.png\t0\n"))
        guard withIndex else { return }
        // The index's order is the order of writing: images, metadata, identities.
        let lines = String(decoding: scratch.bytes("train.idx"), as: UTF8.self).split(separator: "\n")
        #expect(lines.map { $0.split(separator: "\t")[0] } == ["1", "2", "3", "4", "5", "6", "0", "7", "8", "9"])
    }

    @Test(arguments: [true, false]) func im2recLayout(_ withIndex: Bool) throws {
        let scratch = Scratch()
        let (source, _) = try packed(.im2rec, in: scratch)
        if !withIndex { scratch.remove("train.idx") }
        let records = try RecordIOSource(scratch.path + "/train.rec")
        #expect(records.count == 6 && records.classCount == 3)
        for index in 0..<6 {
            #expect(records.label(of: index) == source.label(of: index))
            #expect(try records.encodedBytes(of: index) == source.encodedBytes(of: index))
        }
        let list = try ListSource(scratch.path + "/train.lst", folder: scratch.path + "/images")
        #expect(list.form == .im2rec && (0..<6).map(list.label) == [1, 0, 1, 2, 0, 1])
    }

    @Test func damagedImagesAreLeftOutOnRequest() throws {
        let scratch = Scratch()
        let source = MemorySource(classes: 2, perClass: 2, size: 8, damaged: [1])
        #expect(throws: FaceDataError.self) {
            try RecordPacker.pack(source, to: scratch.path + "/a", layout: .im2rec)
        }
        #expect(!FileManager.default.fileExists(atPath: scratch.path + "/a.rec"))
        let summary = try RecordPacker.pack(source, to: scratch.path + "/a", layout: .im2rec, skipDamaged: true)
        #expect(summary.images == 3 && summary.classes == 2 && summary.skipped.count == 1)
        #expect(summary.skipped[0].contains("image 1"))
    }

    private func opening(_ records: [(UInt64, ImageRecord)], in scratch: Scratch) throws -> RecordIOSource {
        let writer = try RecordIOWriter(scratch.path + "/t")
        for (key, record) in records { try writer.append(key: key, record) }
        try writer.finish()
        return try RecordIOSource(scratch.path + "/t.rec")
    }

    @Test(arguments: [Float.nan, -1, 0.5, .infinity, 0x1p24])
    func labelsThatAreNoClassNumbers(_ label: Float) throws {
        let scratch = Scratch()
        let error = #expect(throws: FaceDataError.self) {
            try opening(
                [(0, ImageRecord(label: 0, id: 0, image: [1])), (1, ImageRecord(label: label, id: 1, image: [1]))],
                in: scratch)
        }
        #expect(error?.description.contains("record key 1 at byte 36") == true, "\(String(describing: error))")
        #expect(error?.description.contains("label") == true)
    }

    @Test func aLabelBeyondTheIdentitiesIsRefused() throws {
        let scratch = Scratch()
        let image = { (label: Float, key: UInt64) in (key, ImageRecord(labels: [label, 1], id: key, image: [1])) }
        let error = #expect(throws: FaceDataError.self) {
            try opening(
                [
                    image(0, 1), image(2, 2), (0, ImageRecord(labels: [3, 5], id: 0)),
                    (3, ImageRecord(labels: [1, 2], id: 3)), (4, ImageRecord(labels: [2, 3], id: 4)),
                ], in: scratch)
        }
        #expect(error?.description.contains("label 2 is out of range: the file has 2 identities") == true)
    }

    @Test func identityRecordsMustCoverEveryImageOnce() throws {
        for ranges in [
            [[Float(1), 2], [3, 3]], [[1, 3], [2, 3]], [[1, 2], [2, 5]], [[0, 2], [2, 3]], [[.nan, 2], [2, 3]],
        ] {
            let scratch = Scratch()
            let error = #expect(throws: FaceDataError.self, "\(ranges)") {
                try opening(
                    [
                        (1, ImageRecord(labels: [0, 1], id: 1, image: [1])),
                        (2, ImageRecord(labels: [1, 1], id: 2, image: [1])), (0, ImageRecord(labels: [3, 5], id: 0)),
                        (3, ImageRecord(labels: ranges[0], id: 3)), (4, ImageRecord(labels: ranges[1], id: 4)),
                    ], in: scratch)
            }
            #expect(error?.kind == .malformed)
        }
    }

    @Test func metadataWithoutIdentityRecordsIsReadImageByImage() throws {
        let source = try opening(
            [
                (1, ImageRecord(labels: [4, 1], id: 1, image: [1])),
                (2, ImageRecord(labels: [9, 1], id: 2, image: [2])),
                (0, ImageRecord(labels: [3, 5], id: 0)),
            ], in: Scratch())
        #expect(source.count == 2 && source.classCount == 2)
        #expect(source.identityName(0) == "4" && source.identityName(1) == "9")
        #expect(try source.encodedBytes(of: 1) == [2])
        #expect(source.notes.contains { $0.contains("renumbered") })
    }

    @Test func anImageWhoseLabelContradictsItsIdentityIsDamaged() throws {
        let source = try opening(
            [
                (1, ImageRecord(labels: [0, 1], id: 1, image: [1])),
                (2, ImageRecord(labels: [1, 1], id: 2, image: [1])),
                (3, ImageRecord(labels: [1, 1], id: 3, image: [1])), (0, ImageRecord(labels: [4, 6], id: 0)),
                (4, ImageRecord(labels: [1, 3], id: 4)), (5, ImageRecord(labels: [3, 4], id: 5)),
            ], in: Scratch())
        #expect((0..<3).map(source.label) == [0, 0, 1])
        #expect(throws: Never.self) { try source.encodedBytes(of: 0) }
        #expect(throws: FaceDataError.self) { try source.encodedBytes(of: 1) }
    }

    @Test func truncatedAndForeignFiles() throws {
        let scratch = Scratch()
        _ = try packed(.im2rec, in: scratch)
        let bytes = scratch.bytes("train.rec")
        scratch.write("train.rec", Array(bytes.dropLast(40)))
        let cut = #expect(throws: FaceDataError.self) { try RecordIOSource(scratch.path + "/train.rec") }
        #expect(cut?.description.contains("truncated") == true || cut?.description.contains("outside") == true)
        scratch.write("train.rec", Array("this is no record file".utf8))
        let foreign = #expect(throws: FaceDataError.self) { try RecordIOSource(scratch.path + "/train.rec") }
        #expect(foreign?.description.contains("magic number") == true)
        scratch.write("train.rec", [])
        #expect(throws: FaceDataError.self) { try RecordIOSource(scratch.path + "/train.rec") }
        let missing = #expect(throws: FaceDataError.self) { try RecordIOSource(scratch.path + "/none.rec") }
        #expect(missing?.kind == .missing)
    }

    @Test func indexesThatDoNotFit() throws {
        let scratch = Scratch()
        _ = try packed(.im2rec, in: scratch)
        for (text, expected) in [
            ("0\t0\n1\t6\n", "line 2"), ("0\t0\n1\t99999999\n", "line 2"), ("0 0\n", "line 1"),
            ("0\t0\n\n0\t0\n", "twice"),
            ("", "no record"), ("0\t18446744073709551616\n", "line 1"), ("-1\t0\n", "line 1"), ("0\t4\n", "magic"),
        ] {
            scratch.write("train.idx", text)
            let error = #expect(throws: FaceDataError.self, "\(text)") {
                try RecordIOSource(scratch.path + "/train.rec")
            }
            #expect(error?.description.contains(expected) == true, "\(String(describing: error))")
        }
    }

    @Test func recordsAndLabelsAreBounded() throws {
        let scratch = Scratch()
        let writer = try RecordIOWriter(scratch.path + "/t")
        try writer.append(key: 0, [UInt8](repeating: 1, count: 5000))
        try writer.finish()
        let reader = try RecordIOReader(scratch.path + "/t.rec", recordLimit: 4999)
        let error = #expect(throws: FaceDataError.self) { try reader.record(at: 0) }
        #expect(error?.kind == .tooLarge)
        // 0x01010101 labels.
        #expect(throws: FaceDataError.self) { try RecordIOSource(scratch.path + "/t.rec") }
    }

    @Test func mutatedRecordsAndIndexesNeverTrap() throws {
        let scratch = Scratch()
        _ = try packed(.insightface, in: scratch)
        let records = scratch.bytes("train.rec")
        let index = scratch.bytes("train.idx")
        func read() -> Bool {
            guard let source = try? RecordIOSource(scratch.path + "/train.rec") else { return false }
            for record in 0..<source.count {
                _ = try? source.image(at: record)
                _ = source.key(of: record) + source.identityName(source.label(of: record))
            }
            return true
        }
        var opened = 0
        var rounds = mutate(records, seconds: 0.7) {
            scratch.write("train.rec", $0)
            opened += read() ? 1 : 0
        }
        scratch.write("train.rec", records)
        rounds += mutate(index, seconds: 0.5) {
            scratch.write("train.idx", $0)
            opened += read() ? 1 : 0
        }
        rounds += mutate(records, seconds: 0.5) {
            // What is opened without an index gets one.
            try? FileManager.default.removeItem(atPath: scratch.path + "/train.idx")
            scratch.write("train.rec", $0)
            opened += read() ? 1 : 0
        }
        #expect(rounds > 100 && opened < rounds)
    }

    /// A file that MXNet's own im2rec wrote: 8 images, 2 labels, an index in shuffled order, no metadata.
    @Test(.enabled(if: Fixture.realFaces != nil, "set ACUITY_FACES to the folder of real faces"))
    func aFileOfMXNet() throws {
        let folder = Fixture.realFaces! + "/mxnet_rec_fixture"
        let source = try FaceSources.open(folder + "/train.rec")
        #expect(source.count == 8 && source.classCount == 2)
        #expect((0..<8).map(source.label) == [0, 0, 0, 0, 1, 1, 1, 1])
        for index in 0..<8 { #expect(try source.image(at: index).width > 0) }
        let scratch = Scratch()
        for name in ["train.rec"] { scratch.write(name, Scratch.bytes(folder + "/" + name)) }
        let rebuilt = try RecordIOSource(scratch.path + "/train.rec")
        #expect((0..<8).map(rebuilt.label) == (0..<8).map(source.label))
        // Our writer gives the same bytes for the same records in the same order.
        let reader = try RecordIOReader(folder + "/train.rec")
        let writer = try RecordIOWriter(scratch.path + "/copy")
        let index = String(decoding: Scratch.bytes(folder + "/train.idx"), as: UTF8.self)
        for line in index.split(separator: "\n") {
            let fields = line.split(separator: "\t")
            try writer.append(key: UInt64(fields[0])!, try reader.record(at: UInt64(fields[1])!).payload)
        }
        try writer.finish()
        #expect(scratch.bytes("copy.rec") == scratch.bytes("train.rec"))
        #expect(scratch.bytes("copy.idx") == Scratch.bytes(folder + "/train.idx"))
    }
}
