import FaceData
import Testing

/// Orders that can be read in long stretches.
@Suite struct ChunkShuffleTests {
    private func sampler(_ count: Int, chunk: Int, open: Int, batch: Int = 1, seed: UInt64 = 5) throws -> EpochSampler {
        try EpochSampler(
            parts: [SourcePart(records: 0..<count)], globalBatch: batch, seed: seed,
            shuffle: .chunks(size: chunk, open: open))
    }

    @Test(arguments: [
        (1, 1, 1), (1, 10, 3), (7, 3, 1), (10, 5, 2), (100, 7, 3), (101, 10, 4), (1000, 64, 5), (4097, 128, 40),
        (999, 1000, 2), (64, 1, 9), (1000, 999, 1),
    ])
    func everyEpochIsAPermutation(_ count: Int, _ chunk: Int, _ open: Int) throws {
        let sampler = try sampler(count, chunk: chunk, open: open)
        for epoch in [0, 1, 9] {
            let order = sampler.order(of: epoch)
            #expect(Set((0..<count).map { order[$0] }).count == count)
            #expect((0..<count).allSatisfy { (0..<count).contains(order[$0]) })
        }
    }

    @Test func aStepReadsFewChunks() throws {
        let (count, chunk, open, batch) = (50_000, 512, 4, 256)
        let sampler = try sampler(count, chunk: chunk, open: open, batch: batch)
        for step in 0..<sampler.stepsPerEpoch {
            let chunks = Set(sampler.records(at: step * batch).map { $0 / chunk })
            // A step that begins in one window may end in the next.
            #expect(chunks.count <= 2 * open)
        }
        // A window is read to its end before the next is begun: a chunk comes up within few steps and then never again.
        var first: [Int: Int] = [:]
        var last: [Int: Int] = [:]
        for step in 0..<sampler.stepsPerEpoch {
            for record in sampler.records(at: step * batch) {
                first[record / chunk] = first[record / chunk] ?? step
                last[record / chunk] = step
            }
        }
        #expect(first.allSatisfy { last[$0.key]! - $0.value <= open * chunk / batch })
    }

    @Test func chunksAndTheirRecordsAreShuffled() throws {
        let sampler = try sampler(10_000, chunk: 100, open: 4)
        let one = (0..<10_000).map { sampler.order(of: 0)[$0] }
        let two = (0..<10_000).map { sampler.order(of: 1)[$0] }
        #expect(one == (0..<10_000).map { sampler.order(of: 0)[$0] })
        #expect(zip(one, two).count { $0 == $1 } < 30)
        let neighbours = zip(one, one.dropFirst()).count { $1 == $0 + 1 }
        #expect(neighbours < 100)
        // The four chunks of the first window are not the first four of the file, and lie apart.
        let chunks = Set(one.prefix(400).map { $0 / 100 })
        #expect(chunks.count == 4 && chunks != [0, 1, 2, 3])
        let other = try self.sampler(10_000, chunk: 100, open: 4, seed: 6)
        #expect(zip(one, (0..<10_000).map { other.order(of: 0)[$0] }).count { $0 == $1 } < 30)
    }

    /// Over many epochs every chunk, the short one too, is in the first window equally often, and every record equally
    /// often first.
    @Test func placesAreUniform() throws {
        let (count, chunk) = (22, 4)
        let sampler = try sampler(count, chunk: chunk, open: 2)
        let epochs = 12_000
        var first = [Int](repeating: 0, count: count)
        for epoch in 0..<epochs { first[sampler.order(of: epoch)[0]] += 1 }
        // A record of the short chunk is first when its chunk is in the window, and then a little more often.
        let whole = first.prefix(20).map { Double($0) / Double(epochs) }
        #expect(whole.allSatisfy { abs($0 - 0.044) < 0.012 }, "\(whole)")
        #expect(first.allSatisfy { $0 > 0 })
    }

    @Test func theGlobalBatchDoesNotDependOnTheWorld() throws {
        let sampler = try sampler(1030, chunk: 50, open: 3, batch: 24)
        for position in stride(from: 0, to: 24 * 50, by: 24) {
            let whole = sampler.records(at: position)
            for world in [2, 3, 5, 24] {
                #expect((0..<world).flatMap { sampler.records(at: position, rank: $0, worldSize: world) } == whole)
            }
        }
    }
}

/// Sources that come more or less often than once per epoch.
@Suite struct WeightTests {
    private static let shuffles: [Shuffle] = [.full, .chunks(size: 16, open: 3), .none]

    private func counts(_ sampler: EpochSampler, epochs: Range<Int>) -> [Int] {
        var counts = [Int](repeating: 0, count: sampler.recordCount)
        for epoch in epochs {
            let order = sampler.order(of: epoch)
            for ordinal in 0..<sampler.slots { counts[order[ordinal]] += 1 }
        }
        return counts
    }

    @Test(arguments: shuffles) func recordsComeAsOftenAsTheirSourceWeighs(_ shuffle: Shuffle) throws {
        // 100 once, 60 twice, 80 half, 40 one and a half times, 30 rarely.
        let parts = [(0..<100, 1.0), (100..<160, 2), (160..<240, 0.5), (240..<280, 1.5), (280..<310, 0.1)].map {
            SourcePart(records: $0.0, weight: $0.1)
        }
        let sampler = try EpochSampler(parts: parts, globalBatch: 1, seed: 3, shuffle: shuffle)
        #expect(sampler.slots == 100 + 120 + 40 + 60 + 3 && sampler.recordCount == 310)
        for epoch in 0..<4 {
            let once = counts(sampler, epochs: epoch..<epoch + 1)
            #expect(once[0..<100].allSatisfy { $0 == 1 } && once[100..<160].allSatisfy { $0 == 2 })
            #expect(once[160..<240].allSatisfy { $0 <= 1 } && once[160..<240].reduce(0, +) == 40)
            #expect(once[240..<280].allSatisfy { (1...2).contains($0) } && once[240..<280].reduce(0, +) == 60)
            #expect(once[280..<310].reduce(0, +) == 3)
        }
        // Two epochs have every record of weight 0.5 once, and of weight 1.5 three times; ten have those of 0.1.
        let two = counts(sampler, epochs: 0..<2)
        #expect(two[160..<240].allSatisfy { $0 == 1 } && two[240..<280].allSatisfy { $0 == 3 })
        #expect(counts(sampler, epochs: 0..<10)[280..<310].allSatisfy { $0 == 1 })
    }

    @Test(arguments: shuffles) func anotherHalfComesInAnotherOrder(_ shuffle: Shuffle) throws {
        let sampler = try EpochSampler(
            parts: [SourcePart(records: 0..<200, weight: 0.5)], globalBatch: 1, seed: 3, shuffle: shuffle)
        let halves = (0..<4).map { epoch in Set((0..<100).map { sampler.order(of: epoch)[$0] }) }
        #expect(halves[0].isDisjoint(with: halves[1]) && halves[2].isDisjoint(with: halves[3]))
        // In the next pass the halves are other ones, but for the source's own order.
        #expect((shuffle == .none) == (halves[0] == halves[2]))
    }

    /// What random numbers are keyed with is never the same for two images of a run.
    @Test(arguments: shuffles) func everyOccurrenceIsItsOwn(_ shuffle: Shuffle) throws {
        let parts = [(0..<20, 1.0), (20..<30, 3), (30..<50, 0.5), (50..<60, 1.25)].map {
            SourcePart(records: $0.0, weight: $0.1)
        }
        let sampler = try EpochSampler(parts: parts, globalBatch: 1, seed: 3, shuffle: shuffle)
        var seen: Set<[Int]> = []
        for epoch in 0..<8 {
            let order = sampler.order(of: epoch)
            for ordinal in 0..<sampler.slots {
                let draw = order.draw(ordinal)
                #expect(seen.insert([draw.record, draw.occurrence]).inserted)
                if draw.record < 20 { #expect(draw.occurrence == epoch) }
            }
        }
    }

    @Test func aSourceOfWeightOneKeepsTheOrderItHadAlone() throws {
        let one = try EpochSampler(recordCount: 500, globalBatch: 10, seed: 8)
        let same = try EpochSampler(parts: [SourcePart(records: 0..<500)], globalBatch: 10, seed: 8)
        #expect((0..<500).allSatisfy { one.order(of: 2)[$0] == same.order(of: 2)[$0] })
    }
}

/// Batches of P identities with K images each.
@Suite struct IdentitySamplingTests {
    /// 11 identities with 1, 2, 3, … 11 images, in turn.
    private struct Staircase: FaceSource {
        let labels: [Int]

        init() {
            var inOrder: [Int] = []
            for label in 0..<11 { inOrder += [Int](repeating: label, count: label + 1) }
            labels = (0..<7).flatMap { start in stride(from: start, to: 66, by: 7).map { inOrder[$0] } }
        }

        var location: String { "staircase" }
        var count: Int { labels.count }
        var classCount: Int { 11 }
        func label(of index: Int) -> Int { labels[index] }
        func key(of index: Int) -> String { "\(index)" }
        func identityName(_ label: Int) -> String { "\(label)" }
        func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] { [] }
    }

    @Test(arguments: [1, 2, 4]) func batchesHoldIdentitiesWithSoManyImages(_ each: Int) throws {
        let source = Staircase()
        let sampler = try EpochSampler(
            identities: IdentityTable(source), imagesEach: each, globalBatch: 3 * each, seed: 2)
        #expect(sampler.stepsPerEpoch == 3 && sampler.slots == 11 * each)
        for epoch in 0..<5 {
            let order = sampler.order(of: epoch)
            var identities: Set<Int> = []
            for place in 0..<11 {
                let records = (0..<each).map { order[place * each + $0] }
                #expect(Set(records.map(source.label)).count == 1)
                let label = source.labels[records[0]]
                #expect(identities.insert(label).inserted)
                // Without repetition as far as there are images.
                #expect(Set(records).count == min(each, label + 1))
            }
        }
        let orders = (0..<3).map { epoch in (0..<11).map { source.labels[sampler.order(of: epoch)[$0 * each]] } }
        #expect(Set(orders).count == 3)
    }

    @Test func imagesOfAnIdentityComeInTurn() throws {
        let source = Staircase()
        let sampler = try EpochSampler(identities: IdentityTable(source), imagesEach: 2, globalBatch: 2, seed: 2)
        var seen: [Int: [Int]] = [:]
        for epoch in 0..<60 {
            let order = sampler.order(of: epoch)
            for ordinal in 0..<sampler.slots { seen[source.labels[order[ordinal]], default: []].append(order[ordinal]) }
        }
        for (label, records) in seen {
            let size = label + 1
            // Passes of as many whole pairs as there are: no image twice within one.
            let pass = max(2, size / 2 * 2)
            for start in stride(from: 0, to: records.count - pass + 1, by: pass) {
                #expect(Set(records[start..<start + pass]).count == min(size, pass))
            }
            // All come up about equally often.
            let counts = (0..<source.count).filter { source.labels[$0] == label }
                .map { record in records.count { $0 == record } }
            let mean = Double(records.count) / Double(size)
            #expect(counts.allSatisfy { abs(Double($0) - mean) < 0.5 * mean }, "identity of \(size): \(counts)")
        }
    }

    @Test func everyOccurrenceIsItsOwn() throws {
        let sampler = try EpochSampler(identities: IdentityTable(Staircase()), imagesEach: 4, globalBatch: 4, seed: 2)
        var seen: Set<[Int]> = []
        for epoch in 0..<9 {
            for ordinal in 0..<sampler.slots {
                let draw = sampler.order(of: epoch).draw(ordinal)
                #expect(seen.insert([draw.record, draw.occurrence]).inserted)
            }
        }
    }

    @Test func theGlobalBatchDoesNotDependOnTheWorld() throws {
        let sampler = try EpochSampler(identities: IdentityTable(Staircase()), imagesEach: 3, globalBatch: 12, seed: 1)
        for position in stride(from: 0, to: 12 * 8, by: 12) {
            let whole = sampler.records(at: position)
            for world in [2, 3, 5] {
                #expect((0..<world).flatMap { sampler.records(at: position, rank: $0, worldSize: world) } == whole)
            }
        }
    }

    @Test func tooFewIdentities() throws {
        let table = IdentityTable(Staircase())
        #expect(throws: SamplerError.self) {
            try EpochSampler(identities: table, imagesEach: 2, globalBatch: 24, seed: 1)
        }
    }
}
