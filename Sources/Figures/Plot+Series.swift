extension Plot {
    /// The colour of each series: its own, or the next of the palette.
    func colours() -> [Colour] {
        var next = 0
        return series.map { one in
            if let colour = one.colour { return colour }
            defer { next += 1 }
            return Colour.palette[next % Colour.palette.count]
        }
    }

    func seriesElements(_ x: PlotAxis, _ y: PlotAxis, in frame: Rectangle) -> [Drawing.Element] {
        zip(series, colours()).flatMap { one, colour -> [Drawing.Element] in
            switch one.style {
            case .line, .steps:
                lines(one, x, y).map { .line($0, colour: colour, width: one.width, dash: one.dash) }
            case .marks:
                one.points.compactMap { place($0, x, y) }.map {
                    .line([$0], colour: colour, width: one.width * 3, dash: [])
                }
            case .bars:
                bars(one, x, y).flatMap { skyline -> [Drawing.Element] in
                    [
                        .area(skyline, colour: colour, opacity: one.opacity),
                        .line(skyline, colour: colour, width: 0.8, dash: []),
                    ]
                }
            case .band(let lower):
                band(one, lower, x, y).map { [.area($0, colour: colour, opacity: one.opacity)] } ?? []
            }
        }
    }

    private func place(_ point: Point, _ x: PlotAxis, _ y: PlotAxis) -> Point? {
        guard let px = x.place(point.x), let py = y.place(point.y) else { return nil }
        return Point(px, py)
    }

    /// The unbroken lines of a series.
    private func lines(_ one: Series, _ x: PlotAxis, _ y: PlotAxis) -> [[Point]] {
        var (all, current): ([[Point]], [Point]) = ([], [])
        for point in one.points {
            guard let placed = place(point, x, y) else {
                if !current.isEmpty { all.append(current) }
                current = []
                continue
            }
            if one.style == .steps, let before = current.last, before.y != placed.y {
                current.append(Point(placed.x, before.y))
            }
            current.append(placed)
        }
        if !current.isEmpty { all.append(current) }
        return all.map(Self.thinned)
    }

    /// Leaves out points less than a tenth of a point from the one before, which nobody sees, but for the last.
    private static func thinned(_ line: [Point]) -> [Point] {
        var kept: [Point] = []
        for (index, point) in line.enumerated() {
            if let before = kept.last, index + 1 < line.count,
                abs(point.x - before.x) < 0.1, abs(point.y - before.y) < 0.1
            {
                continue
            }
            kept.append(point)
        }
        return kept
    }

    /// The outlines of bars that stand side by side, each run as one shape: no seams show between them.
    private func bars(_ one: Series, _ x: PlotAxis, _ y: PlotAxis) -> [[Point]] {
        let base = y.place(max(0, y.range.lowerBound)) ?? y.start
        var (all, current): ([[Point]], [Point]) = ([], [])
        func close() {
            if let last = current.last { all.append(current + [Point(last.x, base)]) }
            current = []
        }
        for i in one.points.indices.dropLast() {
            guard let corner = place(one.points[i], x, y), let right = x.place(one.points[i + 1].x), corner.y != base
            else {
                close()
                continue
            }
            if current.isEmpty { current.append(Point(corner.x, base)) }
            current += [corner, Point(right, corner.y)]
        }
        close()
        return all
    }

    private func band(_ one: Series, _ lower: [Double], _ x: PlotAxis, _ y: PlotAxis) -> [Point]? {
        precondition(lower.count == one.points.count, "\(lower.count) lower bounds for \(one.points.count) points")
        let upper = one.points.compactMap { place($0, x, y) }
        let under = zip(one.points, lower).compactMap { place(Point($0.x, $1), x, y) }
        return upper.count > 1 ? upper + under.reversed() : nil
    }

    /// Places about three points apart along everything that is drawn inside the frame.
    func occupied(_ x: PlotAxis, _ y: PlotAxis, in frame: Rectangle) -> [Point] {
        var places: [Point] = []
        func walk(_ line: [Point]) {
            for i in line.indices {
                let (a, b) = (line[max(0, i - 1)], line[i])
                let steps = max(1, Int((max(abs(b.x - a.x), abs(b.y - a.y)) / 3).rounded(.up)))
                for step in 1...steps {
                    let t = Double(step) / Double(steps)
                    let point = Point(a.x + t * (b.x - a.x), a.y + t * (b.y - a.y))
                    if frame.contains(point) { places.append(point) }
                }
            }
        }
        for one in series {
            switch one.style {
            case .line, .steps: for line in lines(one, x, y) { walk(line) }
            case .marks: for point in one.points.compactMap({ place($0, x, y) }) { walk([point]) }
            case .bars: for outline in bars(one, x, y) { walk(outline) }
            case .band(let lower): if let outline = band(one, lower, x, y) { walk(outline) }
            }
        }
        return places
    }
}
