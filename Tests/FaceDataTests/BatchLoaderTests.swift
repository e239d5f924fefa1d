import FaceData
import Foundation
import Synchronization
import Tensors
import Testing

@Suite struct BatchLoaderTests {
    private struct Content: Equatable {
        let images: [Float]
        let labels: [Int]
        let records: [Int]
        let position: Int
        let quarantined: [QuarantinedRecord]
    }

    private func content(_ batch: Batch) -> Content {
        Content(
            images: Array(batch.images.floats), labels: batch.labels, records: batch.records, position: batch.position,
            quarantined: batch.quarantined)
    }

    private let small = Preprocessing(faceWidth: 16, faceHeight: 16)

    private func batches(
        _ source: any FaceSource, count: Int, batch: Int = 6, rank: Int = 0, world: Int = 1, position: Int = 0,
        threads: Int = 1, prefetch: Int = 2, views: [View] = [View()]
    ) throws -> [Content] {
        let sampler = try EpochSampler(recordCount: source.count, globalBatch: batch, seed: 4)
        let loader = BatchLoader(
            source: source, sampler: sampler, rank: rank, worldSize: world, position: position,
            options: .init(preprocessing: small, seed: 4, threads: threads, prefetch: prefetch, views: views))
        return try (0..<count).map { _ in content(try loader.next()) }
    }

    private func input(_ image: RGBImage, flipped: Bool) -> [Float] {
        let tensor = small.tensor([image], flipped: flipped)
        return withExtendedLifetime(tensor) { Array(tensor.floats) }
    }

    @Test func batchesHoldWhatTheSamplerSays() throws {
        let source = MemorySource(classes: 5, perClass: 4, size: 16)
        let sampler = try EpochSampler(recordCount: 20, globalBatch: 6, seed: 4)
        var flips = 0
        for (step, batch) in try batches(source, count: 7).enumerated() {
            #expect(batch.position == 6 * step && batch.records == sampler.records(at: 6 * step))
            #expect(batch.labels == batch.records.map { $0 / 4 })
            for (row, record) in batch.records.enumerated() {
                let values = Array(batch.images[row * 768..<(row + 1) * 768])
                let image = testImage(UInt64(record), width: 16, height: 16)
                var coin = RandomStream(
                    seed: 4, purpose: .flip, index: UInt64(record), step: UInt64(sampler.epoch(at: 6 * step)))
                let flipped = coin.uniform() < 0.5
                flips += flipped ? 1 : 0
                let same = values == input(image, flipped: flipped)
                #expect(same, "record \(record)")
            }
        }
        #expect(flips > 8 && flips < 34)
    }

    @Test(arguments: [1, 2, 3, 4]) func threadsDoNotShow(_ threads: Int) throws {
        let source = MemorySource(classes: 6, perClass: 5, size: 20, damaged: [3, 4, 17, 29])
        let views = [
            View(), View(.partner),
            View { image, context in
                var image = image
                var random = context.random(.degradation)
                image.pixels[random.below(image.pixels.count)] ^= 255
                return image
            },
        ]
        let expected = try batches(source, count: 12, threads: 1, prefetch: 1, views: views)
        let found = try batches(source, count: 12, threads: threads, prefetch: 3, views: views)
        let same = found == expected
        #expect(same)
        #expect(Set(expected.flatMap(\.quarantined).map(\.record)) == [3, 4, 17, 29])
    }

    @Test func ranksShareTheGlobalBatch() throws {
        let source = MemorySource(classes: 6, perClass: 5, size: 16, damaged: [8])
        let whole = try batches(source, count: 6)
        for world in [2, 3] {
            let parts = try (0..<world).map { try batches(source, count: 6, rank: $0, world: world) }
            for step in 0..<6 {
                let same = parts.flatMap { $0[step].images } == whole[step].images
                #expect(same)
                #expect(parts.flatMap { $0[step].labels } == whole[step].labels)
            }
        }
    }

    @Test func aRunContinuesWhereItStopped() throws {
        let source = MemorySource(classes: 5, perClass: 4, size: 16)
        let whole = try batches(source, count: 9)
        let rest = try batches(source, count: 5, position: 4 * 6, threads: 2)
        let same = rest == Array(whole[4...])
        #expect(same)
    }

    @Test func damagedRecordsAreReplacedByTheNextOfTheSource() throws {
        let damaged: Set = [2, 3, 19]
        let source = MemorySource(classes: 5, perClass: 4, size: 16, damaged: damaged)
        let sampler = try EpochSampler(recordCount: 20, globalBatch: 5, seed: 4)
        let loader = BatchLoader(
            source: source, sampler: sampler,
            options: .init(preprocessing: small, seed: 4, threads: 2, quarantineLimit: 2))
        var reports: [QuarantinedRecord] = []
        for step in 0..<8 {
            let batch = try loader.next()
            for (wanted, record) in zip(sampler.records(at: 5 * step), batch.records) {
                let expected = [2: 4, 3: 4, 19: 0][wanted] ?? wanted
                #expect(record == expected)
            }
            #expect(batch.labels == batch.records.map { $0 / 4 })
            reports += batch.quarantined
        }
        #expect(reports.count == 3 && Set(reports.map(\.record)) == damaged)
        for report in reports {
            #expect(report.key == "image \(report.record)")
            #expect(report.reason.contains("memory, image \(report.record): not a readable image"))
        }
        #expect(loader.quarantinedCount == 3 && loader.isOverQuarantineLimit)
    }

    @Test func aSourceWithoutAnyIntactImageIsAnError() throws {
        let source = MemorySource(classes: 2, perClass: 3, size: 16, damaged: Set(0..<6))
        let sampler = try EpochSampler(recordCount: 6, globalBatch: 3, seed: 1)
        let loader = BatchLoader(
            source: source, sampler: sampler, options: .init(preprocessing: small, seed: 1, threads: 2))
        let error = #expect(throws: FaceDataError.self) { try loader.next() }
        #expect(error?.description.contains("6 images in a row") == true)
    }

    /// A source whose disk fails.
    private struct FailingSource: FaceSource {
        let base = MemorySource(classes: 2, perClass: 3, size: 16)
        var location: String { "failing" }
        var count: Int { 6 }
        var classCount: Int { 2 }
        func label(of index: Int) -> Int { base.label(of: index) }
        func key(of index: Int) -> String { base.key(of: index) }
        func identityName(_ label: Int) -> String { base.identityName(label) }
        func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] {
            throw FaceDataError(.cannotRead, file: "failing", "cannot be read (Input/output error)")
        }
    }

    @Test func aFailingDiskIsNoDamagedRecord() throws {
        let sampler = try EpochSampler(recordCount: 6, globalBatch: 3, seed: 1)
        let loader = BatchLoader(
            source: FailingSource(), sampler: sampler, options: .init(preprocessing: small, seed: 1))
        let error = #expect(throws: FaceDataError.self) { try loader.next() }
        #expect(error?.kind == .cannotRead && loader.quarantinedCount == 0)
    }

    @Test func partnersAreOtherImagesOfTheIdentity() throws {
        let source = MemorySource(classes: 4, perClass: 5, size: 16, damaged: [6])
        var seen: Set<Int> = []
        for batch in try batches(source, count: 40, batch: 10, threads: 2, views: [View(), View(.partner)]) {
            #expect(batch.records.count == 20 && batch.labels.count == 10 && batch.images.count == 20 * 768)
            for row in 0..<10 {
                #expect(batch.records[row] / 5 == batch.records[10 + row] / 5)
                #expect(batch.records[row] != batch.records[10 + row])
                seen.insert(batch.records[row] * 100 + batch.records[10 + row])
            }
        }
        // 3 identities with 5·4 ordered pairs and one with 4·3.
        #expect(seen.count == 72)
    }

    @Test func anIdentityWithOneImageIsItsOwnPartner() throws {
        let source = MemorySource(classes: 4, perClass: 1, size: 16)
        let batch = try batches(source, count: 1, batch: 4, views: [View(), View(.partner)])[0]
        #expect(Array(batch.records[..<4]) == Array(batch.records[4...]))
    }

    @Test func theThreadsTimeIsAccountedFor() throws {
        let source = MemorySource(classes: 4, perClass: 4, size: 64)
        let sampler = try EpochSampler(recordCount: 16, globalBatch: 8, seed: 1)
        let slow = View { image, _ in
            usleep(2000)
            return image
        }
        let loader = BatchLoader(
            source: source, sampler: sampler,
            options: .init(preprocessing: small, seed: 1, threads: 2, views: [slow]))
        for _ in 0..<4 { _ = try loader.next() }
        let times = loader.times
        #expect(times.transforming >= 0.002 * 32 && times.decoding > 0 && times.converting > 0 && times.reading == 0)
        #expect(times.shares[0].name == "degrading" && abs(times.shares.reduce(0) { $0 + $1.share } - 1) < 1e-9)
        var rest = loader.times
        rest.subtract(rest)
        #expect(rest == LoaderTimes() && rest.shares.allSatisfy { $0.share == 0 })
    }

    @Test func memoryIsUsedAgain() throws {
        let source = MemorySource(classes: 4, perClass: 4, size: 16)
        let sampler = try EpochSampler(recordCount: 16, globalBatch: 4, seed: 1)
        let loader = BatchLoader(
            source: source, sampler: sampler, options: .init(preprocessing: small, seed: 1, threads: 2, prefetch: 2))
        var places: Set<UnsafeMutableRawPointer> = []
        for _ in 0..<20 { places.insert(try loader.next().images.buffer.base) }
        #expect(places.count == 3)
    }

    @Test func preparingRunsAheadButNotFurther() throws {
        /// Counts what is read.
        final class Counter: Sendable { let value = Mutex(0) }
        struct CountingSource: FaceSource {
            let base = MemorySource(classes: 4, perClass: 4, size: 16)
            let counter = Counter()
            var location: String { "counting" }
            var count: Int { base.count }
            var classCount: Int { base.classCount }
            func label(of index: Int) -> Int { base.label(of: index) }
            func key(of index: Int) -> String { base.key(of: index) }
            func identityName(_ label: Int) -> String { base.identityName(label) }
            func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] {
                counter.value.withLock { $0 += 1 }
                return try base.encodedBytes(of: index)
            }
        }
        let source = CountingSource()
        let sampler = try EpochSampler(recordCount: 16, globalBatch: 4, seed: 1)
        let loader = BatchLoader(
            source: source, sampler: sampler, options: .init(preprocessing: small, seed: 1, threads: 4, prefetch: 2))
        for step in 1...10 {
            _ = try loader.next()
            let read = source.counter.value.withLock { $0 }
            // The batch in hand and two ahead.
            #expect(read >= 4 * step && read <= 4 * (step + 2))
        }
    }

    @Test func aLoaderCanBeDroppedAtAnyTime() throws {
        let source = MemorySource(classes: 4, perClass: 4, size: 16)
        let sampler = try EpochSampler(recordCount: 16, globalBatch: 8, seed: 1)
        for taken in 0..<20 {
            let loader = BatchLoader(
                source: source, sampler: sampler, options: .init(preprocessing: small, seed: 1, threads: 3))
            for _ in 0..<taken % 4 { _ = try loader.next() }
        }
    }
}

@Suite struct PreprocessingTests {
    @Test func valuesChannelsAndCrop() {
        let image = testImage(3)
        func value(_ x: Int, _ y: Int, _ c: Int) -> Float { Float(image.pixels[3 * (y * 112 + x) + c]) }
        let rgb = Preprocessing.arcFace.tensor([image])
        let bgr = Preprocessing.magFace.tensor([image])
        let cropped = Preprocessing.mobileFaceNet112x96.tensor([image], flipped: true)
        #expect(rgb.shape == [1, 3, 112, 112] && cropped.shape == [1, 3, 112, 96])
        for c in 0..<3 {
            for (x, y) in [(0, 0), (5, 17), (111, 111), (64, 3)] {
                let plain = rgb.floats[(c * 112 + y) * 112 + x]
                #expect(abs(plain - (value(x, y, c) / 255 - 0.5) / 0.5) < 2e-7)
                #expect(abs(bgr.floats[(c * 112 + y) * 112 + x] - value(x, y, 2 - c) / 255) < 1e-7)
            }
            for (x, y) in [(8, 0), (103, 111), (50, 40)] {
                #expect(cropped.floats[(c * 112 + y) * 96 + (103 - x)] == (value(x, y, c) - 127.5) / 128)
            }
        }
    }

    /// Bit for bit (v - mean) / scale rounded once, whatever the width, the part of the face and the mirroring.
    @Test(arguments: [(Float(127.5), Float(127.5)), (0, 255), (127.5, 128), (0.1, 3), (127.5, 0.3), (100.7, 77.7)])
    func everyValueIsRoundedOnce(_ mean: Float, _ scale: Float) {
        for (width, x, part) in [(1, 0, 1), (7, 2, 5), (112, 0, 112), (112, 8, 96), (131, 1, 129), (300, 0, 300)] {
            for order in [Preprocessing.ChannelOrder.rgb, .bgr] {
                let preprocessing = Preprocessing(
                    channelOrder: order, mean: mean, scale: scale, faceWidth: width, faceHeight: 9,
                    crop: .init(x: x, y: 1, width: part, height: 7))
                let image = testImage(UInt64(width), width: width, height: 9)
                for flipped in [false, true] {
                    let tensor = preprocessing.tensor([image], flipped: flipped)
                    var expected: [Float] = []
                    for channel in order == .rgb ? [0, 1, 2] : [2, 1, 0] {
                        for line in 0..<7 {
                            for column in 0..<part {
                                let from = x + (flipped ? part - 1 - column : column)
                                let value = image.pixels[3 * ((line + 1) * width + from) + channel]
                                expected.append(Float((Double(value) - Double(mean)) / Double(scale)))
                            }
                        }
                    }
                    let same = withExtendedLifetime(tensor) { Array(tensor.floats) == expected }
                    #expect(same, "\(width), \(order), \(flipped)")
                }
            }
        }
    }

    @Test func otherShapesAreFitted() {
        let wide = Preprocessing.arcFace.fitted(testImage(4, width: 300, height: 200))
        #expect(wide.width == 112 && wide.height == 112)
        #expect(Preprocessing.arcFace.fitted(testImage(4, width: 3, height: 90)).height == 112)
        let same = testImage(4)
        #expect(Preprocessing.arcFace.fitted(same) == same)
        let grey = Preprocessing.arcFace.fitted(RGBImage(width: 50, height: 70, fill: (9, 80, 200)))
        #expect(grey == RGBImage(width: 112, height: 112, fill: (9, 80, 200)))
    }
}
