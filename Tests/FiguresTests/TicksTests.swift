import Figures
import Testing

@Suite struct TicksTests {
    private func labels(_ ticks: Ticks) -> [String] {
        ticks.major.map { $0.label.exponent.isEmpty ? $0.label.text : "\($0.label.text)^\($0.label.exponent)" }
    }

    @Test(arguments: [
        (0.0...1.0, 6, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (0.0...1.0, 5, ["0", "0.5", "1"]),
        (-1.0...1.0, 5, ["\u{2212}1", "\u{2212}0.5", "0", "0.5", "1"]),
        (0.13...0.57, 9, ["0.15", "0.20", "0.25", "0.30", "0.35", "0.40", "0.45", "0.50", "0.55"]),
        (0.0...180_000.0, 5, ["0", "50k", "100k", "150k"]),
        (0.0...2_500_000.0, 6, ["0", "0.5M", "1M", "1.5M", "2M", "2.5M"]),
        (3.0...19.0, 5, ["5", "10", "15"]),
        (0.0...1e-5, 3, ["0", "0.5×10^\u{2212}5", "1×10^\u{2212}5"]),
    ])
    func linear(range: ClosedRange<Double>, count: Int, expected: [String]) {
        let ticks = Ticks.linear(range, atMost: count)
        let found = labels(ticks)
        #expect(found.count <= count)
        #expect(ticks.major.allSatisfy { range.lowerBound - 1e-9 <= $0.value && $0.value <= range.upperBound + 1e-9 })
        #expect(found == expected)
    }

    @Test func linearStepsAreEven() {
        for count in 2...9 {
            for (low, high) in [(0.0, 0.7), (97.2, 99.9), (-3e4, 8e4), (1e-7, 9e-7), (5.0, 5.001)] {
                let values = Ticks.linear(low...high, atMost: count).major.map(\.value)
                #expect(values.count >= 1 && values.count <= count)
                for i in 2..<max(2, values.count) {
                    let (a, b) = (values[i] - values[i - 1], values[i - 1] - values[i - 2])
                    #expect(abs(a - b) < 1e-9 * max(abs(high), abs(low)))
                }
            }
        }
    }

    @Test func percentLabels() {
        let ticks = Ticks.linear(0.7...1, atMost: 4, percent: true)
        #expect(labels(ticks) == ["70", "80", "90", "100"])
        #expect(abs(ticks.major[1].value - 0.8) < 1e-12)
    }

    @Test func decades() {
        let ticks = Ticks.logarithmic(1e-4...1, atMost: 9)
        #expect(labels(ticks) == ["10^\u{2212}4", "10^\u{2212}3", "10^\u{2212}2", "10^\u{2212}1", "1"])
        #expect(ticks.minor.count == 4 * 8)
        #expect(labels(Ticks.logarithmic(0.01...100, atMost: 9)) == ["0.01", "0.1", "1", "10", "100"])
        // Too many decades: every third.
        #expect(Ticks.logarithmic(1e-8...1, atMost: 3).major.count == 3)
        // Less than two: also 2 and 5.
        #expect(labels(Ticks.logarithmic(3...18, atMost: 9)) == ["5", "10"])
    }
}
