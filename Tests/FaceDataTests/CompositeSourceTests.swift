import FaceData
import Tensors
import Testing

@Suite struct CompositeSourceTests {
    /// Identities by name, with so many images each, all of one size.
    private struct Named: FaceSource {
        let location: String
        let identities: [(name: String, images: Int)]
        let labels: [Int]
        let seed: UInt64

        init(_ location: String, _ identities: [(String, Int)], seed: UInt64) {
            self.location = location
            self.identities = identities
            self.seed = seed
            labels = identities.enumerated().flatMap { label, entry in (0..<entry.1).map { _ in label } }
        }

        var count: Int { labels.count }
        var classCount: Int { identities.count }
        func label(of index: Int) -> Int { labels[index] }
        func key(of index: Int) -> String { "\(identities[labels[index]].name)/\(index)" }
        func identityName(_ label: Int) -> String { identities[label].name }
        func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] {
            try! ImageCodec.encodePNG(testImage(seed + UInt64(index), width: 16, height: 16))
        }
    }

    private let first = Named("a", [("ann", 2), ("bob", 3)], seed: 0)
    private let second = Named("b", [("bob", 1), ("cai", 2), ("ann", 2)], seed: 100)
    private let third = Named("c", [("bob", 1)], seed: 200)

    private func names(_ source: any FaceSource) -> [String] { (0..<source.classCount).map(source.identityName) }
    private func labels(_ source: any FaceSource) -> [Int] { (0..<source.count).map(source.label) }

    @Test func identitiesOfDifferentSourcesAreDifferentPeople() throws {
        let source = try CompositeSource([
            .init(name: "one", source: first), .init(name: "two", source: second, weight: 2),
        ])
        #expect(source.count == 10 && source.classCount == 5)
        #expect(names(source) == ["one/ann", "one/bob", "two/bob", "two/cai", "two/ann"])
        #expect(labels(source) == [0, 0, 1, 1, 1, 2, 3, 3, 4, 4])
        #expect(source.key(of: 0) == "one/ann/0" && source.key(of: 5) == "two/bob/0")
        #expect(source.parts == [SourcePart(records: 0..<5), SourcePart(records: 5..<10, weight: 2)])
        #expect(try source.image(at: 6) == testImage(101, width: 16, height: 16))
        #expect(try source.encodedBytes(of: 4) == first.encodedBytes(of: 4))
        #expect(source.notes.isEmpty)
    }

    @Test func sharedLabelsJoinEqualNames() throws {
        let source = try CompositeSource([
            .init(name: "one", source: first, labels: .shared), .init(name: "three", source: third),
            .init(name: "two", source: second, labels: .shared),
        ])
        #expect(names(source) == ["ann", "bob", "three/bob", "cai"])
        #expect(labels(source) == [0, 0, 1, 1, 1, 2, 1, 3, 3, 0, 0])
        #expect(source.notes.count == 1 && source.notes[0].hasPrefix("2 identities of one, two"))
        #expect(!source.namesAreNumbers)
    }

    @Test func aLoaderReadsThroughIt() throws {
        let source = try CompositeSource([
            .init(name: "one", source: first), .init(name: "two", source: second, weight: 2),
            .init(name: "three", source: third, weight: 0.5),
        ])
        let sampler = try EpochSampler(parts: source.parts, globalBatch: 4, seed: 4)
        #expect(sampler.slots == 16)
        var seen: [Int: Int] = [:]
        let loader = BatchLoader(
            source: source, sampler: sampler,
            options: .init(preprocessing: Preprocessing(faceWidth: 16, faceHeight: 16), seed: 4, threads: 2))
        var flips: Set<[Float]> = []
        for step in 0..<32 {
            let batch = try loader.next()
            #expect(batch.records == sampler.records(at: 4 * step))
            #expect(batch.labels == batch.records.map(source.label))
            for (row, record) in batch.records.enumerated() {
                seen[record, default: 0] += 1
                if record == 5 { flips.insert(Array(batch.images.floats[768 * row..<768 * row + 768])) }
            }
        }
        // Eight epochs.
        #expect((0..<5).allSatisfy { seen[$0] == 8 } && (5..<10).allSatisfy { seen[$0] == 16 })
        // An image that comes twice in an epoch is mirrored by a coin of its own each time.
        #expect(flips.count == 2)
    }

    @Test func stretchesToReadAheadFindTheirSource() throws {
        let watched = [WatchedSource(count: 5), WatchedSource(count: 7)]
        let source = try CompositeSource([.init(name: "a", source: watched[0]), .init(name: "b", source: watched[1])])
        source.willNeed(3..<9)
        #expect(watched[0].asked == [3..<5] && watched[1].asked == [0..<4])
        let subset = try SubsetSource(watched[1], indices: [1, 2, 3, 5, 6])
        subset.willNeed(1..<4)
        #expect(watched[1].asked == [0..<4, 2..<6])
    }

    @Test func namesOfSources() {
        let expected = [
            "photos": "photos", "a/b/faces.rec": "faces", "ms1mv3/train.rec": "ms1mv3", "/data/casia/": "casia",
            "train.rec": "train", "./x/../train.tsv": "x", "synthetic": "synthetic", "/": "data",
            "a/.hidden": ".hidden",
        ]
        for (path, name) in expected { #expect(FaceSources.name(of: path) == name, "\(path)") }
    }

    // MARK: - Exclusion

    private func list(_ text: String) throws -> ExclusionList {
        try ExclusionList(Scratch().write("exclude.txt", text))
    }

    @Test func identitiesAndRecordsAreLeftOut() throws {
        let exclusion = try list("# of the test set\nann\n\n  one/bob/3 \r\ntwo/bob\nnobody\none/cai\n")
        let (rest, report) = try exclusion.applied(to: [("one", first), ("two", second)])
        // ann of both, bob of the second, one image of the first's bob.
        #expect(report.identities == 3 && report.records == 1 && report.images == 2 + 2 + 1 + 1)
        #expect(report.unknown == ["nobody", "one/cai"])
        #expect(names(rest[0]) == ["bob"] && (0..<rest[0].count).map(rest[0].key) == ["bob/2", "bob/4"])
        #expect(names(rest[1]) == ["cai"] && labels(rest[1]) == [0, 0])
        let notes = exclusion.notes(report)
        #expect(notes.count == 2 && notes[0].contains("3 identities and 1 single images: 6 images"))
        #expect(notes[1].contains("2 names") && notes[1].contains("nobody, one/cai"))
    }

    @Test func aSourceThatNothingIsTakenFromStaysItself() throws {
        let (rest, report) = try list("bob/9\nbob/2\ncai").applied(to: [(nil, first), (nil, third)])
        #expect(rest[0].count == 4 && rest[1] is Named)
        #expect(report.unknown == ["bob/9", "cai"] && report.records == 1 && report.identities == 0)
    }

    @Test func nothingLeftIsAnError() throws {
        let exclusion = try list("bob\n")
        let error = #expect(throws: FaceDataError.self) { try exclusion.applied(to: [(nil, first), (nil, third)]) }
        #expect(error?.description.contains("excludes every image of c") == true)
        #expect(throws: FaceDataError.self) { try ExclusionList("/nowhere/list.txt") }
        #expect(throws: FaceDataError.self) { try ExclusionList(Scratch().write("x", [0xFF, 0xFE, 0x0A])) }
    }
}
