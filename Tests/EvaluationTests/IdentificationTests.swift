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
        let result = try Identification.search(
            probes: probes, labels: [7, 8], gallery: gallery, galleryLabels: [7, 7, 8, -100, -100], maximumRank: 5,
            pool: ThreadPool(threads: 2))
        // Probe 7 finds 0.05, 0.06, 0.1 and then its mate; probe 8 finds its mate at once.
        #expect(result.matchCharacteristic == [0.5, 0.5, 0.5, 1, 1])
        #expect(result.rate(rank: 1) == 0.5 && result.rate(rank: 20) == 1)
        #expect(result.distractors == 2 && result.gallery == 5 && result.probes == 2)
    }

    @Test func tiesCountAgainstTheProbe() {
        let scores: [Float] = [0.5, 0.5, 0.5, 0.2]
        let rank = scores.withUnsafeBufferPointer {
            Identification.rank(scores: $0, galleryLabels: [1, 2, 3, 1], label: 2)
        }
        #expect(rank == 3)
    }

    @Test func probeWithoutMateIsNamed() {
        let one = Embeddings([1, 0], dimension: 2)
        #expect(throws: EvaluationError.probeWithoutMate(probe: 0, identity: 4)) {
            try Identification.search(
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
