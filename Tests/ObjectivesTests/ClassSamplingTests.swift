import Collectives
import Foundation
import Objectives
import Tensors
import TestSupport
import Testing

/// Sampled class centres: what is drawn, what is computed from it, what is updated, and that the number of ranks shows
/// in none of it.
@Suite struct ClassSamplingTests {
    /// 12 rows of 12 different classes and less; 53 classes over 1, 2, 3 and 4 ranks are unequal shards.
    static let problem = HeadProblem.random(rows: 12, classes: 53, dimension: 7, seed: 8)

    static let everyKind: [ClassSampling] = [0.1, 0.4].flatMap { rate in
        [ClassSampling.Mode.keyed, .reference].flatMap { mode in
            [ClassSampling.Momentum.sparse, .dense].map { ClassSampling(rate: rate, mode: mode, momentum: $0) }
        }
    }

    // MARK: - What is drawn

    /// u(seed, step, c) < ρ by the definition, one stream at a time.
    private static func drawn(_ classes: Int, rate: Double, step: Int) -> Set<Int> {
        Set(
            (0..<classes).filter { index in
                var stream = RandomStream(
                    seed: 1, purpose: .negativeSampling, index: UInt64(index / 4), step: UInt64(step))
                let words = (0..<4).map { _ in stream.nextWord() }
                return Double(words[index % 4]) < rate * 0x1p32
            })
    }

    @Test(arguments: [1, 2, 3, 4], [0.1, 0.4, 0.9]) func keyedSamplesAreWhatTheyAreDefinedAs(ranks: Int, rate: Double)
        throws
    {
        let outcome = try Self.problem.train(
            Double.self, ranks: ranks, sampling: ClassSampling(rate: rate), steps: 0..<6)
        for step in 0..<6 {
            let expected = Self.drawn(53, rate: rate, step: step).union(Self.problem.labels(ofStep: step))
            #expect(outcome.samples[step] == expected.sorted())
        }
        #expect(Set(outcome.samples).count == 6)
    }

    /// A binomial count: the mean over many draws is within four standard errors.
    @Test func theShareIsTheRate() throws {
        let problem = HeadProblem.random(rows: 1, classes: 1000, dimension: 1, seed: 2, labels: [0])
        let outcome = try problem.train(Float.self, sampling: ClassSampling(rate: 0.2), steps: 0..<200)
        let mean = Double(outcome.samples.map(\.count).reduce(0, +)) / 200
        #expect(abs(mean - (999 * 0.2 + 1)) < 4 * (1000 * 0.2 * 0.8 / 200).squareRoot())
    }

    @Test(arguments: [1, 2, 3, 4], [0.05, 0.25, 0.9]) func referenceSamplesHaveAFixedCount(ranks: Int, rate: Double)
        throws
    {
        let outcome = try Self.problem.train(
            Double.self, ranks: ranks, sampling: ClassSampling(rate: rate, mode: .reference), steps: 0..<5)
        for step in 0..<5 {
            let labels = Set(Self.problem.labels(ofStep: step))
            #expect(labels.isSubset(of: outcome.samples[step]))
            for rank in 0..<ranks {
                let range = ShardMap(classes: 53, ranks: ranks).range(ofRank: rank)
                let positives = labels.intersection(range)
                let count = max(Int(rate * Double(range.count)), positives.count)
                #expect(outcome.counts[step][rank] == count)
                // The classes of the smallest words beside the positives.
                let words = range.map { index -> UInt32 in
                    let local = index - range.lowerBound
                    var stream = RandomStream(
                        seed: 1, purpose: .negativeSampling, index: (UInt64(rank) << 32 + UInt64(local)) / 4,
                        step: UInt64(step))
                    return (0...local % 4).map { _ in stream.nextWord() }.last!
                }
                let others = range.filter { !positives.contains($0) }
                    .sorted { words[$0 - range.lowerBound] < words[$1 - range.lowerBound] }
                let expected = positives.union(others.prefix(count - positives.count)).sorted()
                #expect(outcome.samples[step].filter(range.contains) == expected)
            }
        }
    }

    @Test func roomIsForTheRateSixDeviationsAndTheBatch() {
        let keyed = ClassSampling(rate: 0.1)
        #expect(keyed.capacity(classes: 500_000, positives: 256) == 50_000 + 1273 + 256)
        #expect(keyed.capacity(classes: 20, positives: 256) == 20)
        let reference = ClassSampling(rate: 0.1, mode: .reference)
        #expect(reference.capacity(classes: 500_000, positives: 256) == 50_000)
        #expect(reference.capacity(classes: 1000, positives: 256) == 256)
    }

    /// Small samples exceed six deviations now and then: the step is then as it must be, with more memory.
    @Test func aSampleThatExceedsTheRoomMakesItGrow() throws {
        let rate = 0.001
        let problem = HeadProblem.random(rows: 1, classes: 40, dimension: 5, seed: 6, labels: [3])
        let sampling = ClassSampling(rate: rate)
        #expect(sampling.capacity(classes: 40, positives: 1) == 3)
        let step = try #require(
            (0..<1_000_000).first { Self.drawn(40, rate: rate, step: $0).subtracting([3]).count > 2 })
        let outcome = try problem.train(Double.self, sampling: sampling, steps: step..<step + 2, rate: 0)
        #expect(outcome.counts[0][0] >= 4 && outcome.samples[0].count == outcome.counts[0][0])
        let restricted = problem.restricted(to: outcome.samples[0], labels: [3])
        let expected = try restricted.train(Double.self, sampling: nil, steps: 0..<1)
        #expect(outcome.losses[0] == expected.losses[0])
    }

    // MARK: - What is computed

    /// The oracle knows the classes of the sample only.
    @Test(arguments: HeadCase.all, [1, 3]) func aSampledStepIsThatOfTheSampledClasses(_ head: HeadCase, ranks: Int)
        throws
    {
        for sampling in [ClassSampling(rate: 0.3), ClassSampling(rate: 0.3, mode: .reference)] {
            let labels = Self.problem.labels(ofStep: 2)
            let outcome = try Self.problem.train(
                Double.self, head.margin, ranks: ranks, sampling: sampling, steps: 2..<3, blockColumns: 5)
            let problem = Self.problem.restricted(to: outcome.samples[0], labels: labels)
            let dense = head.dense.evaluate(
                problem.embeddings, problem.centres, problem.labels, dimension: problem.dimension)
            // Dropping the first steps changes what moving averages start from.
            guard head.margin.statistics.isEmpty else { continue }
            #expect(abs(outcome.losses[0] - dense.loss) <= 1e-12 * dense.loss)
            #expect(relativeDifference(outcome.embeddingGradient, dense.embeddingGradient) <= 1e-12)
            if !head.margin.normalisesCentres {
                #expect(relativeDifference(outcome.centreGradient, dense.centreGradient) <= 1e-12)
            }
        }
    }

    @Test(arguments: everyKind) func rateOneIsTheUnsampledPath(_ kind: ClassSampling) throws {
        var sampling = kind
        sampling.rate = 1
        for ranks in [1, 3] {
            let sampled = try Self.problem.train(Float.self, ranks: ranks, sampling: sampling)
            #expect(try Self.problem.train(Float.self, ranks: ranks, sampling: nil) == sampled)
        }
    }

    /// A sample that happens to hold every class is gathered, and gives the bits of the path that gathers nothing.
    @Test(arguments: [ClassSampling.Momentum.sparse, .dense]) func aFullSampleGivesTheSameBits(
        _ momentum: ClassSampling.Momentum
    ) throws {
        let everyClass: @Sendable (Int) -> [Int] = { step in (0..<12).map { ($0 + step) % 12 } }
        let problem = HeadProblem.random(rows: 12, classes: 12, dimension: 20, seed: 9)
        let sampled = try problem.train(
            Float.self, ranks: 2, sampling: ClassSampling(rate: 0.5, momentum: momentum), labels: everyClass)
        #expect(sampled.counts.allSatisfy { $0 == [6, 6] })
        #expect(try problem.train(Float.self, ranks: 2, sampling: nil, labels: everyClass) == sampled)
    }

    @Test(arguments: everyKind.filter { $0.mode == .keyed }, [2, 3, 4])
    func theNumberOfRanksDoesNotShow(_ sampling: ClassSampling, ranks: Int) throws {
        let one = try Self.problem.train(Double.self, sampling: sampling, steps: 0..<6)
        let several = try Self.problem.train(Double.self, ranks: ranks, sampling: sampling, steps: 0..<6)
        #expect(several.samples == one.samples)
        #expect(relativeDifference(several.losses, one.losses) <= 1e-12)
        #expect(relativeDifference(several.centres, one.centres) <= 1e-12)
        #expect(relativeDifference(several.momentum, one.momentum) <= 1e-12)
        #expect(relativeDifference(several.embeddingGradient, one.embeddingGradient) <= 1e-12)
        let single = try Self.problem.train(Float.self, ranks: ranks, sampling: sampling, steps: 0..<6)
        #expect(relativeDifference(single.centres, one.centres) <= 1e-5)
        #expect(relativeDifference(single.losses, one.losses) <= 1e-5)
    }

    @Test(arguments: everyKind.filter { $0.mode == .keyed }) func otherRanksGoOnWithTheSameRun(
        _ sampling: ClassSampling
    ) throws {
        let whole = try Self.problem.train(Double.self, ranks: 2, sampling: sampling, steps: 0..<6)
        let start = try Self.problem.train(Double.self, ranks: 2, sampling: sampling, steps: 0..<3)
        for ranks in [1, 3, 4] {
            let rest = try Self.problem.train(Double.self, ranks: ranks, sampling: sampling, steps: 3..<6, from: start)
            #expect(rest.samples == Array(whole.samples[3...]))
            #expect(relativeDifference(rest.losses, Array(whole.losses[3...])) <= 1e-12)
            #expect(relativeDifference(rest.centres, whole.centres) <= 1e-12)
            #expect(relativeDifference(rest.momentum, whole.momentum) <= 1e-12)
        }
        // On as many ranks it is the same bits.
        let same = try Self.problem.train(Double.self, ranks: 2, sampling: sampling, steps: 3..<6, from: start)
        #expect(same.centres == whole.centres && same.momentum == whole.momentum)
    }

    @Test func ranksWithoutAnActiveClass() throws {
        let labels: @Sendable (Int) -> [Int] = { _ in (0..<12).map { $0 % 3 } }
        let sampling = ClassSampling(rate: 1e-6)
        let one = try Self.problem.train(Double.self, sampling: sampling, labels: labels)
        let four = try Self.problem.train(Double.self, ranks: 4, sampling: sampling, labels: labels)
        #expect(four.counts.allSatisfy { $0 == [3, 0, 0, 0] })
        #expect(four.losses.allSatisfy { $0 > 0 } && relativeDifference(four.losses, one.losses) <= 1e-12)
        #expect(relativeDifference(four.centres, one.centres) <= 1e-12)
        // More ranks than classes.
        let few = HeadProblem.random(rows: 8, classes: 3, dimension: 5, seed: 4)
        let expected = try few.train(Double.self, sampling: ClassSampling(rate: 0.5))
        let spread = try few.train(Double.self, ranks: 8, sampling: ClassSampling(rate: 0.5))
        #expect(relativeDifference(spread.centres, expected.centres) <= 1e-12)
    }
}
