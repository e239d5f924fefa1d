import Evaluation
import Foundation
import Tensors
import Testing

@Suite struct PairVerificationTests {
    /// Twenty pairs whose thresholds and accuracies were worked out with numpy by insightface's rule.
    private func twentyPairs() throws -> PairScores {
        let same = (0..<20).map { $0 % 2 == 0 }
        return try PairScores(
            distances: (0..<20).map { (same[$0] ? 0.8 : 2.0) + 0.75 * sin(1.7 * Double($0)) }, same: same)
    }

    private func noisyPairs(_ count: Int, seed: UInt64, separation: Double) throws -> PairScores {
        var stream = RandomStream(seed: seed, purpose: .test, index: 0)
        let same = (0..<count).map { $0 % 2 == 0 }
        return try PairScores(
            distances: same.map { min(4, max(0, ($0 ? 2 - separation : 2) + 0.3 * stream.normal())) }, same: same)
    }

    @Test func gridRuleGivesTheReferenceThresholds() throws {
        let pairs = try twentyPairs()
        let accuracy = PairVerification.gridAccuracy(pairs, folds: try Folds(contiguous: 20))
        let thresholds = [1.46, 1.46, 1.46, 1.55, 1.18, 1.46, 1.46, 1.46, 1.18, 1.46]
        for (found, expected) in zip(accuracy.thresholds, thresholds) { #expect(abs(found - expected) < 1e-12) }
        #expect(accuracy.perFold == [1, 0.5, 1, 0.5, 0.5, 1, 0.5, 1, 0.5, 1])
        #expect(accuracy.mean == 0.75)
        #expect(accuracy.deviation == 0.25)
    }

    @Test func foldSizes() throws {
        #expect(try Folds(contiguous: 23).sizes == [3, 3, 3, 2, 2, 2, 2, 2, 2, 2])
        #expect(try Folds(contiguous: 20).assignment == (0..<20).map { $0 / 2 })
        #expect(throws: EvaluationError.tooFewItems(items: 9, folds: 10)) { try Folds(contiguous: 9) }
    }

    @Test func listedFolds() throws {
        let listed = try Folds(listed: [1, 0, 1, 2], folds: 3)
        #expect(listed.sizes == [1, 2, 1])
        #expect(throws: EvaluationError.badFold(fold: 3, folds: 3)) { try Folds(listed: [0, 1, 2, 3], folds: 3) }
        #expect(throws: EvaluationError.badFold(fold: 1, folds: 3)) { try Folds(listed: [0, 0, 2, 2], folds: 3) }
        // The contiguous folds of 6000 pairs are LFW's own: pair i is in fold i / 600.
        let lfw = try Folds(listed: (0..<6000).map { $0 / 600 })
        #expect(try lfw.assignment == Folds(contiguous: 6000).assignment)
    }

    @Test func distanceEqualToTheThresholdIsNotTheSame() throws {
        // The only threshold that separates these on a 0.01 grid is the impostors' own distance.
        let same = (0..<20).map { $0 % 2 == 0 }
        let pairs = try PairScores(distances: same.map { $0 ? 0.995 : 1.0 }, same: same)
        let accuracy = PairVerification.gridAccuracy(pairs, folds: try Folds(contiguous: 20))
        #expect(accuracy.mean == 1)
        #expect(accuracy.thresholds.allSatisfy { $0 == 1.0 })
    }

    @Test func exactThresholdTakesTheMiddleOfEquallyGoodCuts() throws {
        // Genuine and impostor distances alternate: cuts behind each genuine pair are equally good.
        let distances = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
        let same = [true, false, true, false, true, false]
        let pairs = try PairScores(distances: distances + distances, same: same + same)
        let folds = try Folds(listed: [Int](repeating: 0, count: 6) + [Int](repeating: 1, count: 6), folds: 2)
        let accuracy = PairVerification.exactAccuracy(pairs, folds: folds)
        for threshold in accuracy.thresholds { #expect(abs(threshold - 0.35) < 1e-12) }
        #expect(accuracy.perFold.allSatisfy { abs($0 - 4.0 / 6) < 1e-12 })
    }

    @Test func perfectSeparation() throws {
        let same = (0..<40).map { $0 % 4 < 2 }
        let pairs = try PairScores(distances: same.map { $0 ? 0.3 : 1.9 }, same: same)
        let report = try VerificationReport(
            pairs, facts: VerificationFacts(dataset: "separate", flip: .none), replicates: 50)
        #expect(report.accuracy.mean == 1)
        #expect(report.exactAccuracy.mean == 1)
        #expect(report.tar.allSatisfy { $0.rate == 1 && $0.falseAccepts == 0 && $0.interval?.lower == 1 })
        #expect(report.foldedTAR.allSatisfy { $0.mean == 1 })
        #expect(report.areaUnderCurve == 1)
        #expect(report.equalErrorRate == 0)
        #expect(report.genuinePairs == 20 && report.impostorPairs == 20)
    }

    @Test func scoresWithoutInformationAreAtChance() throws {
        let report = try VerificationReport(
            try noisyPairs(6000, seed: 3, separation: 0), facts: VerificationFacts(dataset: "noise", flip: .none),
            replicates: 0)
        #expect(abs(report.accuracy.mean - 0.5) < 0.03)
        #expect(abs(report.areaUnderCurve - 0.5) < 0.03)
        #expect(abs(report.equalErrorRate - 0.5) < 0.03)
        #expect(report.tar.allSatisfy { $0.interval == nil })
    }

    @Test func falseAcceptRateNeverExceedsItsTarget() throws {
        // Ties among the impostors, so that the (k + 1)-th equals the k-th.
        let same = [true, true, true, true] + [Bool](repeating: false, count: 10)
        let pairs = try PairScores(
            distances: [0.1, 0.2, 0.5, 0.9] + [0.5, 0.5, 0.5, 1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6], same: same)
        let tar = PairVerification.tar(pairs, targetFARs: [0.1, 0.2, 0.3, 0.001], replicates: 0)
        #expect(tar.map(\.falseAccepts) == [0, 0, 3, 0])
        #expect(tar.map(\.rate) == [0.5, 0.5, 1, 0.5])
        #expect(tar.map(\.reachedFAR) == [0, 0, 0.3, 0])
    }

    @Test func foldedRatesAreAbsentWhereAFoldLacksAKind() throws {
        let same = (0..<20).map { $0 < 10 }
        let pairs = try PairScores(distances: same.map { $0 ? 0.5 : 1.5 }, same: same)
        #expect(PairVerification.foldedTAR(pairs, folds: try Folds(contiguous: 20), targetFAR: 0.1) == nil)
    }

    @Test func bootstrapIsKeyedByTheSeed() throws {
        let pairs = try noisyPairs(400, seed: 5, separation: 0.7)
        let first = PairVerification.tar(pairs, targetFARs: [0.1], replicates: 200, seed: 1)
        #expect(first == PairVerification.tar(pairs, targetFARs: [0.1], replicates: 200, seed: 1))
        #expect(first != PairVerification.tar(pairs, targetFARs: [0.1], replicates: 200, seed: 2))
        let interval = try #require(first[0].interval)
        #expect(interval.lower < first[0].rate && first[0].rate < interval.upper)
    }

    @Test func wilsonInterval() {
        // From the closed form in double precision (numpy).
        let interval = ConfidenceInterval.wilson(successes: 5940, trials: 6000)
        #expect(abs(interval.lower - 0.9871502156) < 1e-9)
        #expect(abs(interval.upper - 0.9922227476) < 1e-9)
        let all = ConfidenceInterval.wilson(successes: 10, trials: 10)
        #expect(abs(all.upper - 1) < 1e-12 && all.lower > 0.7 && all.lower < 0.75)
    }

    @Test func reportSurvivesJSON() throws {
        let report = try VerificationReport(
            try noisyPairs(200, seed: 8, separation: 1), facts: VerificationFacts(dataset: "noise", flip: .sum),
            meanNorm: 12.5, replicates: 20)
        let decoded = try JSONDecoder().decode(VerificationReport.self, from: JSONEncoder().encode(report))
        #expect(decoded == report)
        #expect(decoded.histogram.genuine.reduce(0, +) == 100)
        #expect(decoded.histogram.impostor.reduce(0, +) == 100)
    }

    @Test func damagedScoresAreRefused() {
        #expect(throws: EvaluationError.nonFiniteScore(pair: 1)) {
            try PairScores(distances: [0.1, .nan], same: [true, false])
        }
        #expect(throws: EvaluationError.oneKindOnly(genuine: 2, impostor: 0)) {
            try PairScores(distances: [0.1, 0.2], same: [true, true])
        }
    }
}
