import FaceData
import Foundation
import Tensors
import Testing

@Suite struct DatasetInspectionTests {
    private func people(_ scratch: Scratch) throws -> FolderSource {
        let first = try ImageCodec.encodePNG(testImage(1, width: 9, height: 7))
        let grey = RGBImage(width: 5, height: 5, fill: (90, 90, 90))
        scratch.write("s/a/1.png", first)
        scratch.write("s/a/2.png", first)
        scratch.write("s/b/1.jpg", try ImageCodec.encodeJPEG(testImage(2, width: 16, height: 16)))
        scratch.write("s/b/2.png", first)
        scratch.write("s/b/3.png", try ImageCodec.encodePNG(grey))
        scratch.write("s/c/1.png", try ImageCodec.encodePNG(testImage(4, width: 9, height: 7)))
        scratch.write("s/d/1.png", Array(first.prefix(60)))
        return try FolderSource(scratch.path + "/s")
    }

    @Test(arguments: [1, 4]) func countsAndDuplicates(_ threads: Int) throws {
        let scratch = Scratch()
        let source = try people(scratch)
        var options = DatasetInspection.Options()
        options.threads = threads
        let found = try DatasetInspection(source, options: options)
        #expect(found.images == 7 && found.identities == 4 && found.counts == [2, 3, 1, 1])
        let per = found.imagesPerIdentity
        #expect(per.minimum == 1 && per.median == 1.5 && per.mean == 1.75 && per.maximum == 3)
        #expect(found.singleImageIdentities == 2)
        #expect(found.examined == 7 && found.decoded == 6 && found.unreadable == 1 && found.grey == 1)
        #expect(found.sizes == ["9x7": 4, "16x16": 1, "5x5": 1])
        #expect(found.formats == ["png": 6, "jpeg": 1])
        #expect(found.unreadableExamples.count == 1 && found.unreadableExamples[0].contains("d/1.png"))
        #expect(found.bytes == (0..<7).reduce(0) { $0 + (try! source.encodedBytes(of: $1).count) })
        #expect(found.smallest == 60 && found.pixelDuplicates == nil)
        #expect(found.duplicates.groups == [[0, 1, 3]] && found.duplicates.conflicting == [0])
        #expect(found.duplicates.surplus == 2)
    }

    @Test func pixelsThatWereStoredAnew() throws {
        let scratch = Scratch()
        // The same picture with a text chunk after the header, so that its bytes differ.
        let plain = try ImageCodec.encodePNG(testImage(1, width: 9, height: 7))
        let chunk: [UInt8] = [0, 0, 0, 3] + Array("tEXt".utf8) + Array("a".utf8) + [0, 0x62]
        let labelled = Array(plain[..<33]) + chunk + crc(Array(chunk[4...])) + Array(plain[33...])
        scratch.write("s/a/1.png", plain)
        scratch.write("s/a/2.png", labelled)
        var options = DatasetInspection.Options()
        options.comparesPixels = true
        let found = try DatasetInspection(try FolderSource(scratch.path + "/s"), options: options)
        #expect(found.decoded == 2 && found.duplicates.groups.isEmpty)
        #expect(found.pixelDuplicates?.groups == [[0, 1]] && found.pixelDuplicates?.conflicting == [])
    }

    private func crc(_ bytes: [UInt8]) -> [UInt8] {
        var value: UInt32 = 0xFFFF_FFFF
        for byte in bytes {
            value ^= UInt32(byte)
            for _ in 0..<8 { value = value & 1 == 1 ? value >> 1 ^ 0xEDB8_8320 : value >> 1 }
        }
        let word = ~value
        return [UInt8(word >> 24), UInt8(word >> 16 & 255), UInt8(word >> 8 & 255), UInt8(word & 255)]
    }

    @Test func aSampleIsSpreadEvenly() throws {
        let source = MemorySource(classes: 10, perClass: 3, size: 8, damaged: [0, 5])
        var options = DatasetInspection.Options()
        options.sample = 3
        let found = try DatasetInspection(source, options: options)
        // Records 0, 10 and 20.
        #expect(found.examined == 3 && found.unreadable == 1 && found.images == 30)
    }

    @Test(arguments: [[3, 3, 3], [1, 2, 40], [1, 5, 500], [20, 100, 180], [0, 1], Array(1...2000)])
    func binsHoldEveryIdentityOnce(_ counts: [Int]) throws {
        struct Counted: FaceSource {
            let labels: [Int]
            let classCount: Int
            var location: String { "counted" }
            var count: Int { labels.count }
            func label(of index: Int) -> Int { labels[index] }
            func key(of index: Int) -> String { "\(index)" }
            func identityName(_ label: Int) -> String { "\(label)" }
            func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] { [] }
        }
        let labels = counts.enumerated().flatMap { Array(repeating: $0.offset, count: min($0.element, 50)) }
        let shown = counts.map { min($0, 50) }
        var options = DatasetInspection.Options()
        options.sample = 1
        let found = try DatasetInspection(Counted(labels: labels, classCount: counts.count), options: options)
        let histogram = found.histogram
        #expect(found.counts == shown)
        #expect(histogram.identities.reduce(0, +) == counts.count && histogram.identities.count <= 42)
        #expect(histogram.edges.count == histogram.identities.count + 1)
        #expect(zip(histogram.edges, histogram.edges.dropFirst()).allSatisfy { $0 < $1 })
        for (bin, identities) in histogram.identities.enumerated() {
            let inside = shown.count { histogram.edges[bin] <= $0 && $0 < histogram.edges[bin + 1] }
            #expect(inside == identities)
        }
    }

    @Test func aFailingDiskEndsIt() {
        struct Failing: FaceSource {
            var location: String { "disk" }
            var count: Int { 4 }
            var classCount: Int { 1 }
            func label(of index: Int) -> Int { 0 }
            func key(of index: Int) -> String { "\(index)" }
            func identityName(_ label: Int) -> String { "x" }
            func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] {
                throw FaceDataError(.cannotRead, file: "disk", "fails")
            }
        }
        let error = #expect(throws: FaceDataError.self) { try DatasetInspection(Failing()) }
        #expect(error?.kind == .cannotRead)
    }
}
