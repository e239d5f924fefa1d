/// A plot: series over two axes, to be written as SVG or drawn as PNG.
package struct Plot: Sendable {
    package enum Scale: Sendable, Equatable {
        case linear, logarithmic
    }

    package struct Axis: Sendable {
        package var label: String
        package var scale: Scale
        /// What is shown; from the data where nil.
        package var range: ClosedRange<Double>?
        /// Fractions labelled as per cent.
        package var percent: Bool

        package init(
            _ label: String, scale: Scale = .linear, range: ClosedRange<Double>? = nil, percent: Bool = false
        ) {
            self.label = label
            self.scale = scale
            self.range = range
            self.percent = percent
        }
    }

    package enum Style: Sendable, Equatable {
        case line
        /// Constant from each point to the next.
        case steps
        /// A dot at each point.
        case marks
        /// From the base line to each point's y; x is the left edge of the bar and the next point's its right one, the
        /// last point only closes.
        case bars
        /// Between the points and `lower`.
        case band(lower: [Double])
    }

    package struct Series: Sendable {
        package var name: String
        /// Points that are not finite break a line, and so do those that a logarithmic axis cannot show.
        package var points: [Point]
        package var style: Style
        /// Nil for the next of the palette.
        package var colour: Colour?
        package var dash: [Double]
        package var width: Double
        package var opacity: Double

        package init(
            _ name: String, _ points: [Point], style: Style = .line, colour: Colour? = nil, dash: [Double] = [],
            width: Double = 1.6, opacity: Double = 1
        ) {
            self.name = name
            self.points = points
            self.style = style
            self.colour = colour
            self.dash = dash
            self.width = width
            self.opacity = opacity
        }
    }

    package var title: String
    package var xAxis: Axis
    package var yAxis: Axis
    package var series: [Series]
    /// In points; a point is two pixels of the PNG unless told otherwise.
    package var width: Double
    package var height: Double

    package init(
        title: String = "", x: Axis, y: Axis, series: [Series], width: Double = 480, height: Double = 340
    ) {
        self.title = title
        xAxis = x
        yAxis = y
        self.series = series
        self.width = width
        self.height = height
    }

    /// The plot as an SVG document.
    package func svg() -> String { drawing().svg(description: title) }

    /// The plot as the bytes of a PNG file.
    ///
    /// - Throws: `PNG.Failure`.
    package func png(scale: Double = 2) throws(PNG.Failure) -> [UInt8] {
        try PNG.encode(drawing().raster(scale: scale))
    }
}
