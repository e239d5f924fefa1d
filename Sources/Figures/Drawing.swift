/// A place in a drawing, in points from the upper left corner; y grows downwards.
package struct Point: Sendable, Equatable {
    package var x: Double
    package var y: Double

    package init(_ x: Double, _ y: Double) {
        self.x = x
        self.y = y
    }
}

/// An upright rectangle in points.
package struct Rectangle: Sendable, Equatable {
    package var x: Double
    package var y: Double
    package var width: Double
    package var height: Double

    package init(_ x: Double, _ y: Double, _ width: Double, _ height: Double) {
        self.x = x
        self.y = y
        self.width = width
        self.height = height
    }

    package var right: Double { x + width }
    package var bottom: Double { y + height }

    func contains(_ point: Point) -> Bool {
        point.x >= x && point.x <= right && point.y >= y && point.y <= bottom
    }
}

/// A label: plain text followed by an exponent where there is one, as in 10 to the -3.
package struct Label: Sendable, Equatable {
    package let text: String
    package let exponent: String

    package init(_ text: String, exponent: String = "") {
        self.text = text
        self.exponent = exponent
    }

    /// The exponent's size relative to the text's, and its rise in sizes of the text.
    static let exponentScale = 0.72
    static let exponentRise = 0.38
}

/// What a figure is made of, before it is written as SVG or drawn as pixels. Later elements cover earlier ones.
package struct Drawing: Sendable, Equatable {
    package enum Anchor: String, Sendable {
        case start, middle, end
    }

    package struct Text: Sendable, Equatable {
        package var label: Label
        /// On the baseline.
        package var position: Point
        /// Nominal size in points (capitals are 0.72 of it).
        package var size: Double
        package var anchor: Anchor
        package var colour: Colour = .ink
        package var bold = false
        /// Turned by 90° to read upwards.
        package var upwards = false

        package init(
            _ label: Label, at position: Point, size: Double, anchor: Anchor = .start, colour: Colour = .ink,
            bold: Bool = false, upwards: Bool = false
        ) {
            self.label = label
            self.position = position
            self.size = size
            self.anchor = anchor
            self.colour = colour
            self.bold = bold
            self.upwards = upwards
        }
    }

    package enum Element: Sendable, Equatable {
        /// Round joins and caps; `dash` alternates lengths drawn and left out.
        case line([Point], colour: Colour, width: Double, dash: [Double])
        case area([Point], colour: Colour, opacity: Double)
        case text(Text)
        /// What lies inside the rectangle.
        case clipped(Rectangle, [Element])
    }

    package let width: Double
    package let height: Double
    package var background = Colour.white
    package var elements: [Element] = []

    package init(width: Double, height: Double) {
        precondition(width > 0 && height > 0, "drawing of \(width) x \(height)")
        self.width = width
        self.height = height
    }
}
