import Figures
import Testing

@Suite struct DiscardPlotTests {
    private func plot(_ rates: [Double?]) -> Plot {
        DiscardPlot.plot(
            DiscardPlot.Curves(
                "quality", discardRates: [0, 0.25, 0.5, 0.75], falseNonMatchRates: rates,
                interval: rates.map { $0.map { (lower: $0 / 2, upper: $0 * 2) } }, random: [0.1, 0.1, 0.1, 0.1],
                oracle: [0.1, 0, 0, 0]), title: "set")
    }

    @Test func curvesAndBand() {
        let made = plot([0.1, 0.08, 0.04, 0.02])
        #expect(made.series.map(\.name) == ["", "random order", "oracle", "quality"])
        #expect(made.series[3].points.map(\.y) == [0.1, 0.08, 0.04, 0.02])
        // The band has the corners of its steps.
        #expect(made.series[0].points.map(\.x) == [0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75])
        #expect(made.series[0].points.map(\.y) == [0.2, 0.2, 0.16, 0.16, 0.08, 0.08, 0.04])
        #expect(made.yAxis.range.map { $0.upperBound > 0.2 } == true)
        #expect(made.svg().contains("oracle"))
    }

    @Test func whatDoesNotExistIsAGap() {
        let made = plot([0.1, nil, 0.04, nil])
        #expect(made.series.count == 5)
        #expect(made.series[4].points[1].y.isNaN && made.series[4].points[2].y == 0.04)
        #expect(made.svg().contains("quality"))
    }
}
