import FaceData
import Foundation
import Tensors
import Testing

@Suite struct PairSetTests {
    private let images = String(decoding: Fixture.bytes("pairs-images.txt"), as: UTF8.self).split(separator: "\n").map {
        line in
        let digits = Array(line.utf8)
        return stride(from: 0, to: digits.count, by: 2).map {
            UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)!
        }
    }

    private func contents(_ set: PairSet) throws -> ([[UInt8]], [Bool]) {
        (try (0..<set.imageCount).map { try set.encodedBytes(of: $0) }, set.pairs.map(\.isSame))
    }

    /// Written by Python's own pickler, protocols 1 to 5, and by Python 2's scheme.
    @Test(arguments: [
        "pairs-python2.bin", "pairs-bytes-2.bin", "pairs-bytes-3.bin", "pairs-bytes-4.bin", "pairs-bytes-5.bin",
        "pairs-arrays-2.bin", "pairs-arrays-3.bin", "pairs-arrays-4.bin", "pairs-arrays-5.bin", "pairs-flags-array.bin",
    ])
    func picklesOfPython(_ name: String) throws {
        let set = try PairSet.bin(Fixture.folder + "/" + name)
        let (found, same) = try contents(set)
        #expect(found == images && same == [true, false])
        #expect(set.pairs.map(\.first) == [0, 2] && set.pairs.map(\.second) == [1, 3])
        for index in 0..<4 { #expect(try set.image(at: index).width == (index < 3 ? 4 : 14)) }
    }

    @Test func protocolOne() throws {
        let (found, same) = try contents(try PairSet.bin(Fixture.folder + "/pairs-python2-1.bin"))
        #expect(found == Array(images[..<2]) && same == [true])
    }

    @Test func ourPicklesComeBack() throws {
        let scratch = Scratch()
        var random = RandomStream(seed: 3, purpose: .test, index: 0)
        let images = (0..<4600).map { _ in (0..<random.below(300)).map { _ in UInt8(random.below(256)) } }
        let same = (0..<2300).map { _ in random.below(2) == 1 }
        try PairSet.writeBin(images, same: same, to: scratch.path + "/x.bin")
        let set = try PairSet.bin(scratch.path + "/x.bin")
        let (found, truths) = try contents(set)
        #expect(found == images && truths == same && set.foldCount == 10)
        #expect(set.pairs.allSatisfy { $0.fold == $0.first / 2 / 230 })
    }

    @Test func foldsOfUnevenSets() throws {
        let scratch = Scratch()
        try PairSet.writeBin(
            Array(repeating: [1], count: 46), same: Array(repeating: true, count: 23), to: scratch.path + "/x.bin")
        let set = try PairSet.bin(scratch.path + "/x.bin")
        #expect((0..<10).map { fold in set.pairs.filter { $0.fold == fold }.count } == [3, 3, 3, 2, 2, 2, 2, 2, 2, 2])
    }

    /// Pickles that would run code, exhaust memory or recurse, and what is said about each.
    @Test func hostilePicklesAreRefused() throws {
        let le = { (value: Int, size: Int) in (0..<size).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
        let text = { (string: String) in Array(string.utf8) }
        let hostile: [(String, [UInt8], String)] = [
            ("os.system", text("cos\nsystem\n(S'true'\ntR."), "os.system"),
            ("builtins.eval", [0x80, 4, 0x8C, 8] + text("builtins") + [0x8C, 4] + text("eval") + [0x93, 0x2E], "builtins.eval"),
            ("posix.system, protocol 2", [0x80, 2] + text("cposix\nsystem\nX") + le(2, 4) + text("ls\u{85}R."), "posix.system"),
            ("getattr through numpy", text("cnumpy\nload\n."), "numpy.load"),
            ("a name with spaces", text("c numpy\nndarray\n."), "refused"),
            ("OBJ", text("(cnumpy\nndarray\no."), "opcode 0x6f"),
            ("INST", text("(ios\nsystem\n."), "opcode 0x69"),
            ("NEWOBJ", text("cnumpy\nndarray\n)") + [0x81, 0x2E], "opcode 0x81"),
            ("EXT1", [0x80, 2, 0x82, 1, 0x2E], "opcode 0x82"),
            ("PERSID", text("P1\n."), "opcode 0x50"),
            ("NEXT_BUFFER", [0x80, 5, 0x97, 0x2E], "opcode 0x97"),
            ("DICT", [0x80, 2, 0x7D, 0x2E], "opcode 0x7d"),
            ("LONG4 of 2 GiB", [0x80, 2, 0x8B] + le(0x7FFF_FFFF, 4), "opcode 0x8b"),
            ("STRING", text("S'x'\n."), "opcode 0x53"),
            ("protocol 9", [0x80, 9, 0x2E], "protocol 9"),
            ("calling ndarray", text("cnumpy\nndarray\n)R."), "numpy.ndarray"),
            ("a dtype of objects", text("cnumpy\ndtype\n(X") + le(2, 4) + text("O8tR."), "NumPy type"),
            ("a huge BINBYTES", [0x80, 3, 0x42] + le(0xFFFF_FFFF, 4) + [1], "announces 4294967295 bytes"),
            ("a huge BINBYTES8", [0x80, 4, 0x8E] + le(Int.max, 8), "announces"),
            ("a negative BINBYTES8", [0x80, 4, 0x8E] + le(-1, 8), "announces"),
            ("a huge BINSTRING", [0x80, 2, 0x54] + le(0x7FFF_FFFF, 4), "announces"),
            ("nothing", [], "truncated"),
            ("only STOP", [0x2E], "does not end with a pair"),
            ("no STOP", [0x80, 2, 0x5D], "truncated"),
            ("stack underflow", [0x80, 2, 0x86, 0x2E], "too little"),
            ("no mark", [0x80, 2, 0x5D, 0x65, 0x2E], "no mark"),
            ("a mark left over", [0x5D, 0x5D, 0x86, 0x28, 0x2E], "does not end"),
            ("popping through a mark", [0x5D, 0x5D, 0x28, 0x86, 0x2E], "too little"),
            ("an unknown memo entry", [0x68, 3, 0x2E], "memo entry 3"),
            ("a list in itself", [0x5D, 0x71, 0, 0x68, 0, 0x61, 0x2E], "a list inside a list"),
            ("append to a number", [0x4B, 1, 0x4B, 2, 0x61, 0x2E], "no list"),
            ("deep tuples", [0x29] + [UInt8](repeating: 0x85, count: 100_000) + [0x2E], "nested deeper"),
            ("long tuples", [0x28] + [UInt8](repeating: 0x88, count: 1000) + [0x74, 0x2E], "a tuple of 1000"),
            ("many values", [UInt8](repeating: 0x88, count: 1 << 21), "more than"),
            ("a full memo", [0x88] + [UInt8](repeating: 0x94, count: 1 << 21), "more than"),
            ("an endless name", [0x63] + [UInt8](repeating: 0x61, count: 10_000), "line without end"),
            ("images that are numbers", [0x5D, 0x28, 0x4B, 1, 0x4B, 2, 0x65, 0x5D, 0x88, 0x61, 0x86, 0x2E], "image 0"),
            ("truth of 2", [0x5D, 0x43, 1, 1, 0x61, 0x43, 1, 1, 0x61, 0x5D, 0x4B, 2, 0x61, 0x86, 0x2E], "entry 0"),
            ("one image for a pair", [0x5D, 0x43, 1, 1, 0x61, 0x5D, 0x88, 0x61, 0x86, 0x2E], "1 images for 1 pairs"),
            ("no pair", [0x5D, 0x5D, 0x86, 0x2E], "0 images for 0 pairs"),
        ]
        let scratch = Scratch()
        for (name, bytes, expected) in hostile {
            let path = scratch.write("x.bin", bytes)
            let error = #expect(throws: FaceDataError.self, "\(name)") { try PairSet.bin(path) }
            #expect(error?.description.contains(expected) == true, "\(name): \(error?.description ?? "accepted")")
        }
        // The place is the opcode's byte.
        let path = scratch.write("x.bin", [0x80, 2, 0x5D] + text("cos\nsystem\n."))
        let error = #expect(throws: FaceDataError.self) { try PairSet.bin(path) }
        #expect(error?.place == .byte(3))
    }

    /// The same text converted over and over must not fill the memory.
    @Test func repeatedConversionsAreBounded() throws {
        var bytes: [UInt8] = Array("c_codecs\nencode\n".utf8) + [0x71, 0, 0x58, 0, 0, 1, 0]
        bytes += [UInt8](repeating: 0x61, count: 1 << 16) + [0x71, 1, 0x8C, 6] + Array("latin1".utf8) + [0x71, 2]
        for _ in 0..<1000 { bytes += [0x68, 0, 0x68, 1, 0x68, 2, 0x86, 0x52] }
        let scratch = Scratch()
        let path = scratch.write("x.bin", bytes)
        let error = #expect(throws: FaceDataError.self) { try PairSet.bin(path) }
        #expect(error?.reason.contains("stand for bytes") == true)
    }

    @Test func truncatedPicklesAreRefused() throws {
        let scratch = Scratch()
        for name in ["pairs-python2.bin", "pairs-arrays-2.bin", "pairs-arrays-5.bin"] {
            let bytes = Fixture.bytes(name)
            for count in stride(from: 0, to: bytes.count, by: 7) {
                let path = scratch.write("x.bin", Array(bytes.prefix(count)))
                #expect(throws: FaceDataError.self) { try PairSet.bin(path) }
            }
        }
        let path = scratch.write("x.bin", Fixture.bytes("pairs-python2.bin"))
        let error = #expect(throws: FaceDataError.self) { try PairSet.bin(path, limit: 100) }
        #expect(error?.kind == .tooLarge)
    }

    @Test func mutatedPicklesNeverTrap() {
        let scratch = Scratch()
        var accepted = 0
        var rounds = 0
        for name in ["pairs-python2.bin", "pairs-bytes-2.bin", "pairs-arrays-4.bin", "pairs-arrays-5.bin"] {
            rounds += mutate(Fixture.bytes(name), seconds: 0.3) { variant in
                let path = scratch.write("x.bin", variant)
                guard let set = try? PairSet.bin(path) else { return }
                accepted += 1
                for index in 0..<set.imageCount { _ = try? set.image(at: index) }
            }
        }
        #expect(rounds > 100 && accepted < rounds)
    }

    // MARK: pairs.txt

    private func lfw(_ text: String) throws -> PairSet {
        let scratch = Scratch()
        let png = try ImageCodec.encodePNG(testImage(1, width: 4, height: 4))
        for name in ["A_B/A_B_0001.jpg", "A_B/A_B_0002.png", "C/C_0001.jpg", "C/C_0010.jpg", "D/D_0003.png"] {
            scratch.write("faces/" + name, png)
        }
        let set = try PairSet.lfw(pairs: scratch.write("pairs.txt", text), folder: scratch.path + "/faces")
        for index in 0..<set.imageCount { #expect(try set.image(at: index).width == 4) }
        return set
    }

    @Test func pairsText() throws {
        let set = try lfw("2\t1\nA_B\t1\t2\nA_B\t1\tC\t10\nC\t1\t10\nD\t3\tA_B\t2\n")
        #expect(set.foldCount == 2 && set.pairs.map(\.fold) == [0, 0, 1, 1])
        #expect(set.pairs.map(\.isSame) == [true, false, true, false])
        #expect((0..<set.imageCount).map(set.key) == [
            "A_B/A_B_0001.jpg", "A_B/A_B_0002.png", "C/C_0010.jpg", "C/C_0001.jpg", "D/D_0003.png",
        ])
        #expect(set.pairs[3] == set.pairs.last && set.pairs[3].first == 4 && set.pairs[3].second == 1)
        #expect(try lfw("1\nA_B\t1\t2\nA_B\t1\tC\t10\n").foldCount == 1)
    }

    @Test(arguments: [
        ("", nil), ("x\n", 1), ("0\t5\n", 1), ("1\t1\nA_B\t1\t2\n", nil), ("1\t1\nA_B\t1\t2\nC\t1\t10\nC\t1\t10\n", 4),
        ("1\t1\nA_B\t1\n", 2), ("1\t1\nA_B\t1\t9\n", 2), ("1\t1\nA_B\t1\t-1\n", 2), ("1\t1\n../A_B\t1\t2\n", 2),
        ("1\t1\n..\t1\t2\n", 2), ("1\t1\nNobody\t1\t2\n", 2), ("99999999999999999999\t1\n", 1),
    ] as [(String, Int?)])
    func brokenPairsText(_ text: String, _ line: Int?) {
        let error = #expect(throws: FaceDataError.self) { try lfw(text) }
        #expect(error?.place == line.map { .line($0) })
    }
}
