import FaceData
import Foundation
import Tensors
import Testing

/// Indexes that are missing, long, in disorder, and records that are damaged.
@Suite struct RecordIOScaleTests {
    /// 40 identities of 5 images in insightface's layout, or all images in im2rec's.
    private func pack(_ layout: RecordPacker.Layout, in scratch: Scratch, classes: Int = 40) throws -> MemorySource {
        let source = MemorySource(classes: classes, perClass: 5, size: 8)
        _ = try RecordPacker.pack(source, to: scratch.path + "/train", layout: layout)
        return source
    }

    private func offsets(_ scratch: Scratch) -> [UInt64: UInt64] {
        let text = String(decoding: scratch.bytes("train.idx"), as: UTF8.self)
        return Dictionary(
            uniqueKeysWithValues: text.split(separator: "\n").map { line in
                let fields = line.split(separator: "\t")
                return (UInt64(fields[0])!, UInt64(fields[1])!)
            })
    }

    /// Changes bytes of a record, counted from the begin of its frame.
    private func damage(_ scratch: Scratch, key: UInt64, at place: Int, _ bytes: [UInt8]) {
        var file = scratch.bytes("train.rec")
        let start = Int(offsets(scratch)[key]!) + place
        file.replaceSubrange(start..<start + bytes.count, with: bytes)
        scratch.write("train.rec", file)
    }

    // MARK: - The index

    @Test(arguments: [RecordPacker.Layout.insightface, .im2rec]) func aMissingIndexIsWritten(
        _ layout: RecordPacker.Layout
    ) throws {
        let scratch = Scratch()
        let source = try pack(layout, in: scratch)
        let written = scratch.bytes("train.idx")
        scratch.remove("train.idx")
        #expect(RecordIOSource.lacksIndex(scratch.path + "/train.rec"))
        #expect(FaceSources.lacksIndex(scratch.path) && FaceSources.lacksIndex(scratch.path + "/train.rec"))
        var last: (done: UInt64, total: UInt64) = (0, 0)
        let rebuilt = try RecordIOSource(scratch.path + "/train.rec", progress: { last = ($0, $1) })
        #expect(rebuilt.count == source.count && rebuilt.classCount == 40)
        #expect(rebuilt.notes.count == 1 && rebuilt.notes[0].hasSuffix("rebuilt from the records and written"))
        #expect(last.done == last.total && last.total > 0)
        #expect(scratch.bytes("train.idx") == written)
        #expect(try RecordIOSource(scratch.path + "/train.rec").notes.isEmpty)
        #expect(!FaceSources.lacksIndex(scratch.path))
        let left = try FileManager.default.contentsOfDirectory(atPath: scratch.path).filter { $0.contains("partial") }
        #expect(left.isEmpty)
    }

    /// The folder of open files takes no new ones, whoever asks.
    @Test func aFolderThatTakesNoIndexWorksToo() throws {
        let scratch = Scratch()
        let source = try pack(.im2rec, in: scratch)
        let file = try #require(FileHandle(forReadingAtPath: scratch.path + "/train.rec"))
        defer { try? file.close() }
        let rebuilt = try FaceSources.open("/proc/self/fd/\(file.fileDescriptor)")
        #expect(
            rebuilt.count == source.count
                && (0..<rebuilt.count).allSatisfy { rebuilt.label(of: $0) == source.label(of: $0) })
        #expect(rebuilt.notes.count == 1 && rebuilt.notes[0].contains("could not be kept"))
        #expect(try rebuilt.image(at: 7) == source.image(at: 7))
    }

    @Test(arguments: [true, false]) func anIndexInAnyOrder(_ isShuffled: Bool) throws {
        let scratch = Scratch()
        let source = try pack(.insightface, in: scratch)
        var lines = String(decoding: scratch.bytes("train.idx"), as: UTF8.self).split(separator: "\n")
        var random = RandomStream(seed: 4, purpose: .test, index: 0)
        if isShuffled { lines.shuffle(using: &random) } else { lines.reverse() }
        // Line breaks of another system, and none at the end.
        scratch.write("train.idx", lines.joined(separator: "\r\n"))
        let records = try RecordIOSource(scratch.path + "/train.rec")
        #expect(records.count == source.count)
        for index in stride(from: 0, to: records.count, by: 3) {
            #expect(records.key(of: index) == "record key \(index + 1)")
            #expect(try records.image(at: index) == source.image(at: index))
        }
    }

    /// Records that lie farther apart than 4 bytes of an offset reach, in a file that is nearly all hole.
    @Test func recordsFarApart() throws {
        let scratch = Scratch()
        let places: [UInt64] = [0, 9 << 30, 40 << 30, 12 << 30]
        let path = scratch.write("train.rec", [])
        let file = try #require(FileHandle(forWritingAtPath: path))
        var index = ""
        for (key, place) in places.enumerated() {
            try file.seek(toOffset: place)
            let image = try ImageCodec.encodePNG(testImage(UInt64(key), width: 8, height: 8))
            try file.write(
                contentsOf: Data(
                    RecordIO.frame(ImageRecord(label: Float(key % 2), id: UInt64(key), image: image).payload)))
            index += "\(key)\t\(place)\n"
        }
        try file.close()
        scratch.write("train.idx", index)
        let records = try RecordIOSource(path)
        for key in 0..<4 { #expect(try records.image(at: key) == testImage(UInt64(key), width: 8, height: 8)) }
    }

    /// Many lines over many reading blocks, all of which lead to the same record.
    @Test func aLongIndex() throws {
        let scratch = Scratch()
        let image = try ImageCodec.encodePNG(testImage(1, width: 8, height: 8))
        let frame = RecordIO.frame(ImageRecord(label: 0, id: 0, image: image).payload)
        scratch.write("train.rec", frame + frame)
        let count = 700_000
        var text = ""
        for key in 0..<count { text += "\(key)\t\(key % 2 == 0 ? 0 : frame.count)\n" }
        scratch.write("train.idx", text)
        let records = try RecordIOSource(scratch.path + "/train.rec")
        #expect(records.count == count && records.key(of: count - 1) == "record key \(count - 1)")
        // Labels and offsets, 4 bytes each, and what growing takes.
        #expect(records.byteCount < 12 * count, "\(records.byteCount)")
        scratch.write("train.idx", text + "7\t4x\n")
        let error = #expect(throws: FaceDataError.self) { try RecordIOSource(scratch.path + "/train.rec") }
        #expect(error?.place == .line(count + 1))
    }

    // MARK: - Damaged records

    /// A damaged header is passed over at opening, and an unreadable image when its turn comes.
    @Test(arguments: [RecordPacker.Layout.insightface, .im2rec]) func damagedHeaders(
        _ layout: RecordPacker.Layout
    ) throws {
        let scratch = Scratch()
        let source = try pack(layout, in: scratch)
        let shift = layout == .insightface ? 1 : 0
        let label = layout == .insightface ? 32 : 12
        // The first image of an identity, whose label stands for all of them, where there are identity records.
        let first = layout == .insightface ? 10 : 11
        damage(scratch, key: UInt64(first + shift), at: label, [0, 0, 0xC0, 0x7F])
        damage(scratch, key: UInt64(51 + shift), at: 8, [0xFF, 0xFF, 0xFF, 0x7F])
        damage(scratch, key: UInt64(102 + shift), at: 0, [0x00])
        damage(scratch, key: UInt64(153 + shift), at: 4, [0, 0, 0, 0])
        let records = try RecordIOSource(scratch.path + "/train.rec")
        #expect(records.count == 200 && records.classCount == 40)
        #expect((0..<200).allSatisfy { records.label(of: $0) == source.label(of: $0) })
        // The word behind the frame without length is a count of two labels there, and of none here.
        let empty = layout == .insightface ? "ends in the middle of itself" : "0 bytes are too few"
        for (index, reason) in [(first, "label"), (51, "labels"), (102, "magic number"), (153, empty)] {
            let error = #expect(throws: FaceDataError.self) { try records.image(at: index) }
            #expect(error?.kind == .malformed && error?.description.contains(reason) == true, "\(error!)")
        }
        #expect(try records.image(at: 12) == source.image(at: 12))
        // What was not looked at is not noticed yet.
        #expect(records.notes.count == 1 && records.notes[0].hasPrefix(layout == .insightface ? "1 image" : "4 image"))
    }

    @Test func wrongLengths() throws {
        let scratch = Scratch()
        let source = try pack(.insightface, in: scratch)
        let start = Int(offsets(scratch)[8]!)
        let file = scratch.bytes("train.rec")
        let length = Int(file[start + 4]) + 256 * Int(file[start + 5]) + 40
        damage(scratch, key: 8, at: 4, [UInt8(length % 256), UInt8(length / 256)])
        damage(scratch, key: 18, at: 5, [0xFF, 0xFF])
        damage(scratch, key: 28, at: 4, [44, 0])
        let records = try RecordIOSource(scratch.path + "/train.rec")
        let decoder = ImageDecoder()
        var image = RGBImage(width: 1, height: 1)
        for (index, reason) in [
            (7, "into the record that follows"), (17, "ends at byte"), (27, "ends in the middle of itself"),
        ] {
            let error = #expect(throws: FaceDataError.self) {
                try records.decode(index, with: decoder, into: &image)
            }
            #expect(error?.kind == .malformed && error?.description.contains(reason) == true, "\(error!)")
        }
        try records.decode(8, with: decoder, into: &image)
        let whole = try source.image(at: 8)
        #expect(image == whole)
    }

    @Test func emptyRecords() throws {
        let scratch = Scratch()
        let image = try ImageCodec.encodePNG(testImage(1, width: 8, height: 8))
        let writer = try RecordIOWriter(scratch.path + "/train")
        for key in 0..<20 {
            if key == 7 {
                try writer.append(key: 7, [])
            } else if key == 9 {
                try writer.append(key: 9, ImageRecord(label: 1, id: 9, image: []))
            } else {
                try writer.append(key: UInt64(key), ImageRecord(label: Float(key % 2), id: UInt64(key), image: image))
            }
        }
        try writer.finish()
        let records = try RecordIOSource(scratch.path + "/train.rec")
        #expect(records.count == 20 && records.classCount == 2 && records.notes.count == 1)
        for (index, reason) in [(7, "0 bytes are too few"), (9, "holds no image")] {
            let error = #expect(throws: FaceDataError.self) { try records.image(at: index) }
            #expect(error?.description.contains(reason) == true)
        }
    }

    @Test func moreDamageThanAnAccidentIsAnError() throws {
        let scratch = Scratch()
        _ = try pack(.im2rec, in: scratch)
        for key in 0..<21 { damage(scratch, key: UInt64(9 * key + 1), at: 0, [0]) }
        let error = #expect(throws: FaceDataError.self) { try RecordIOSource(scratch.path + "/train.rec") }
        let first = try #require(offsets(scratch)[1])
        #expect(error?.place == .byte(first))
    }

    @Test func aDamagedIdentityRecordLeavesItsImagesTheirOwnLabels() throws {
        let scratch = Scratch()
        let source = try pack(.insightface, in: scratch)
        damage(scratch, key: 201 + 6, at: 32, [0, 0, 0xC0, 0x7F])
        let records = try RecordIOSource(scratch.path + "/train.rec")
        #expect((0..<200).allSatisfy { records.label(of: $0) == source.label(of: $0) })
        #expect(records.notes.count == 1 && records.notes[0].hasPrefix("1 identity"))
    }

    @Test func aDamagedMetadataRecordIsOneError() throws {
        let scratch = Scratch()
        _ = try pack(.insightface, in: scratch)
        damage(scratch, key: 0, at: 32, [0, 0, 0xC0, 0x7F])
        let error = #expect(throws: FaceDataError.self) { try RecordIOSource(scratch.path + "/train.rec") }
        #expect(error?.description.contains("key 0 is metadata with the bounds nan") == true)
        damage(scratch, key: 0, at: 0, [0x0B])
        let magic = #expect(throws: FaceDataError.self) { try RecordIOSource(scratch.path + "/train.rec") }
        #expect(magic?.description.contains("magic number") == true)
    }

    /// The threads that read headers change nothing.
    @Test func aLargerFileOpensTheSame() throws {
        let scratch = Scratch()
        let image = try ImageCodec.encodePNG(testImage(1, width: 8, height: 8))
        let writer = try RecordIOWriter(scratch.path + "/train")
        let labels = (0..<5000).map { ($0 * 7919) % 613 }
        for (key, label) in labels.enumerated() {
            try writer.append(key: UInt64(key), ImageRecord(label: Float(label), id: UInt64(key), image: image))
        }
        try writer.finish()
        let records = try RecordIOSource(scratch.path + "/train.rec")
        #expect(records.classCount == 613 && (0..<5000).allSatisfy { records.label(of: $0) == labels[$0] })
    }

    @Test func decodingIntoTheSameMemory() throws {
        let scratch = Scratch()
        let source = try pack(.insightface, in: scratch)
        let records = try RecordIOSource(scratch.path + "/train.rec")
        let decoder = ImageDecoder(covering: (8, 8))
        var image = RGBImage(width: 8, height: 8)
        let place = image.pixels.withUnsafeBufferPointer { $0.baseAddress }
        for index in 0..<200 {
            try records.decode(index, with: decoder, into: &image)
            let isSame = image == (try source.image(at: index))
            #expect(isSame)
        }
        #expect(image.pixels.withUnsafeBufferPointer { $0.baseAddress } == place)
        #expect(decoder.readSeconds > 0)
    }
}
