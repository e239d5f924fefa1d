import Evaluation
import Testing

@Suite struct ROCCurveTests {
    private let scores = [0.9, 0.8, 0.35, 0.6, 0.7, 0.3, 0.2, 0.1, 0.05, 0.4]
    private let positive = (0..<10).map { $0 < 4 }

    @Test func ratesAtFalsePositiveRates() throws {
        let curve = try ROCCurve(scores: scores, positive: positive)
        #expect(curve.truePositiveRate(atFalsePositiveRate: 1e-6) == 0.5)
        #expect(curve.truePositiveRate(atFalsePositiveRate: 0.1) == 0.75)
        #expect(curve.truePositiveRate(atFalsePositiveRate: 0.2) == 0.75)
        #expect(curve.truePositiveRate(atFalsePositiveRate: 0.3) == 1)
    }

    @Test func collinearPointsAreDropped() throws {
        let all = try ROCCurve(scores: scores, positive: positive, dropCollinear: false)
        let kept = try ROCCurve(scores: scores, positive: positive)
        #expect(all.points.count == 11)
        #expect(kept.points.compactMap(\.threshold) == [0.9, 0.8, 0.7, 0.6, 0.4, 0.35, 0.05])
        #expect(kept.points[0].threshold == nil)
        #expect(kept.area == all.area)
        #expect(kept.points.last?.falsePositiveRate == 1 && kept.points.last?.truePositiveRate == 1)
    }

    @Test func areaIsTheProbabilityOfTheRightOrder() throws {
        let curve = try ROCCurve(scores: scores, positive: positive)
        var wins = 0.0
        for i in 0..<4 { for j in 4..<10 { wins += scores[i] > scores[j] ? 1 : 0 } }
        #expect(abs(curve.area - wins / 24) < 1e-12)
        let tied = try ROCCurve(scores: [1, 1, 1, 1], positive: [true, false, true, false])
        #expect(tied.area == 0.5)
        #expect(tied.equalErrorRate == 0.5)
    }

    @Test func equalErrorRateLiesBetweenThePoints() throws {
        // (0, 0.5), (0.25, 0.5), (0.25, 1): the diagonal FPR = 1 - TPR is met at 0.25 on the vertical part.
        let curve = try ROCCurve(
            scores: [0.9, 0.3, 0.5, 0.2, 0.1, 0.05], positive: [true, true, false, false, false, false])
        #expect(abs(curve.equalErrorRate - 0.25) < 1e-12)
    }
}
