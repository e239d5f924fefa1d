import Evaluation
import Tensors
import Testing

@Suite struct IdentificationTests {
    /// The unit vector at an angle of 2 arctan t.
    private func direction(_ t: Double) -> [Float] {
        let square = t * t
        return [Float((1 - square) / (1 + square)), Float(2 * t / (1 + square))]
    }

    @Test func anyGalleryImageOfTheIdentityCounts() throws {
        // By angle: mates of 7 at 0.30 and 2.0, of 8 at 0.1, distractors at 0.05 and 0.06.
        let gallery = Embeddings([0.30, 2.0, 0.1, 0.05, 0.06].flatMap(direction), dimension: 2)
        let probes = Embeddings([0.0, 0.11].flatMap(direction), dimension: 2)
        let placements = try Identification.placements(
            probes: probes, labels: [7, 8], gallery: gallery, galleryLabels: [7, 7, 8, -100, -100],
            pool: ThreadPool(threads: 2))
        let result = Identification(placements, gallery: 5, distractors: 2, maximumRank: 5)
        // Probe 7 finds 0.05, 0.06, 0.1 and then its mate; probe 8 finds its mate at once.
        #expect(result.matchCharacteristic == [0.5, 0.5, 0.5, 1, 1])
        #expect(result.rate(rank: 1) == 0.5 && result.rate(rank: 20) == 1)
        #expect(result.probes == 2)
        // Mates of 7 at ranks 4 and 5: ((1/4 + 0/3) / 2 + (2/5 + 1/4) / 2) / 2 = 0.225; probe 8: 1.
        #expect(abs(result.meanAveragePrecision - 0.6125) < 1e-12)
    }

    private func placement(_ scores: [Float], _ labels: [Int], of label: Int) -> Identification.Placement? {
        scores.withUnsafeBufferPointer {
            Identification.Placement(scores: $0, galleryLabels: labels, label: label)
        }
    }

    @Test func averagePrecisionByHand() throws {
        // Mates at ranks 2, 4 and 5: ((1/2 + 0/1) + (2/4 + 1/3) + (3/5 + 2/4)) / 2 / 3 = 73/180.
        let mixed = try #require(placement([0.6, 0.9, 0.8, 0.5, 0.7], [1, 2, 1, 1, 3], of: 1))
        #expect(mixed.rank == 2 && abs(mixed.averagePrecision - 73.0 / 180) < 1e-12)
        // Nothing else is above them.
        #expect(
            placement([0.6, 0.9, 0.8, 0.5], [2, 1, 1, 3], of: 1)
                == Identification.Placement(rank: 1, averagePrecision: 1))
        // All alike: the others come first, the mates at ranks 3 and 4: ((1/3 + 0/2) + (2/4 + 1/3)) / 2 / 2 = 7/24.
        let tied = try #require(placement([1, 1, 1, 1], [1, 2, 1, 3], of: 1))
        #expect(tied.rank == 3 && abs(tied.averagePrecision - 7.0 / 24) < 1e-12)
        #expect(placement([1, 1], [2, 3], of: 1) == nil)
    }

    /// Against a walk over the sorted gallery, on scores with many ties.
    @Test func placementsAreThoseOfTheSortedGallery() throws {
        var random = RandomStream(seed: 4, purpose: .test, index: 9)
        for _ in 0..<200 {
            let count = 1 + random.below(30)
            let scores = (0..<count).map { _ in Float(random.below(7)) / 7 }
            let labels = (0..<count).map { _ in random.below(4) }
            let order = scores.indices.sorted {
                (-scores[$0], labels[$0] == 0 ? 1 : 0) < (-scores[$1], labels[$1] == 0 ? 1 : 0)
            }
            let mates = labels.count { $0 == 0 }
            let found = placement(scores, labels, of: 0)
            guard mates > 0 else {
                #expect(found == nil)
                continue
            }
            var (recall, precision, area, hits) = (0.0, 1.0, 0.0, 0)
            for (place, item) in order.enumerated() {
                if labels[item] == 0 { hits += 1 }
                let (newRecall, newPrecision) = (Double(hits) / Double(mates), Double(hits) / Double(place + 1))
                area += (newRecall - recall) * (newPrecision + precision) / 2
                (recall, precision) = (newRecall, newPrecision)
            }
            let first = try #require(order.firstIndex(where: { labels[$0] == 0 }))
            #expect(found?.rank == first + 1)
            #expect(abs((found?.averagePrecision ?? -1) - area) < 1e-12)
        }
    }

    @Test func ratesOfAGroup() {
        let placements = [1, 3, 7].map { Identification.Placement(rank: $0, averagePrecision: 1 / Double($0)) }
        let group = IdentificationReport.Group(
            "4.2 m", placements: placements, probesWithoutMate: 2, ranks: [1, 5, 20], maximumRank: 4)
        #expect(group.probes == 3 && group.probesWithoutMate == 2)
        #expect(group.rates.map(\.rank) == [1, 5, 20] && group.rates.map(\.found) == [1, 2, 3])
        let rates = [1, 2, 3].map { Double($0) / 3 }
        #expect(group.rates.map(\.rate) == rates)
        #expect(group.rates[1].interval == .wilson(successes: 2, trials: 3))
        let characteristic = [1, 1, 2, 2].map { Double($0) / 3 }
        #expect(group.matchCharacteristic == characteristic)
        #expect(abs(group.meanAveragePrecision - (1 + 1.0 / 3 + 1.0 / 7) / 3) < 1e-12)
    }

    @Test func tiesCountAgainstTheProbe() {
        #expect(placement([0.5, 0.5, 0.5, 0.2], [1, 2, 3, 1], of: 2)?.rank == 3)
    }

    @Test func probeWithoutMateIsNamed() {
        let one = Embeddings([1, 0], dimension: 2)
        #expect(throws: EvaluationError.probeWithoutMate(probe: 0, identity: 4)) {
            try Identification.placements(
                probes: one, labels: [4], gallery: one, galleryLabels: [5], pool: ThreadPool(threads: 1))
        }
    }

    @Test func reidentification() throws {
        let distances = [
            0.1, 0.5, 0.3, 0.9, 0.2, 0.7, 0.8, 0.2, 0.6, 0.1, 0.4, 0.3, 0.3, 0.2, 0.9, 0.6, 0.8, 0.5,
        ]
        func sightings(_ identities: [Int], _ cameras: [Int]) -> [Reidentification.Sighting] {
            zip(identities, cameras).map { Reidentification.Sighting(identity: $0, camera: $1) }
        }
        let result = try Reidentification(
            distances: distances, queries: sightings([1, 2, 3], [0, 0, 1]),
            gallery: sightings([1, 2, 1, 2, 3, 1], [0, 1, 1, 2, 1, 2]))
        // The third query's only mate was seen by its own camera.
        #expect(result.queries == 3 && result.validQueries == 2)
        #expect(result.averagePrecision == [0.5, 1])
        #expect(result.inverseNegativePenalty == [0.5, 1])
        #expect(result.meanAveragePrecision == 0.75 && result.meanInverseNegativePenalty == 0.75)
        #expect(result.matchCharacteristic.prefix(4) == [0.5, 1, 1, 1])
    }
}
