/// An error-versus-discard curve: false non-match rate over the share of pairs left out, beside what a random order and
/// knowledge of the errors would give.
package enum DiscardPlot {
    package struct Curves: Sendable {
        package let name: String
        /// Shares of the pairs, rising.
        package let discardRates: [Double]
        /// nil where the rate does not exist.
        package let falseNonMatchRates: [Double?]
        /// Bounds of an interval around them, if known.
        package let interval: [(lower: Double, upper: Double)?]
        package let random: [Double?]
        package let oracle: [Double?]

        package init(
            _ name: String, discardRates: [Double], falseNonMatchRates: [Double?],
            interval: [(lower: Double, upper: Double)?], random: [Double?], oracle: [Double?]
        ) {
            precondition(
                [falseNonMatchRates.count, interval.count, random.count, oracle.count]
                    .allSatisfy { $0 == discardRates.count }, "one value per discard rate")
            self.name = name
            self.discardRates = discardRates
            self.falseNonMatchRates = falseNonMatchRates
            self.interval = interval
            self.random = random
            self.oracle = oracle
        }
    }

    /// Curves hold their value from each discard rate to the next: nothing was measured in between.
    package static func plot(
        _ curves: Curves, title: String = "", width: Double = 480, height: Double = 340
    ) -> Plot {
        var series: [Plot.Series] = []
        for run in known(curves.interval) {
            let upper = held(run.map { Point(curves.discardRates[$0.index], $0.value.upper) })
            let lower = held(run.map { Point(curves.discardRates[$0.index], $0.value.lower) })
            series.append(
                Plot.Series("", upper, style: .band(lower: lower.map(\.y)), colour: Colour.palette[0].paler(0.75)))
        }
        func line(_ name: String, _ values: [Double?], _ colour: Colour, dash: [Double] = [], width: Double = 1.6) {
            let points = zip(curves.discardRates, values).map { Point($0, $1 ?? .nan) }
            series.append(Plot.Series(name, points, style: .steps, colour: colour, dash: dash, width: width))
        }
        line("random order", curves.random, .faint, dash: [5, 3], width: 1.2)
        line("oracle", curves.oracle, Colour.palette[2], dash: [1.5, 2.5], width: 1.4)
        line(curves.name, curves.falseNonMatchRates, Colour.palette[0])
        let shown = series.flatMap { $0.points.map(\.y) }.filter(\.isFinite)
        let top = max(shown.max() ?? 0, 1e-4) * 1.08
        return Plot(
            title: title, x: Plot.Axis("Pairs left out (%)", range: 0...1, percent: true),
            y: Plot.Axis("False non-match rate (%)", range: 0...top, percent: true), series: series, width: width,
            height: height)
    }

    /// The unbroken runs of what is known.
    private static func known<Value>(_ values: [Value?]) -> [[(index: Int, value: Value)]] {
        var runs: [[(index: Int, value: Value)]] = []
        var open = false
        for (index, value) in values.enumerated() {
            guard let value else {
                open = false
                continue
            }
            if !open { runs.append([]) }
            runs[runs.count - 1].append((index, value))
            open = true
        }
        return runs
    }

    /// Corners of the steps through points.
    private static func held(_ points: [Point]) -> [Point] {
        var corners: [Point] = []
        for point in points {
            if let before = corners.last { corners.append(Point(point.x, before.y)) }
            corners.append(point)
        }
        return corners
    }
}
