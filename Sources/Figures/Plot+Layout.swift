extension Plot {
    private static let tickSize = 10.5
    private static let labelSize = 12.0
    private static let titleSize = 13.0
    private static let legendSize = 10.5
    private static let tickLength = 4.0

    /// Lays the plot out: margins from the labels' sizes, then grid, series, frame, labels and legend.
    package func drawing() -> Drawing {
        var drawing = Drawing(width: width, height: height)
        var (x, y) = (axis(xAxis, \.x), axis(yAxis, \.y))
        let top = title.isEmpty ? 12 : 16 + Self.titleSize * 1.1
        let bottom = Self.tickLength + Self.tickSize * 1.3 + (xAxis.label.isEmpty ? 6 : Self.labelSize * 1.7)
        var frame = Rectangle(0, top, 0, height - top - bottom)
        y.ticks = ticks(yAxis, y.range, length: frame.height, room: { _ in 3.2 * Self.tickSize })
        let widest = y.ticks.major.map { StrokeFont.width($0.label, size: Self.tickSize) }.max() ?? 0
        frame.x = 8 + (yAxis.label.isEmpty ? 2 : Self.labelSize * 1.5) + widest + 3 + Self.tickLength
        let legend = legendEntries()
        let outside = legendWidth(legend) + 14
        frame.width = width - frame.x - 16
        place(&x, &y, in: frame)
        var corner = legend.isEmpty ? nil : freeCorner(legend, x, y, in: frame)
        if !legend.isEmpty && corner == nil && outside < 0.4 * width {
            frame.width -= outside
            place(&x, &y, in: frame)
            corner = Point(frame.right + 10, frame.y)
        }
        x.ticks = ticks(xAxis, x.range, length: frame.width) { ticks in
            (ticks.major.map { StrokeFont.width($0.label, size: Self.tickSize) }.max() ?? 0) + 1.4 * Self.tickSize
        }
        drawing.elements += grid(x, y, in: frame)
        drawing.elements.append(.clipped(frame, seriesElements(x, y, in: frame)))
        drawing.elements += axes(x, y, in: frame)
        drawing.elements += captions(in: frame)
        if !legend.isEmpty {
            drawing.elements += legendElements(legend, at: corner ?? Point(frame.x + 8, frame.y + 8))
        }
        return drawing
    }

    private func axis(_ axis: Axis, _ coordinate: KeyPath<Point, Double>) -> PlotAxis {
        var values = series.flatMap { $0.points.map { $0[keyPath: coordinate] } }
        var bars = false
        if coordinate == \Point.y {
            for one in series {
                if case .band(let lower) = one.style { values += lower }
                bars = bars || one.style == .bars
            }
        }
        return PlotAxis(axis, values: values, includesZero: bars)
    }

    private func place(_ x: inout PlotAxis, _ y: inout PlotAxis, in frame: Rectangle) {
        (x.start, x.end) = (frame.x, frame.right)
        (y.start, y.end) = (frame.bottom, frame.y)
    }

    /// As many ticks as their labels have room for: `room` gives the length that one label of a choice takes.
    private func ticks(
        _ axis: Axis, _ range: ClosedRange<Double>, length: Double, room: (Ticks) -> Double
    ) -> Ticks {
        var count = 9
        while true {
            let ticks =
                axis.scale == .linear
                ? Ticks.linear(range, atMost: count, percent: axis.percent)
                : Ticks.logarithmic(range, atMost: count)
            if count <= 2 || Double(ticks.major.count) * room(ticks) <= length { return ticks }
            count -= 1
        }
    }

    private func grid(_ x: PlotAxis, _ y: PlotAxis, in frame: Rectangle) -> [Drawing.Element] {
        let vertical = x.ticks.major.compactMap { x.place($0.value) }.map { at in
            Drawing.Element.line(
                [Point(at, frame.y), Point(at, frame.bottom)], colour: .grid, width: 0.6, dash: [])
        }
        let horizontal = y.ticks.major.compactMap { y.place($0.value) }.map { at in
            Drawing.Element.line([Point(frame.x, at), Point(frame.right, at)], colour: .grid, width: 0.6, dash: [])
        }
        return vertical + horizontal
    }

    private func axes(_ x: PlotAxis, _ y: PlotAxis, in frame: Rectangle) -> [Drawing.Element] {
        func mark(_ from: Point, _ to: Point) -> Drawing.Element {
            .line([from, to], colour: .ink, width: 0.8, dash: [])
        }
        var elements: [Drawing.Element] = [
            .line(
                [
                    Point(frame.x, frame.y), Point(frame.x, frame.bottom), Point(frame.right, frame.bottom),
                    Point(frame.right, frame.y), Point(frame.x, frame.y),
                ], colour: .ink, width: 0.8, dash: [])
        ]
        for tick in x.ticks.major {
            guard let at = x.place(tick.value) else { continue }
            elements.append(mark(Point(at, frame.bottom), Point(at, frame.bottom + Self.tickLength)))
            elements.append(
                .text(
                    Drawing.Text(
                        tick.label,
                        at: Point(at, frame.bottom + Self.tickLength + 3 + 0.78 * Self.tickSize),
                        size: Self.tickSize, anchor: .middle)))
        }
        for value in x.ticks.minor {
            guard let at = x.place(value) else { continue }
            elements.append(mark(Point(at, frame.bottom), Point(at, frame.bottom + Self.tickLength / 2)))
        }
        for tick in y.ticks.major {
            guard let at = y.place(tick.value) else { continue }
            elements.append(mark(Point(frame.x - Self.tickLength, at), Point(frame.x, at)))
            elements.append(
                .text(
                    Drawing.Text(
                        tick.label, at: Point(frame.x - Self.tickLength - 3, at + 0.36 * Self.tickSize),
                        size: Self.tickSize, anchor: .end)))
        }
        for value in y.ticks.minor {
            guard let at = y.place(value) else { continue }
            elements.append(mark(Point(frame.x - Self.tickLength / 2, at), Point(frame.x, at)))
        }
        return elements
    }

    private func captions(in frame: Rectangle) -> [Drawing.Element] {
        var texts: [Drawing.Text] = []
        let (middle, centre) = (frame.x + frame.width / 2, frame.y + frame.height / 2)
        if !title.isEmpty {
            texts.append(
                Drawing.Text(
                    Label(title), at: Point(middle, 10 + Self.titleSize),
                    size: fitted(title, Self.titleSize, room: 2 * min(middle, width - middle) - 8, bold: true),
                    anchor: .middle, bold: true))
        }
        if !xAxis.label.isEmpty {
            texts.append(
                Drawing.Text(
                    Label(xAxis.label), at: Point(middle, height - 8), size: Self.labelSize,
                    anchor: .middle))
        }
        if !yAxis.label.isEmpty {
            texts.append(
                Drawing.Text(
                    Label(yAxis.label), at: Point(8 + Self.labelSize * 0.8, centre),
                    size: Self.labelSize, anchor: .middle, upwards: true))
        }
        return texts.map { .text($0) }
    }

    /// The size at which text fits into `room`, at most `size`.
    private func fitted(_ text: String, _ size: Double, room: Double, bold: Bool) -> Double {
        let wanted = StrokeFont.width(text, size: size, bold: bold)
        return wanted > room ? max(7, size * room / wanted) : size
    }
}

// MARK: - Legend

extension Plot {
    struct LegendEntry {
        let series: Series
        let colour: Colour
    }

    private static let sample = 22.0
    private static let legendRow = legendSize * 1.5

    /// The series with names; one that nobody has to tell apart needs no legend.
    func legendEntries() -> [LegendEntry] {
        let named = zip(series, colours()).filter { !$0.0.name.isEmpty }.map { LegendEntry(series: $0, colour: $1) }
        return named.count == 1 && series.count == 1 && !title.isEmpty ? [] : named
    }

    private func legendWidth(_ entries: [LegendEntry]) -> Double {
        let widest = entries.map { StrokeFont.width($0.series.name, size: Self.legendSize) }.max() ?? 0
        // Letters of other fonts, which an SVG may be shown with, are up to a tenth wider than ours.
        return 1.1 * widest + Self.sample + 18
    }

    /// The upper left corner of the legend where it covers no series, trying the corners of the frame in turn.
    private func freeCorner(
        _ entries: [LegendEntry], _ x: PlotAxis, _ y: PlotAxis, in frame: Rectangle
    ) -> Point? {
        let (wide, high) = (legendWidth(entries), Double(entries.count) * Self.legendRow + 8)
        guard wide < frame.width - 16, high < frame.height - 16 else { return nil }
        let (left, right) = (frame.x + 8, frame.right - 8 - wide)
        let (top, bottom) = (frame.y + 8, frame.bottom - 8 - high)
        let middle = frame.y + (frame.height - high) / 2
        let dense = occupied(x, y, in: frame)
        for (cx, cy) in [(right, bottom), (right, top), (left, top), (left, bottom), (right, middle), (left, middle)] {
            let box = Rectangle(cx - 3, cy - 3, wide + 6, high + 6)
            if !dense.contains(where: box.contains) { return Point(cx, cy) }
        }
        return nil
    }

    private func legendElements(_ entries: [LegendEntry], at corner: Point) -> [Drawing.Element] {
        let (wide, high) = (legendWidth(entries), Double(entries.count) * Self.legendRow + 8)
        let box = [
            corner, Point(corner.x + wide, corner.y), Point(corner.x + wide, corner.y + high),
            Point(corner.x, corner.y + high),
        ]
        var elements: [Drawing.Element] = [
            .area(box, colour: .white, opacity: 0.9),
            .line(box + [corner], colour: Colour(190, 190, 190), width: 0.6, dash: []),
        ]
        for (row, entry) in entries.enumerated() {
            let y = corner.y + 4 + (Double(row) + 0.5) * Self.legendRow
            let (from, to) = (Point(corner.x + 7, y), Point(corner.x + 7 + Self.sample - 4, y))
            switch entry.series.style {
            case .bars, .band:
                elements.append(
                    .area(
                        [
                            Point(from.x, y - 4), Point(to.x, y - 4), Point(to.x, y + 4), Point(from.x, y + 4),
                        ], colour: entry.colour, opacity: entry.series.opacity))
            case .marks:
                elements.append(
                    .line(
                        [Point((from.x + to.x) / 2, y)], colour: entry.colour, width: entry.series.width * 3, dash: []))
            case .line, .steps:
                elements.append(
                    .line([from, to], colour: entry.colour, width: entry.series.width, dash: entry.series.dash))
            }
            elements.append(
                .text(
                    Drawing.Text(
                        Label(entry.series.name),
                        at: Point(corner.x + 9 + Self.sample, y + 0.36 * Self.legendSize),
                        size: Self.legendSize)))
        }
        return elements
    }
}
