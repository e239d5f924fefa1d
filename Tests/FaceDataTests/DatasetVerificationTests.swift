import FaceData
import Foundation
import Tensors
import Testing

@Suite struct DatasetVerificationTests {
    private typealias Kind = DatasetVerification.Issue.Kind

    private func verify(
        _ path: String, threads: Int = 2
    ) throws -> (DatasetVerification, [DatasetVerification.Issue]) {
        var issues: [DatasetVerification.Issue] = []
        let found = try DatasetVerification.run(path, threads: threads, report: { issues.append($0) })
        #expect(found.issues == issues.count)
        for kind in Kind.allCases {
            #expect(found.issueCounts[kind, default: 0] == issues.count { $0.kind == kind })
        }
        return (found, issues)
    }

    /// Three identities with 2, 3 and 1 images, packed; keys 1 to 6 are images, 7 to 9 identities.
    private func packed(_ layout: RecordPacker.Layout = .insightface, in scratch: Scratch) throws -> String {
        for (person, count) in [("a", 2), ("b", 3), ("c", 1)] {
            for image in 0..<count {
                scratch.write(
                    "s/\(person)/\(image).png",
                    try ImageCodec.encodePNG(testImage(UInt64(10 * count + image), width: 16, height: 16)))
            }
        }
        _ = try RecordPacker.pack(
            try FolderSource(scratch.path + "/s"), to: scratch.path + "/t", layout: layout)
        return scratch.path + "/t.rec"
    }

    /// Key and offset, in the order of the file.
    private func entries(_ scratch: Scratch) -> [(key: Int, offset: Int)] {
        String(decoding: scratch.bytes("t.idx"), as: UTF8.self).split(separator: "\n").map {
            let fields = $0.split(separator: "\t")
            return (Int(fields[0])!, Int(fields[1])!)
        }
    }

    private func write(_ scratch: Scratch, index entries: [(key: Int, offset: Int)]) {
        scratch.write("t.idx", entries.map { "\($0.key)\t\($0.offset)\n" }.joined())
    }

    private func records(
        _ records: [(UInt64, ImageRecord)], classes: Int, in scratch: Scratch
    ) throws -> (DatasetVerification, [DatasetVerification.Issue]) {
        let writer = try RecordIOWriter(scratch.path + "/t")
        for (key, record) in records { try writer.append(key: key, record) }
        try writer.finish()
        scratch.write("property", "\(classes),8,8\n")
        return try verify(scratch.path + "/t.rec")
    }

    private let png = try! ImageCodec.encodePNG(testImage(1, width: 8, height: 8))

    private func image(_ key: UInt64, _ label: Float) -> (UInt64, ImageRecord) {
        (key, ImageRecord(labels: [label, 1], id: key, image: png))
    }

    private func bare(_ key: UInt64, _ low: Float, _ high: Float) -> (UInt64, ImageRecord) {
        (key, ImageRecord(labels: [low, high], id: key))
    }

    // MARK: - Sound files

    @Test(arguments: RecordPacker.Layout.allCases) func nothingIsWrongWithWhatIsPacked(
        _ layout: RecordPacker.Layout
    ) throws {
        let scratch = Scratch()
        let (found, issues) = try verify(try packed(layout, in: scratch))
        #expect(issues.isEmpty, "\(issues)")
        #expect(found.layout == layout && found.images == 6 && found.identities == 3 && found.notes.isEmpty)
        #expect(found.records == (layout == .insightface ? 10 : 6))
        // Without an index the records' ids are taken.
        scratch.remove("t.idx")
        let (rebuilt, none) = try verify(scratch.path + "/t.rec")
        #expect(none.isEmpty && rebuilt.layout == layout && rebuilt.notes.count == 1)
    }

    @Test func foldersAndLists() throws {
        let scratch = Scratch()
        _ = try packed(in: scratch)
        scratch.write("s/b/1.png", Array(png.prefix(50)))
        let (found, issues) = try verify(scratch.path + "/s")
        #expect(found.records == 6 && found.images == 5 && issues.count == 1)
        #expect(issues[0].kind == .image && issues[0].name == "b/1.png")
        #expect(throws: FaceDataError.self) { try DatasetVerification.run(scratch.path + "/none.rec") }
    }

    @Test func whatIsNoRecordFileAtAll() throws {
        let scratch = Scratch()
        scratch.write("t.rec", String(repeating: "no records here ", count: 100))
        let error = #expect(throws: FaceDataError.self) { try DatasetVerification.run(scratch.path + "/t.rec") }
        #expect(error?.description.contains("no record at all") == true)
        scratch.write("t.rec", [])
        #expect(throws: FaceDataError.self) { try DatasetVerification.run(scratch.path + "/t.rec") }
    }

    // MARK: - Damaged bytes

    @Test(arguments: [1, 3]) func aDamagedImageIsNamed(_ threads: Int) throws {
        let scratch = Scratch()
        let path = try packed(in: scratch)
        let third = entries(scratch)[2]
        var bytes = scratch.bytes("t.rec")
        // Behind the record's and the image's headers.
        for place in 0..<20 { bytes[third.offset + 8 + 32 + 60 + place] ^= 0xFF }
        scratch.write("t.rec", bytes)
        let (found, issues) = try verify(path, threads: threads)
        #expect(issues.count == 1 && found.images == 5)
        #expect(issues[0].kind == .image && issues[0].key == 3 && issues[0].offset == UInt64(third.offset))
    }

    @Test func aLostMagicNumber() throws {
        let scratch = Scratch()
        let path = try packed(in: scratch)
        let entries = entries(scratch)
        var bytes = scratch.bytes("t.rec")
        bytes[entries[1].offset] ^= 1
        scratch.write("t.rec", bytes)
        let (found, issues) = try verify(path)
        #expect(found.images == 5 && found.records == 9)
        // The stretch, the index entry that leads there, and the key that is missing.
        #expect(issues.map(\.kind).sorted { $0.rawValue < $1.rawValue } == [.index, .index, .record])
        let lost = issues.first { $0.kind == .record }
        #expect(lost?.offset == UInt64(entries[1].offset))
        #expect(lost?.reason.hasPrefix("\(entries[2].offset - entries[1].offset) bytes") == true)
    }

    @Test func theFirstRecordMayBeLostToo() throws {
        let scratch = Scratch()
        let path = try packed(in: scratch)
        var bytes = scratch.bytes("t.rec")
        for place in 0..<9 { bytes[place] = 0x55 }
        scratch.write("t.rec", bytes)
        let (found, issues) = try verify(path)
        #expect(found.images == 5 && issues.contains { $0.kind == .record && $0.offset == 0 })
    }

    /// A length that runs over the next two records: both are found all the same.
    @Test func aLengthThatIsTooLong() throws {
        let scratch = Scratch()
        let path = try packed(in: scratch)
        let entries = entries(scratch)
        var bytes = scratch.bytes("t.rec")
        let length = UInt32(entries[3].offset - entries[0].offset - 8 + 12)
        withUnsafeBytes(of: length.littleEndian) { bytes.replaceSubrange(4..<8, with: $0) }
        scratch.write("t.rec", bytes)
        let (found, issues) = try verify(path)
        #expect(found.images == 5 && found.records == 10)
        let overrun = issues.first { $0.kind == .image }
        #expect(
            overrun?.key == 1 && overrun?.reason.contains("runs over the record at byte \(entries[1].offset)") == true)
        #expect(issues.count { $0.kind == .image } == 1, "\(issues)")
    }

    @Test func aLengthThatIsTooShort() throws {
        let scratch = Scratch()
        let path = try packed(in: scratch)
        let entries = entries(scratch)
        var bytes = scratch.bytes("t.rec")
        withUnsafeBytes(of: UInt32(100).littleEndian) { bytes.replaceSubrange(4..<8, with: $0) }
        scratch.write("t.rec", bytes)
        let (found, issues) = try verify(path)
        #expect(found.images == 5 && found.records == 10)
        #expect(issues.contains { $0.kind == .image && $0.key == 1 })
        #expect(issues.contains { $0.kind == .record && $0.offset == 108 })
        #expect(issues.count == 2 && entries.count == 10)
    }

    @Test func bytesBehindTheLastRecordAndTruncation() throws {
        let scratch = Scratch()
        let path = try packed(in: scratch)
        let bytes = scratch.bytes("t.rec")
        scratch.write("t.rec", bytes + [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
        let (_, trailing) = try verify(path)
        #expect(trailing.count == 1 && trailing[0].kind == .trailing && trailing[0].offset == UInt64(bytes.count))
        scratch.write("t.rec", Array(bytes.dropLast(10)))
        let (found, cut) = try verify(path)
        #expect(found.images == 6 && cut.contains { $0.kind == .record && $0.reason.contains("the file ends") })
    }

    @Test func partsOfARecord() throws {
        let scratch = Scratch()
        // A comment that holds the magic number at a multiple of 4 of the payload, several times.
        let jpeg = try ImageCodec.encodeJPEG(testImage(3, width: 16, height: 16))
        let magic: [UInt8] = [0x0A, 0x23, 0xD7, 0xCE]
        let comment = [UInt8](repeating: 0, count: 2) + magic + magic + [9, 9, 9, 9] + magic + [7]
        let image =
            Array(jpeg[..<2]) + [0xFF, 0xFE, 0, UInt8(comment.count + 2)] + comment + Array(jpeg[2...])
        let (found, issues) = try records(
            [(0, ImageRecord(label: 0, id: 0, image: image)), (1, ImageRecord(label: 0, id: 1, image: jpeg))],
            classes: 1, in: scratch)
        #expect(issues.isEmpty && found.images == 2, "\(issues)")
        // Its last part is gone.
        var bytes = scratch.bytes("t.rec")
        let offsets = stride(from: 0, to: bytes.count - 4, by: 4).filter { Array(bytes[$0..<$0 + 4]) == magic }
        #expect(offsets.count == 5)
        bytes[offsets[3]] = 0
        scratch.write("t.rec", bytes)
        let (rest, broken) = try verify(scratch.path + "/t.rec")
        #expect(rest.images == 1 && broken.contains { $0.kind == .record && $0.reason.contains("byte \(offsets[3])") })
    }

    // MARK: - Index

    @Test func faultsOfTheIndex() throws {
        let scratch = Scratch()
        let path = try packed(in: scratch)
        let sound = entries(scratch)
        func issues(_ change: (inout [(key: Int, offset: Int)]) -> Void) throws -> [String] {
            var changed = sound
            change(&changed)
            write(scratch, index: changed)
            let (found, issues) = try verify(path)
            #expect(found.images == 6 && issues.allSatisfy { $0.kind == .index }, "\(issues)")
            return issues.map(\.reason)
        }
        #expect(
            try issues { $0.remove(at: 2) } == [
                "the index lacks this record", "no record has the key 3 of image records",
            ])
        #expect(try issues { $0[2].offset += 4 }.contains("no record begins here"))
        #expect(try issues { $0[2].offset += 2 }.contains { $0.contains("not a multiple of 4") })
        #expect(try issues { $0[2].offset = 1 << 30 }.contains { $0.contains("outside of the record file") })
        let doubled = try issues { $0[2].key = 2 }
        #expect(doubled.contains { $0.contains("the key belongs to the record at byte") })
        let again = try issues { $0.append((key: 77, offset: $0[0].offset)) }
        #expect(again == ["a record that key 1 has"])
        scratch.write("t.idx", "x\n" + String(decoding: scratch.bytes("t.idx"), as: UTF8.self))
        let (_, malformed) = try verify(path)
        #expect(malformed.contains { $0.reason.hasPrefix("line 1: expected key<TAB>offset") })
        // The order of the lines is free.
        #expect(try issues { $0.shuffle() } == [])
    }

    // MARK: - Labels and identities

    @Test func labelsThatAreNoClassNumbers() throws {
        let (found, issues) = try records(
            [image(0, 0), image(1, 0.5), image(2, -1), image(3, .nan), image(4, 1)], classes: 2, in: Scratch())
        #expect(issues.map(\.kind) == [.label, .label, .label] && issues.map(\.key) == [1, 2, 3])
        #expect(found.identities == 2 && found.layout == .im2rec)
        let (gaps, none) = try records([image(0, 0), image(1, 5)], classes: 2, in: Scratch())
        #expect(none.isEmpty && gaps.notes == ["labels run to 5, and only 2 of them are used"])
    }

    @Test func identityRangesAreHeldAgainstTheImages() throws {
        func issues(
            _ labels: [Float], _ ranges: [(Float, Float)], metadata: (Float, Float)? = nil, classes: Int? = nil
        ) throws -> [String] {
            let images = labels.enumerated().map { image(UInt64($0.offset + 1), $0.element) }
            let first = labels.count + 1
            let (low, high) = metadata ?? (Float(first), Float(first + ranges.count))
            let identities = ranges.enumerated().map { bare(UInt64(first + $0.offset), $0.element.0, $0.element.1) }
            let (_, issues) = try records(
                images + [bare(0, low, high)] + identities, classes: classes ?? ranges.count, in: Scratch())
            return issues.map { "\($0.kind.rawValue) \($0.reason)" }
        }
        #expect(try issues([0, 0, 1], [(1, 3), (3, 4)]) == [])
        #expect(
            try issues([0, 0, 1], [(1, 2), (3, 4)])
                == ["identity begins at key 3: the images from key 2 on belong to no identity"])
        #expect(
            try issues([0, 0, 1], [(1, 3), (2, 4)]).contains(
                "identity begins at key 2, and the identity before it ends at 3"))
        #expect(
            try issues([0, 0, 1], [(1, 3), (3, 3)]) == [
                "identity has no image", "identity the images from key 3 on belong to no identity",
            ])
        #expect(
            try issues([0, 1, 1], [(1, 3), (3, 4)])
                == ["identity label 1 in the range of key 4, whose first image has 0"])
        #expect(
            try issues([0, 0, 7], [(1, 3), (3, 4)]) == ["label label 7 is out of range: the file has 2 identities"])
        #expect(try issues([0, 0, 1], [(1, 3), (.nan, 4)]).contains { $0.contains("expected keys of images") })
        #expect(try issues([0, 1], [(1, 2), (2, 3)], metadata: (1.5, 5)).contains { $0.hasPrefix("metadata bounds") })
        #expect(
            try issues([0, 1], [(1, 2), (2, 3)], metadata: (3, 6)).contains(
                "index no record has the key 5 of identity records"))
        #expect(
            try issues([0, 1], [(1, 2), (2, 3)], classes: 9) == ["property says 9 classes, the records hold 2"])
        // An image where an identity should be.
        let (_, mixed) = try records(
            [image(1, 0), bare(0, 2, 4), bare(2, 1, 2), image(3, 0)], classes: 2, in: Scratch())
        #expect(mixed.contains { $0.kind == .identity && $0.key == 3 })
    }

    @Test func identitiesInAnotherOrderAreANote() throws {
        let (found, issues) = try records(
            [image(1, 1), image(2, 0), bare(0, 3, 5), bare(3, 1, 2), bare(4, 2, 3)], classes: 2, in: Scratch())
        #expect(issues.isEmpty && found.notes == ["identity records are not in the order of the class numbers"])
    }

    @Test func propertyFiles() throws {
        let scratch = Scratch()
        let path = try packed(in: scratch)
        scratch.write("property", "three classes")
        #expect(try verify(path).1.map(\.kind) == [.property])
        scratch.remove("property")
        let (found, issues) = try verify(path)
        #expect(issues.isEmpty && found.notes == ["no property file beside the records"])
    }

    // MARK: - Anything

    @Test func mutatedFilesNeverTrap() throws {
        let scratch = Scratch()
        let path = try packed(in: scratch)
        let (records, index) = (scratch.bytes("t.rec"), scratch.bytes("t.idx"))
        var faults = 0
        func run() { if let found = try? DatasetVerification.run(path), found.issues > 0 { faults += 1 } }
        var rounds = mutate(records, seconds: 0.6) {
            scratch.write("t.rec", $0)
            run()
        }
        scratch.write("t.rec", records)
        rounds += mutate(index, seconds: 0.4) {
            scratch.write("t.idx", $0)
            run()
        }
        #expect(rounds > 50 && faults > rounds / 4)
    }

    @Test(.enabled(if: Fixture.realFaces != nil, "set ACUITY_FACES to the folder of real faces"))
    func aFileOfMXNet() throws {
        let (found, issues) = try verify(Fixture.realFaces! + "/mxnet_rec_fixture/train.rec")
        #expect(issues.isEmpty && found.layout == .im2rec && found.images == 8 && found.identities == 2)
    }
}
