import Figures
import Tensors
import Testing

@Suite struct PlotTests {
    /// All texts of a drawing, and the lines inside its clipped frame.
    private func parts(_ plot: Plot) throws -> (
        frame: Rectangle, lines: [[Point]], areas: [[Point]], texts: [Drawing.Text]
    ) {
        let drawing = plot.drawing()
        var (frame, lines, areas, texts): (Rectangle?, [[Point]], [[Point]], [Drawing.Text]) = (nil, [], [], [])
        for element in drawing.elements {
            if case .text(let text) = element { texts.append(text) }
            guard case .clipped(let area, let inner) = element else { continue }
            frame = area
            for one in inner {
                if case .line(let points, _, _, _) = one { lines.append(points) }
                if case .area(let points, _, _) = one { areas.append(points) }
            }
        }
        return (try #require(frame), lines, areas, texts)
    }

    @Test func pointsLieWhereTheAxesSay() throws {
        let plot = Plot(
            x: Plot.Axis("x", scale: .logarithmic, range: 1e-4...1), y: Plot.Axis("y", range: 0...1),
            series: [Plot.Series("", [Point(1e-4, 0), Point(1e-2, 0.5), Point(0, 0.7), Point(1, 1)])])
        let (frame, lines, _, _) = try parts(plot)
        // Zero has no place on a logarithmic axis and breaks the line.
        #expect(lines.count == 2)
        #expect(lines[0][0] == Point(frame.x, frame.bottom))
        #expect(abs(lines[0][1].x - (frame.x + frame.width / 2)) < 1e-9)
        #expect(abs(lines[0][1].y - (frame.y + frame.height / 2)) < 1e-9)
        #expect(lines[1] == [Point(frame.right, frame.y)])
    }

    @Test func stepsHoldTheirValue() throws {
        let curve = ROCPlot.Curve("c", falseAcceptRates: [0, 0, 0.1, 0.1, 1], trueAcceptRates: [0, 0.5, 0.5, 0.9, 1])
        let (frame, lines, _, _) = try parts(ROCPlot.plot([curve], lowest: 1e-2, range: 0...1))
        let line = try #require(lines.first)
        // From the edge at 0.5, along to 0.1, up to 0.9, along, up to 1.
        let middle = frame.x + frame.width / 2
        let expected = [
            Point(frame.x, frame.bottom - 0.5 * frame.height), Point(middle, frame.bottom - 0.5 * frame.height),
            Point(middle, frame.bottom - 0.9 * frame.height), Point(frame.right, frame.bottom - 0.9 * frame.height),
            Point(frame.right, frame.y),
        ]
        #expect(line.count == expected.count)
        for (found, wanted) in zip(line, expected) {
            #expect(abs(found.x - wanted.x) < 1e-9 && abs(found.y - wanted.y) < 1e-9)
        }
    }

    @Test func tickLabelsDoNotOverlap() throws {
        for (range, width) in [(0.0...1e6, 150.0), (0...0.001, 220), (-12345...98765, 480), (0.9871...0.9934, 300)] {
            let plot = Plot(
                x: Plot.Axis("x", range: range), y: Plot.Axis("y", range: range), series: [], width: width, height: 200)
            let (frame, _, _, texts) = try parts(plot)
            let under = texts.filter { $0.anchor == .middle && !$0.upwards && $0.label.text != "x" }
                .sorted { $0.position.x < $1.position.x }
            #expect(!under.isEmpty)
            for i in 1..<max(1, under.count) {
                let half = { (text: Drawing.Text) in 0.3 * text.size * Double(text.label.text.count) }
                let gap = under[i].position.x - under[i - 1].position.x
                #expect(gap > half(under[i]) + half(under[i - 1]))
            }
            #expect(frame.x > 0 && frame.right < width)
        }
    }

    @Test func legendKeepsClearOfTheCurves() throws {
        // A curve through every corner leaves no room inside, so the legend moves beside the frame.
        let zigzag = (0...400).map { Point(Double($0), Double($0 % 2)) }
        let full = Plot(
            x: Plot.Axis("x"), y: Plot.Axis("y"),
            series: [Plot.Series("first", zigzag), Plot.Series("second", zigzag)])
        let crowded = try parts(full)
        let name = try #require(crowded.texts.first { $0.label.text == "first" })
        #expect(name.position.x > crowded.frame.right)
        #expect(name.position.x < 480)
        // With room in a corner it stays inside.
        let diagonal = (0...10).map { Point(Double($0), Double($0)) }
        let roomy = try parts(
            Plot(
                x: Plot.Axis("x"), y: Plot.Axis("y"),
                series: [
                    Plot.Series("first", diagonal), Plot.Series("second", diagonal),
                ]))
        let inside = try #require(roomy.texts.first { $0.label.text == "first" })
        #expect(inside.position.x < roomy.frame.right && inside.position.x > roomy.frame.x)
    }

    @Test func histogramSharesSumToOne() throws {
        let plot = HistogramPlot.plot(
            [.init("genuine", [0, 1, 3, 0]), .init("impostor", [2, 2, 0, 0])], range: -1...1, threshold: 0.1)
        #expect(plot.series.map(\.name) == ["genuine", "impostor", "threshold"])
        for series in plot.series.prefix(2) { #expect(abs(series.points.reduce(0) { $0 + $1.y } - 1) < 1e-12) }
        #expect(plot.series[0].points.map(\.x) == [-1, -0.5, 0, 0.5, 1])
        let (frame, _, areas, _) = try parts(plot)
        // Side by side bars are one shape each, standing on the base.
        #expect(areas.count == 2)
        #expect(areas.allSatisfy { $0.first?.y == frame.bottom && $0.last?.y == frame.bottom })
    }

    @Test func smoothingStartsWithoutBias() {
        let plot = LossPlot.plot(
            [.init("loss", steps: [0, 1, 2, 3], values: [4, 4, .nan, 4])], smoothing: 0.9)
        let front = plot.series.last?.points.map(\.y) ?? []
        #expect(abs(front[0] - 4) < 1e-12 && abs(front[3] - 4) < 1e-12 && front[2].isNaN)
        #expect(plot.series.count == 2)
    }

    @Test func emptyAndFlatDataStillGiveAPlot() throws {
        #expect(try parts(Plot(x: Plot.Axis("x"), y: Plot.Axis("y"), series: [])).lines.isEmpty)
        let flat = Plot(
            x: Plot.Axis("x"), y: Plot.Axis("y", scale: .logarithmic),
            series: [Plot.Series("", [Point(3, 7), Point(3, 7), Point(3, -1)])])
        let (frame, lines, _, _) = try parts(flat)
        #expect(lines.joined().allSatisfy { $0.x > frame.x && $0.x < frame.right })
    }
}
