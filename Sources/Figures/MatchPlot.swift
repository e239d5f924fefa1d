/// Cumulative match characteristics: the share of probes with a mate among the k most similar gallery images, over k.
package enum MatchPlot {
    package struct Curve: Sendable {
        package let name: String
        /// At k - 1 the rate at rank k.
        package let rates: [Double]

        package init(_ name: String, rates: [Double]) {
            precondition(!rates.isEmpty, "a curve without points")
            self.name = name
            self.rates = rates
        }
    }

    package static func plot(
        _ curves: [Curve], title: String = "", width: Double = 480, height: Double = 340
    ) -> Plot {
        let series = curves.map { curve in
            Plot.Series(curve.name, curve.rates.enumerated().map { Point(Double($0.offset + 1), $0.element) })
        }
        let last = curves.map(\.rates.count).max() ?? 1
        let lowest = curves.compactMap(\.rates.first).min() ?? 0
        let step = lowest > 0.95 ? 0.01 : lowest > 0.8 ? 0.05 : 0.1
        let bottom = max(0, ((lowest - 0.3 * step) / step).rounded(.down) * step)
        return Plot(
            title: title, x: Plot.Axis("Rank", range: 1...Double(max(2, last))),
            y: Plot.Axis("Probes found (%)", range: bottom...1 + 0.04 * (1 - bottom), percent: true), series: series,
            width: width, height: height)
    }
}
