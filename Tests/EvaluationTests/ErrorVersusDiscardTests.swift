import Evaluation
import Foundation
import Testing

@Suite struct ErrorVersusDiscardTests {
    private let same = (0..<40).map { $0 % 4 < 2 }
    private var distances: [Double] {
        (0..<40).map { (same[$0] ? 0.25 : 0.48) + 0.12 * sin(2.3 * Double($0) + 0.4) }
    }
    private var qualities: [Double] { (0..<40).map { 0.5 + 0.5 * sin(0.9 * Double($0)) } }

    private func curve(
        _ target: Double, _ threshold: ErrorVersusDiscard.Threshold, qualities: [Double]? = nil
    ) throws -> ErrorVersusDiscard {
        try ErrorVersusDiscard(
            distances: distances, same: same, qualities: qualities ?? self.qualities, targetFMR: target,
            threshold: threshold)
    }

    @Test func reselectedThresholds() throws {
        let found = try curve(0.01, .reselected)
        let expected = [
            0.2, 0.210526, 0.222222, 0.235294, 0.266667, 0.266667, 0.285714, 0.230769, 0.25, 0.272727, 0.3, 0.333333,
            0.333333, 0.285714, 0.285714, 0.4, 0.4, 0.333333, 0.5, 1,
        ]
        #expect(found.falseNonMatchRates.count == expected.count)
        for (rate, wanted) in zip(found.falseNonMatchRates, expected) {
            #expect(abs(try #require(rate) - wanted) < 1e-6)
        }
        #expect(abs(try #require(found.operatingPoints[0]) - 0.3606507382) < 1e-10)
        #expect(abs(try #require(curve(0.001, .reselected).operatingPoints[0]) - 0.3606507382) < 1e-10)
        #expect(abs(try #require(found.area()) - 0.3006007675) < 1e-9)
        #expect(abs(try #require(curve(0.1, .reselected).area()) - 0.1952726389) < 1e-9)
    }

    @Test func fixedThreshold() throws {
        let found = try curve(0.01, .fixed)
        let tail = [0.222222, 0.222222, 0.142857, 0.142857, 0.2, 0.2, 0, 0, 0]
        for (rate, wanted) in zip(found.falseNonMatchRates.suffix(9), tail) {
            #expect(abs(try #require(rate) - wanted) < 1e-6)
        }
        #expect(abs(try #require(found.area()) - 0.1885372754) < 1e-9)
        #expect(abs(try #require(curve(0.1, .fixed).area()) - 0.0827937289) < 1e-9)
    }

    @Test func equalQualitiesDiscardInTheOrderOfTheList() throws {
        let found = try curve(0.01, .fixed, qualities: [Double](repeating: 1, count: 40))
        let point = try #require(found.operatingPoints[0])
        for (rate, share) in zip(found.falseNonMatchRates, found.discardRates) {
            let kept = (Int((share * 40).rounded())..<40).filter { same[$0] }
            let expected = kept.isEmpty ? nil : Double(kept.count { distances[$0] >= point }) / Double(kept.count)
            #expect(rate == expected)
        }
        // The last two pairs are impostors: at 0.95 there is no genuine pair left, so the full area does not exist.
        #expect(found.falseNonMatchRates[19] == nil)
        #expect(found.area() == nil)
        #expect(found.area(upTo: 0.3) != nil)
    }

    @Test func angularDistance() {
        #expect(ErrorVersusDiscard.angularDistance(cosine: 1.0000001) == 0)
        #expect(abs(ErrorVersusDiscard.angularDistance(cosine: 0) - 0.5) < 1e-15)
        #expect(
            ErrorVersusDiscard.pairQualities([3, 1, 2], pairs: [VerificationPair(0, 2, same: true)]) == [2])
    }
}
