import Evaluation
import Tensors
import Testing

@Suite struct IdentityOverlapTests {
    private let pool = ThreadPool(threads: 2)

    private func random(_ count: Int, _ dimension: Int, seed: UInt64) throws -> Embeddings {
        var values: [Float] = []
        for row in 0..<count {
            var random = RandomStream(seed: seed, purpose: .test, index: UInt64(row))
            values += (0..<dimension).map { _ in Float(random.normal()) }
        }
        return try Embeddings(values, dimension: dimension).normalised()
    }

    private func replacing(_ embeddings: Embeddings, _ row: Int, with vector: [Float]) -> Embeddings {
        var values = embeddings.values
        values.replaceSubrange(row * embeddings.dimension..<(row + 1) * embeddings.dimension, with: vector)
        return Embeddings(values, dimension: embeddings.dimension)
    }

    // MARK: - Candidates

    @Test(arguments: [1, 3, 500]) func theLargestOfEachRow(_ top: Int) throws {
        let (a, b) = (try random(70, 16, seed: 1), try random(90, 16, seed: 2))
        let found = try IdentityOverlap.nearest(a, b, top: top, pool: pool)
        #expect(found.count == 70)
        for row in 0..<70 {
            let all = (0..<90).map { (other: $0, cosine: a.similarity(row, b, $0)) }.sorted { $0.cosine > $1.cosine }
            #expect(found[row].map(\.other) == all.prefix(top).map(\.other))
            for (candidate, expected) in zip(found[row], all) {
                #expect(candidate.identity == row && abs(Double(candidate.cosine) - expected.cosine) < 1e-5)
            }
        }
    }

    @Test func identitiesWithoutImagesAreLeftOut() throws {
        let zero = [Float](repeating: 0, count: 8)
        let a = replacing(try random(5, 8, seed: 1), 2, with: zero)
        let b = replacing(try random(4, 8, seed: 2), 0, with: zero)
        let found = try IdentityOverlap.nearest(a, b, top: 4, pool: pool)
        #expect(found.map(\.count) == [3, 3, 0, 3, 3])
        #expect(found.allSatisfy { $0.allSatisfy { $0.other != 0 } })
    }

    @Test func whatIsNotFiniteIsRefused() throws {
        let bad = replacing(try random(5, 8, seed: 1), 2, with: [Float](repeating: .nan, count: 8))
        #expect(throws: EvaluationError.nonFiniteEmbedding(row: 2)) {
            try IdentityOverlap.nearest(bad, bad, top: 1, pool: pool)
        }
        #expect(throws: EvaluationError.nonFiniteEmbedding(row: 2)) {
            try IdentityOverlap.threshold(bad, bad, pool: pool)
        }
    }

    // MARK: - Threshold

    /// Independent directions: the cosine of two is normal with variance 1/d, nearly.
    @Test func theThresholdFollowsTheTail() throws {
        let dimension = 128
        let (a, b) = (try random(400, dimension, seed: 3), try random(12_000, dimension, seed: 4))
        let found = try #require(try IdentityOverlap.threshold(a, b, falseAlarms: 0.012, pool: pool))
        #expect(found.pairs == 400 * 12_000 && abs(found.tail - 1e-6) < 1e-15)
        let deviation = 1 / Double(dimension).squareRoot()
        #expect(
            abs(found.upper.cosine - 3.0902 * deviation) < 0.01 && abs(found.lower.cosine - 2.3263 * deviation) < 0.005)
        #expect(found.upper.tail == 1e-3 && found.lower.tail == 1e-2)
        // 4.75 deviations are where 1e-6 lie above; a sphere's tail is a little shorter.
        #expect(abs(found.cosine - 4.7534 * deviation) < 0.03)
        // Fewer false alarms want more.
        let fewer = try #require(try IdentityOverlap.threshold(a, b, falseAlarms: 0.000_012, pool: pool))
        #expect(fewer.cosine > found.cosine + 0.05)
    }

    /// Of the identities that are in one set only, about as many look like one of the other as was asked for.
    @Test func asManyFalseAlarmsAsAskedFor() throws {
        let (a, b) = (try random(600, 64, seed: 5), try random(1500, 64, seed: 6))
        let threshold = try #require(try IdentityOverlap.threshold(a, b, falseAlarms: 0.1, pool: pool))
        let found = try IdentityOverlap.nearest(a, b, top: 1, pool: pool)
        let above = found.count { Double($0[0].cosine) >= threshold.cosine }
        #expect(above >= 25 && above <= 90, "\(above) of 600")
    }

    /// Everybody of the smaller set is in the larger one, and is found all the same.
    @Test func sharedPeopleMoveItLittle() throws {
        let (a, b) = (try random(300, 128, seed: 3), try random(1200, 128, seed: 4))
        let before = try #require(try IdentityOverlap.threshold(a, b, pool: pool))
        var shared = b
        for row in 0..<300 { shared = replacing(shared, 4 * row, with: Array(a.values[row * 128..<(row + 1) * 128])) }
        let after = try #require(try IdentityOverlap.threshold(a, shared, pool: pool))
        #expect(abs(after.cosine - before.cosine) < 0.05 && after.cosine < 0.5)
        let found = try IdentityOverlap.nearest(a, shared, top: 1, pool: pool)
        #expect(found.allSatisfy { $0[0].other == 4 * $0[0].identity && Double($0[0].cosine) > after.cosine })
    }

    @Test func aSampleStandsForAll() throws {
        let (a, b) = (try random(600, 64, seed: 3), try random(1000, 64, seed: 4))
        let all = try #require(try IdentityOverlap.threshold(a, b, pool: pool))
        let sample = try #require(try IdentityOverlap.threshold(a, b, sample: 150, pool: pool))
        #expect(all.pairs == 600_000 && sample.pairs == 150_000)
        #expect(abs(sample.cosine - all.cosine) < 0.05)
    }

    @Test func tooFewIdentities() throws {
        func exists(_ a: Int, _ b: Int) throws -> Bool {
            try IdentityOverlap.threshold(try random(a, 16, seed: 1), try random(b, 16, seed: 2), pool: pool) != nil
        }
        #expect(try !exists(4, 4) && !exists(99, 99) && !exists(2, 140))
        #expect(try exists(100, 100) && exists(3, 150) && exists(150, 3))
        let zeros = Embeddings([Float](repeating: 0, count: 160), dimension: 16)
        #expect(try IdentityOverlap.threshold(zeros, try random(100, 16, seed: 1), pool: pool) == nil)
    }

    // MARK: - Names

    @Test(arguments: [
        ("Colin_Powell", "colinpowell"), ("José María Aznar", "josemariaaznar"),
        ("Jose\u{301} Mari\u{301}a", "josemaria"),
        ("Gerhard_Schröder", "gerhardschroder"), ("Øystein", "oystein"), ("Łukasz", "lukasz"), ("Weiß", "weiss"),
        ("AJ-Lamas", "ajlamas"), ("J. K. Rowling", "jkrowling"), ("Æther", "aether"), ("Иван", "иван"), ("王菲", "王菲"),
    ])
    func namesAreFolded(_ name: String, _ key: String) {
        #expect(PersonName.key(name) == key)
    }

    @Test(arguments: ["07261", "n000012", "person 3", "", "_", "x", "12_34", "synthetic-7"])
    func numbersAreNoNames(_ name: String) {
        #expect(PersonName.key(name) == nil)
    }
}
