import FaceData
import Foundation
import Tensors
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Every kind of file that cannot be read as an image is left out with its key and the reason, and nothing else changes.
@Suite struct QuarantineKindsTests {
    /// 8 identities of 4 images; some are no images any more.
    private func folder() throws -> (Scratch, damaged: [String: String]) {
        let scratch = Scratch()
        for identity in 0..<8 {
            for index in 0..<4 {
                let image = testImage(UInt64(10 * identity + index), width: 16, height: 16)
                scratch.write("\(identity)/\(index).jpg", try ImageCodec.encodeJPEG(image))
            }
        }
        let whole = scratch.bytes("0/0.jpg")
        scratch.write("0/1.jpg", Array(whole.prefix(whole.count / 2)))
        scratch.write("1/1.jpg", [])
        scratch.write("2/1.jpg", "no image at all")
        for (name, target) in [("4/1.jpg", "1.jpg"), ("5/1.jpg", "nowhere")] {
            scratch.remove(name)
            symlink(target, scratch.path + "/" + name)
        }
        scratch.remove("3/1.jpg")
        scratch.makeFolder("3/1.jpg")
        scratch.remove("6/1.jpg")
        mkfifo(scratch.path + "/6/1.jpg", 0o600)
        return (
            scratch,
            [
                "0/1.jpg": "not a readable image", "1/1.jpg": "no image bytes", "2/1.jpg": "neither JPEG nor PNG",
                "3/1.jpg": "not a regular file", "4/1.jpg": "cannot be read (Too many levels of symbolic links)",
                "5/1.jpg": "no such file", "6/1.jpg": "not a regular file",
            ]
        )
    }

    @Test(arguments: [1, 3]) func eachIsNamedOnce(_ threads: Int) throws {
        let (scratch, damaged) = try folder()
        let source = try FolderSource(scratch.path)
        #expect(source.count == 32)
        let sampler = try EpochSampler(recordCount: 32, globalBatch: 8, seed: 4)
        var expected: [[Float]] = []
        for number in [threads, 2] {
            let loader = BatchLoader(
                source: source, sampler: sampler,
                options: .init(
                    preprocessing: Preprocessing(faceWidth: 16, faceHeight: 16), seed: 4, threads: number,
                    quarantineLimit: 7))
            var found: [String: String] = [:]
            var images: [[Float]] = []
            for _ in 0..<8 {
                let batch = try loader.next()
                images.append(Array(batch.images.floats))
                for record in batch.quarantined {
                    #expect(found[record.key] == nil)
                    found[record.key] = record.reason
                }
            }
            #expect(Set(found.keys) == Set(damaged.keys))
            for (key, reason) in damaged {
                #expect(found[key]?.contains(reason) == true, "\(key): \(found[key] ?? "not met")")
            }
            #expect(loader.quarantinedCount == 7 && !loader.isOverQuarantineLimit)
            let same = expected.isEmpty || images == expected
            #expect(same)
            expected = images
        }
    }

    /// A JPEG that has lost its own tables must not be decoded with those of the image before it.
    @Test func aDecoderRemembersNothing() throws {
        let scratch = Scratch()
        let bytes = try ImageCodec.encodeJPEG(testImage(3, width: 16, height: 16))
        var bare = bytes
        for place in 0..<bare.count - 1 where bare[place] == 0xFF && bare[place + 1] == 0xDB { bare[place + 1] = 0xEC }
        scratch.write("a/0.jpg", bytes)
        scratch.write("a/1.jpg", bare)
        let source = try FolderSource(scratch.path)
        let decoder = ImageDecoder()
        var image = RGBImage(width: 16, height: 16)
        for _ in 0..<2 {
            try source.decode(0, with: decoder, into: &image)
            #expect(throws: FaceDataError.self) { try source.decode(1, with: decoder, into: &image) }
        }
    }

    /// Batches of identities replace a damaged image by another one of the same identity.
    @Test func identitiesKeepTheirPlaceInABatch() throws {
        let source = MemorySource(classes: 6, perClass: 4, size: 16, damaged: [1, 2, 9, 12, 13, 14, 15])
        let sampler = try EpochSampler(
            identities: IdentityTable(source), imagesEach: 2, globalBatch: 6, seed: 3)
        let loader = BatchLoader(
            source: source, sampler: sampler,
            options: .init(preprocessing: Preprocessing(faceWidth: 16, faceHeight: 16), seed: 3, threads: 2))
        for step in 0..<8 {
            let batch = try loader.next()
            for (wanted, record) in zip(sampler.records(at: 6 * step), batch.records) {
                // The fourth identity has no intact image; then the next of the source is taken.
                let expected = wanted / 4 == 3 ? record == 16 : record / 4 == wanted / 4
                #expect(expected, "\(record) for \(wanted)")
                #expect(![1, 2, 9].contains(record))
            }
        }
    }
}

/// What is asked for ahead of time.
@Suite struct ReadAheadTests {
    private func asked(world: Int, shuffle: Shuffle, batches: Int) throws -> (WatchedSource, EpochSampler) {
        let source = WatchedSource(count: 1000)
        let sampler = try EpochSampler(parts: source.parts, globalBatch: 20, seed: 1, shuffle: shuffle)
        let loader = BatchLoader(
            source: source, sampler: sampler, worldSize: world,
            options: .init(preprocessing: Preprocessing(faceWidth: 16, faceHeight: 16), seed: 1, prefetch: 1))
        for _ in 0..<batches { _ = try loader.next() }
        // It is asked from another thread.
        let isAsked = world == 1 && shuffle != .full
        for _ in 0..<500 where isAsked && source.asked.reduce(0, { $0 + $1.count }) < 200 { usleep(10_000) }
        withExtendedLifetime(loader) {}
        return (source, sampler)
    }

    @Test func wholeChunksAreAskedForBeforeTheirTurn() throws {
        let (source, sampler) = try asked(world: 1, shuffle: .chunks(size: 50, open: 2), batches: 1)
        let asked = source.asked
        #expect(asked.allSatisfy { $0.count % 50 == 0 && $0.lowerBound % 50 == 0 })
        #expect(Set(asked).count == asked.count)
        // In the order of the epoch, which the first ones show.
        let first = Set(sampler.records(at: 0).map { $0 / 50 })
        #expect(first.isSubset(of: Set(asked.prefix(2).flatMap { $0.map { $0 / 50 } })))
    }

    @Test func nothingIsAskedForWhereItWouldNotHelp() throws {
        #expect(try asked(world: 1, shuffle: .full, batches: 5).0.asked.isEmpty)
        #expect(try asked(world: 20, shuffle: .chunks(size: 50, open: 2), batches: 5).0.asked.isEmpty)
    }
}
