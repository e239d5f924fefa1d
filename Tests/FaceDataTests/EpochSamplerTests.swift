import FaceData
import Testing

@Suite struct EpochSamplerTests {
    @Test(arguments: [1, 2, 3, 7, 10, 16, 17, 100, 1000, 4097, 65_536])
    func everyEpochIsAPermutation(_ count: Int) throws {
        let sampler = try EpochSampler(recordCount: count, globalBatch: 1, seed: 5)
        for epoch in [0, 1, 7] {
            let order = sampler.order(of: epoch)
            var seen = [Bool](repeating: false, count: count)
            for ordinal in 0..<count {
                #expect(!seen[order[ordinal]])
                seen[order[ordinal]] = true
            }
        }
    }

    @Test func epochsAndSeedsDiffer() throws {
        let one = try EpochSampler(recordCount: 1000, globalBatch: 10, seed: 1)
        let two = try EpochSampler(recordCount: 1000, globalBatch: 10, seed: 2)
        let first = (0..<1000).map { one.order(of: 0)[$0] }
        #expect(first == (0..<1000).map { one.order(of: 0)[$0] })
        for other in [one.order(of: 1), two.order(of: 0)] {
            let agreeing = (0..<1000).filter { first[$0] == other[$0] }.count
            #expect(agreeing < 10)
        }
        let plain = try EpochSampler(recordCount: 1000, globalBatch: 10, seed: 1, shuffles: false)
        #expect((0..<1000).map { plain.order(of: 3)[$0] } == Array(0..<1000))
    }

    /// Over many epochs every record comes equally often at every place, and neighbours part.
    @Test(arguments: [5, 12, 31]) func placesAreUniform(_ count: Int) throws {
        let sampler = try EpochSampler(recordCount: count, globalBatch: 1, seed: 3)
        let epochs = 20_000
        var hits = [Int](repeating: 0, count: count * count)
        var neighbours = 0
        for epoch in 0..<epochs {
            let order = sampler.order(of: epoch)
            for ordinal in 0..<count {
                hits[ordinal * count + order[ordinal]] += 1
                if ordinal > 0, order[ordinal] == order[ordinal - 1] + 1 { neighbours += 1 }
            }
        }
        let expected = Double(epochs) / Double(count)
        let chi = hits.reduce(0) { $0 + (Double($1) - expected) * (Double($1) - expected) / expected }
        let freedom = Double((count - 1) * (count - 1))
        #expect(abs(chi - freedom) < 5 * (2 * freedom).squareRoot())
        // Probability 1/count for each of count - 1 places.
        let mean = Double(epochs) * Double(count - 1) / Double(count)
        #expect(abs(Double(neighbours) - mean) < 6 * mean.squareRoot())
    }

    @Test func theGlobalBatchDoesNotDependOnTheWorld() throws {
        let sampler = try EpochSampler(recordCount: 103, globalBatch: 24, seed: 9)
        for position in stride(from: 0, to: 24 * 9, by: 24) {
            let whole = sampler.records(at: position)
            #expect(whole.count == 24)
            for world in [1, 2, 3, 4, 5, 8, 24] {
                let parts = (0..<world).flatMap { sampler.records(at: position, rank: $0, worldSize: world) }
                #expect(parts == whole)
            }
        }
    }

    @Test func positionsCountEpochsWithoutTheirRest() throws {
        let sampler = try EpochSampler(recordCount: 103, globalBatch: 24, seed: 9)
        #expect(sampler.stepsPerEpoch == 4 && sampler.imagesPerEpoch == 96)
        #expect(sampler.epoch(at: 95) == 0 && sampler.epoch(at: 96) == 1 && sampler.stepInEpoch(at: 96 + 24) == 1)
        let epoch = (0..<4).flatMap { sampler.records(at: 24 * $0) }
        #expect(Set(epoch).count == 96)
        #expect(epoch == (0..<96).map { sampler.order(of: 0)[$0] })
        #expect(sampler.records(at: 96) == (0..<24).map { sampler.order(of: 1)[$0] })
    }

    @Test func tooFewRecords() {
        let error = #expect(throws: SamplerError.self) { try EpochSampler(recordCount: 7, globalBatch: 8, seed: 1) }
        #expect(error?.description == "7 images are fewer than one global batch of 8: use a smaller batch or more data")
    }
}
