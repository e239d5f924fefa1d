import Telemetry
import Testing

@Suite struct ProgressDisplayTests {
    private static let durations: [(seconds: Double, text: String)] = [
        (0, "0 s"), (0.4, "0 s"), (59.6, "60 s"), (89.9, "90 s"), (90, "2 min"), (150, "3 min"), (3599, "60 min"),
        (5399, "90 min"), (5400, "1 h 30 min"), (7199, "1 h 59 min"), (7200, "2 h 0 min"), (360_000, "100 h 0 min"),
    ]

    @Test(arguments: durations)
    func durationsAreShort(_ seconds: Double, _ text: String) { #expect(ProgressDisplay.duration(seconds) == text) }

    @Test func aDurationThatNoNumberHoldsIsStillShown() {
        #expect(ProgressDisplay.duration(1e300).hasSuffix("h"))
        #expect(!ProgressDisplay.duration(.infinity).isEmpty)
        #expect(!ProgressDisplay.duration(.nan).isEmpty)
    }

    @Test func whatRemainsFollowsFromTheRate() {
        let display = ProgressDisplay(total: 100, first: 40, style: .never)
        // Nothing is known before the first step of this run, and nothing remains at the end.
        #expect(display.remaining(40).isEmpty)
        #expect(display.remaining(100).isEmpty)
        #expect(display.remaining(41).hasSuffix(" left"))
    }
}
