import Figures
import Testing

@Suite struct MatchPlotTests {
    @Test func ratesOverRanks() {
        let plot = MatchPlot.plot(
            [MatchPlot.Curve("4.2 m", rates: [0.5, 0.75, 1]), MatchPlot.Curve("1.0 m", rates: [0.9, 1])], title: "set")
        #expect(plot.series.map(\.name) == ["4.2 m", "1.0 m"])
        #expect(plot.series[0].points.map(\.x) == [1, 2, 3] && plot.series[1].points.map(\.y) == [0.9, 1])
        #expect(plot.xAxis.range == 1...3)
        #expect(plot.yAxis.range.map { $0.lowerBound < 0.5 && $0.upperBound > 1 } == true)
        #expect(plot.svg().contains("4.2 m"))
    }

    @Test func oneGalleryImage() {
        #expect(MatchPlot.plot([MatchPlot.Curve("", rates: [1])]).xAxis.range == 1...2)
    }
}
