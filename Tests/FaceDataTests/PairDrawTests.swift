import FaceData
import Foundation
import Tensors
import Testing

/// Labels without images.
private struct LabelSource: FaceSource {
    let labels: [Int]
    let classCount: Int
    var location: String { "labels" }
    var count: Int { labels.count }

    /// - Parameter sizes: images of each identity; the records of different identities alternate.
    init(_ sizes: [Int]) {
        var labels: [Int] = []
        for image in 0..<(sizes.max() ?? 0) {
            for (label, size) in sizes.enumerated() where image < size { labels.append(label) }
        }
        self.labels = labels
        classCount = sizes.count
    }

    func label(of index: Int) -> Int { labels[index] }
    func key(of index: Int) -> String { "image \(index)" }
    func identityName(_ label: Int) -> String { "\(label)" }
    func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] { [] }
}

@Suite struct PairDrawTests {
    private func options(_ folds: Int, _ pairs: Int, seed: UInt64 = 1) -> PairDraw.Options {
        var options = PairDraw.Options()
        options.folds = folds
        options.pairsPerFold = pairs
        options.seed = seed
        return options
    }

    /// Everything that the protocol promises.
    private func check(_ draw: PairDraw, _ source: LabelSource, folds: Int, pairs: Int) {
        #expect(draw.pairs.count == folds * pairs && draw.foldCount == folds)
        #expect(draw.pairs.map(\.fold) == (0..<folds).flatMap { Array(repeating: $0, count: pairs) })
        var foldOf: [Int: Int] = [:]
        var unordered: Set<[Int]> = []
        for (place, pair) in draw.pairs.enumerated() {
            // Genuine first.
            #expect(pair.isSame == (place % pairs < pairs / 2))
            let labels = [source.label(of: pair.first), source.label(of: pair.second)]
            #expect(pair.isSame == (labels[0] == labels[1]) && pair.first != pair.second)
            #expect(unordered.insert([pair.first, pair.second].sorted()).inserted, "a pair comes twice")
            for label in labels {
                #expect(foldOf[label, default: pair.fold] == pair.fold, "identity \(label) is in two folds")
                foldOf[label] = pair.fold
            }
        }
    }

    @Test(arguments: [
        Array(repeating: 5, count: 100), Array(repeating: 2, count: 400), (0..<200).map { 1 + $0 % 7 },
        [500, 300, 200] + Array(repeating: 4, count: 117),
        Array(repeating: 1, count: 300) + Array(repeating: 6, count: 60),
    ])
    func balancedAndDisjoint(_ sizes: [Int]) throws {
        let source = LabelSource(sizes)
        check(try PairDraw(source, options: options(10, 40)), source, folds: 10, pairs: 40)
        check(try PairDraw(source, options: options(3, 100)), source, folds: 3, pairs: 100)
    }

    @Test func everyPairOfATightSet() throws {
        // Ten folds of two identities with three images: 6 genuine pairs, 9 impostor pairs.
        let source = LabelSource(Array(repeating: 3, count: 20))
        check(try PairDraw(source, options: options(10, 12)), source, folds: 10, pairs: 12)
        // Two identities with one and eight images form 8 impostor pairs, all of which are needed.
        let uneven = LabelSource([8, 1])
        check(try PairDraw(uneven, options: options(1, 16)), uneven, folds: 1, pairs: 16)
    }

    @Test func genuinePairsAreSharedOutOverTheIdentities() throws {
        let source = LabelSource([200] + Array(repeating: 4, count: 24))
        let draw = try PairDraw(source, options: options(1, 50))
        let givers = draw.pairs.filter(\.isSame).map { source.label(of: $0.first) }
        #expect(Set(givers).count == 25 && givers.count == 25)
    }

    @Test func seedsDecide() throws {
        let source = LabelSource((0..<120).map { 2 + $0 % 5 })
        let first = try PairDraw(source, options: options(10, 40, seed: 4))
        #expect(try PairDraw(source, options: options(10, 40, seed: 4)).pairs == first.pairs)
        #expect(try PairDraw(source, options: options(10, 40, seed: 5)).pairs != first.pairs)
    }

    @Test(
        arguments: [
            (Array(repeating: 3, count: 20), 10, 14, "at most 12 pairs per fold"),
            (Array(repeating: 1, count: 500), 10, 2, "two or more images"),
            ([9, 9, 9], 10, 2, "fewer folds"),
            ([50], 1, 10, "fewer folds"),
        ] as [([Int], Int, Int, String)])
    func setsThatAreTooSmall(_ sizes: [Int], _ folds: Int, _ pairs: Int, _ advice: String) {
        let error = #expect(throws: FaceDataError.self) {
            try PairDraw(LabelSource(sizes), options: options(folds, pairs))
        }
        #expect(error?.description.contains("too small for \(folds) folds of \(pairs) pairs") == true)
        #expect(error?.advice?.contains(advice) == true, "\(error?.description ?? "")")
        // What the advice promises holds.
        if let words = error?.advice?.split(separator: " "), words.first == "ask",
            let most = words.compactMap({ Int($0) }).first
        {
            #expect(throws: Never.self) { try PairDraw(LabelSource(sizes), options: options(folds, most)) }
        }
    }

    // MARK: - Files

    private func people(_ scratch: Scratch, name: (Int, Int) -> String) throws -> FolderSource {
        for person in 0..<8 {
            for image in 1...3 {
                scratch.write(
                    "s/\(name(person, image))",
                    try ImageCodec.encodePNG(testImage(UInt64(10 * person + image), width: 8, height: 8)))
            }
        }
        return try FolderSource(scratch.path + "/s")
    }

    /// What a written file means must be what was drawn.
    private func compare(_ set: PairSet, _ draw: PairDraw, _ source: FolderSource) throws {
        #expect(set.foldCount == draw.foldCount && set.pairs.count == draw.pairs.count)
        for (read, drawn) in zip(set.pairs, draw.pairs) {
            #expect(read.isSame == drawn.isSame && read.fold == drawn.fold)
            #expect(try set.encodedBytes(of: read.first) == source.encodedBytes(of: drawn.first))
            #expect(try set.encodedBytes(of: read.second) == source.encodedBytes(of: drawn.second))
        }
    }

    @Test func lfwFormatWhereNamesAllow() throws {
        let scratch = Scratch()
        let source = try people(scratch) { "P_\($0)/P_\($0)_000\($1).png" }
        let draw = try PairDraw(source, options: options(4, 6))
        let file = scratch.path + "/pairs.txt"
        #expect(try PairWriter.writeText(draw, of: source, to: file) == .lfw)
        #expect(String(decoding: scratch.bytes("pairs.txt"), as: UTF8.self).hasPrefix("4\t3\nP_"))
        try compare(try PairSet.text(file, folder: scratch.path + "/s"), draw, source)
        try compare(try PairSet.lfw(pairs: file, folder: scratch.path + "/s"), draw, source)
    }

    @Test(arguments: [
        "person NR/person NR_000I.png", "pNR/I.png", "pNR/pNR_I.png", "pNR/qNR_000I.png", "pNR/pNR_00xI.png",
    ])
    func linesOfPathsOtherwise(_ pattern: String) throws {
        let scratch = Scratch()
        let source = try people(scratch) {
            pattern.replacingOccurrences(of: "NR", with: "\($0)").replacingOccurrences(of: "I", with: "\($1)")
        }
        let draw = try PairDraw(source, options: options(4, 6))
        let file = scratch.path + "/pairs.txt"
        #expect(try PairWriter.writeText(draw, of: source, to: file) == .table)
        try compare(try PairSet.text(file, folder: scratch.path + "/s"), draw, source)
        // Absolute paths need no folder.
        let rows = String(decoding: scratch.bytes("pairs.txt"), as: UTF8.self).split(separator: "\n").dropFirst()
        let absolute = rows.map { row in
            let fields = row.split(separator: "\t")
            return fields[..<2].map { "\(scratch.path)/s/\($0)" }.joined(separator: "\t")
                + "\t\(fields[2])\t\(fields[3])\n"
        }
        let other = scratch.write("absolute.tsv", absolute.joined())
        try compare(try PairSet.text(other, folder: "/nowhere"), draw, source)
    }

    @Test func binFiles() throws {
        let scratch = Scratch()
        let source = try people(scratch) { "p\($0)/\($1).png" }
        let draw = try PairDraw(source, options: options(2, 10))
        try PairWriter.writeBin(draw, of: source, to: scratch.path + "/x.bin")
        let set = try PairSet.bin(scratch.path + "/x.bin")
        #expect(set.pairs.map(\.isSame) == draw.pairs.map(\.isSame) && set.imageCount == 40)
        for (place, pair) in draw.pairs.enumerated() {
            #expect(try set.encodedBytes(of: 2 * place) == source.encodedBytes(of: pair.first))
            #expect(try set.encodedBytes(of: 2 * place + 1) == source.encodedBytes(of: pair.second))
        }
        // As identities again: no image of two people is one, and there are no more than the people times three.
        let identities = try PairSetSource(set)
        #expect(identities.count == 40 && identities.classCount <= 24)
        var owner: [Int: Int] = [:]
        for (place, pair) in draw.pairs.enumerated() {
            for (image, record) in [(2 * place, pair.first), (2 * place + 1, pair.second)] {
                let label = identities.label(of: image)
                #expect(owner[label, default: source.label(of: record)] == source.label(of: record))
                owner[label] = source.label(of: record)
            }
        }
    }

    @Test func recordsHaveNoPaths() throws {
        let scratch = Scratch()
        let source = try people(scratch) { "p\($0)/\($1).png" }
        _ = try RecordPacker.pack(source, to: scratch.path + "/t", layout: .insightface)
        let records = try RecordIOSource(scratch.path + "/t.rec")
        let draw = try PairDraw(records, options: options(2, 6))
        let error = #expect(throws: FaceDataError.self) {
            try PairWriter.writeText(draw, of: records, to: scratch.path + "/pairs.txt")
        }
        #expect(error?.advice == "write a .bin file")
    }

    @Test(
        arguments: [
            ("a.png\tb.png\t1\n", 1), ("# x\na.png\tb.png\t2\t1\n", 2), ("# x\na.png\tb.png\t1\t0\n", 2),
            ("# x\na.png\tnone.png\t1\t1\n", 2), ("# x\n", nil), ("a.png\tb.png\t1\t2\n", nil),
            ("a.png\tb.png\t1\t1\n\na.png\t\t1\t1\n", 3),
        ] as [(String, Int?)])
    func brokenTables(_ text: String, _ line: Int?) throws {
        let scratch = Scratch()
        for name in ["a.png", "b.png"] { scratch.write(name, "x") }
        let file = scratch.write("pairs.tsv", text)
        let error = #expect(throws: FaceDataError.self) { try PairSet.text(file, folder: scratch.path) }
        #expect(error?.place == line.map { .line($0) })
    }
}
