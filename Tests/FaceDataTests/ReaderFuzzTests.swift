import FaceData
import Foundation
import Tensors
import TestSupport
import Testing

/// Readers of face data on bytes that nobody has written on purpose: an error or a result, no crash and no hang.
@Suite(.serialized) struct ReaderFuzzTests {
    /// Six small images as RecordIO, and its index.
    private func packed(_ scratch: Scratch) throws -> (records: [UInt8], index: [UInt8]) {
        var list = ""
        for (index, label) in [1, 0, 1, 2, 0, 1].enumerated() {
            scratch.write(
                "images/\(index).png", try ImageCodec.encodePNG(testImage(UInt64(index), width: 8, height: 6)))
            list += "\(index).png\t\(label)\n"
        }
        let source = try ListSource(scratch.write("images/list.tsv", list))
        _ = try RecordPacker.pack(source, to: scratch.path + "/train", layout: .insightface)
        return (scratch.bytes("train.rec"), scratch.bytes("train.idx"))
    }

    private func readAll(_ source: any FaceSource) {
        for index in 0..<min(source.count, 12) {
            #expect((0..<source.classCount).contains(source.label(of: index)))
            _ = source.key(of: index)
            _ = try? source.image(at: index)
        }
    }

    @Test func recordIO() throws {
        let scratch = Scratch()
        let (records, index) = try packed(scratch)
        let target = Scratch()
        target.write("train.idx", index)
        Fuzzer.run(seed: 1, [records]) { bytes in
            target.write("train.rec", bytes)
            if let source = try? RecordIOSource(target.path + "/train.rec") { readAll(source) }
        }
    }

    @Test func indexOfRecordIO() throws {
        let scratch = Scratch()
        let (records, index) = try packed(scratch)
        let target = Scratch()
        target.write("train.rec", records)
        Fuzzer.run(seed: 2, [index], words: ["0\t0\n", "\t", "\n", "99999999999999999999", "-1", "4294967296"]) {
            bytes in
            target.write("train.idx", bytes)
            if let source = try? RecordIOSource(target.path + "/train.rec") { readAll(source) }
        }
    }

    @Test func records() throws {
        let scratch = Scratch()
        let (records, _) = try packed(scratch)
        Fuzzer.run(seed: 3, [records], seconds: 0.5) { bytes in
            guard let reader = try? RecordIOReader(scratch.write("some.rec", bytes)) else { return }
            var offset: UInt64 = 0
            var count = 0
            while offset < reader.size, count < 100, let record = try? reader.record(at: offset) {
                #expect(record.next > offset)
                offset = record.next
                count += 1
            }
        }
    }

    @Test func pickles() {
        let seeds = [
            "pairs-python2.bin", "pairs-bytes-4.bin", "pairs-bytes-5.bin", "pairs-arrays-2.bin", "pairs-arrays-4.bin",
            "pairs-flags-array.bin",
        ].map(Fixture.bytes)
        Fuzzer.run(seed: 4, seeds, words: ["cnumpy\nndarray\n", "\u{8}\u{80}", "(", "t", "R.", "q\u{0}", "h\u{0}"]) {
            guard let set = try? PairSet.bin($0, from: "fuzz.bin") else { return }
            for index in 0..<min(set.imageCount, 8) { _ = try? set.image(at: index) }
        }
    }

    @Test func images() throws {
        let image = testImage(7, width: 40, height: 30)
        let seeds = [try ImageCodec.encodePNG(image), try ImageCodec.encodeJPEG(image, quality: 80)]
        let limits = ImageLimits(encodedBytes: 1 << 20, pixels: 1 << 16)
        let words = ["IHDR", "IDAT", "PLTE", "tRNS", "iCCP", "IEND", "Exif\u{0}\u{0}", "JFIF"]
        Fuzzer.run(seed: 5, seeds, words: words) { bytes in
            _ = try? ImageCodec.info(bytes, limits: limits)
            guard let decoded = try? ImageCodec.decode(bytes, limits: limits) else { return }
            #expect(decoded.pixels.count == 3 * decoded.width * decoded.height)
        }
    }

    @Test func lists() throws {
        let scratch = Scratch()
        let list = Array("0.png\t1\n1.png\t0\nb/2.png\t1\n".utf8)
        Fuzzer.run(
            seed: 6, [list], words: ["\t", "\n", "-1", "99999999999", "../", "\u{0}", "1e9", "nan"], seconds: 0.5
        ) {
            if let source = try? ListSource(scratch.write("list.tsv", $0)) { readAll(source) }
        }
    }

    @Test func pairLists() throws {
        let scratch = Scratch()
        let pairs = Array("10\t2\nann\t1\t2\nben\t2\t3\nann\t1\tben\t2\nben\t1\tann\t3\n".utf8)
        Fuzzer.run(seed: 7, [pairs], words: ["\t", "\n", "0", "-1", "9999999999999999999"], seconds: 0.5) {
            _ = try? PairSet.lfw(pairs: scratch.write("pairs.txt", $0), folder: scratch.path)
        }
    }
}
