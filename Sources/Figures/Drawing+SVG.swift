extension Drawing {
    /// The drawing as a self-contained SVG 1.1 document; text stays text.
    ///
    /// - Parameter description: what a reader who cannot see it is told.
    package func svg(description: String = "") -> String {
        var writer = SVGWriter()
        let (width, height) = (SVGWriter.number(width), SVGWriter.number(height))
        writer.lines.append(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(width)\" height=\"\(height)\""
                + " viewBox=\"0 0 \(width) \(height)\" role=\"img\""
                + " font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\">")
        if !description.isEmpty { writer.lines.append("<title>\(SVGWriter.escaped(description))</title>") }
        writer.lines.append("<rect width=\"\(width)\" height=\"\(height)\" fill=\"\(background.hex)\"/>")
        writer.write(elements)
        writer.lines.append("</svg>")
        return writer.lines.joined(separator: "\n") + "\n"
    }
}

private struct SVGWriter {
    var lines: [String] = []

    mutating func write(_ elements: [Drawing.Element]) {
        for element in elements {
            switch element {
            case .line(let points, let colour, let width, let dash):
                let pattern =
                    dash.isEmpty
                    ? "" : " stroke-dasharray=\"\(dash.map(Self.number).joined(separator: " "))\""
                lines.append(
                    "<polyline points=\"\(Self.list(points))\" fill=\"none\" stroke=\"\(colour.hex)\""
                        + " stroke-width=\"\(Self.number(width))\" stroke-linejoin=\"round\" stroke-linecap=\"round\""
                        + pattern + "/>")
            case .area(let points, let colour, let opacity):
                let seeThrough = opacity < 1 ? " fill-opacity=\"\(Self.number(opacity))\"" : ""
                lines.append(
                    "<polygon points=\"\(Self.list(points))\" fill=\"\(colour.hex)\"\(seeThrough)/>")
            case .text(let text):
                write(text)
            case .clipped(let area, let inner):
                // Named after its place: where several drawings share one HTML page, equal names mean equal areas.
                let sides = [area.x, area.y, area.width, area.height].map(Self.number)
                let name = "clip_" + sides.joined(separator: "_")
                lines.append(
                    "<clipPath id=\"\(name)\"><rect x=\"\(sides[0])\" y=\"\(sides[1])\" width=\"\(sides[2])\""
                        + " height=\"\(sides[3])\"/></clipPath>")
                lines.append("<g clip-path=\"url(#\(name))\">")
                write(inner)
                lines.append("</g>")
            }
        }
    }

    private mutating func write(_ text: Drawing.Text) {
        let (x, y) = (Self.number(text.position.x), Self.number(text.position.y))
        var attributes = "x=\"\(x)\" y=\"\(y)\" font-size=\"\(Self.number(text.size))\" fill=\"\(text.colour.hex)\""
        if text.anchor != .start { attributes += " text-anchor=\"\(text.anchor.rawValue)\"" }
        if text.bold { attributes += " font-weight=\"bold\"" }
        if text.upwards { attributes += " transform=\"rotate(-90 \(x) \(y))\"" }
        var content = Self.escaped(text.label.text)
        if !text.label.exponent.isEmpty {
            let rise = Self.number(-text.size * Label.exponentRise)
            let size = Self.number(text.size * Label.exponentScale)
            content += "<tspan dy=\"\(rise)\" font-size=\"\(size)\">\(Self.escaped(text.label.exponent))</tspan>"
        }
        lines.append("<text \(attributes)>\(content)</text>")
    }

    private static func list(_ points: [Point]) -> String {
        points.map { number($0.x) + "," + number($0.y) }.joined(separator: " ")
    }

    /// At most two decimals, none that are zero.
    static func number(_ value: Double) -> String {
        let hundredths = Int((value * 100).rounded())
        let (whole, rest) = (abs(hundredths) / 100, abs(hundredths) % 100)
        let sign = hundredths < 0 ? "-" : ""
        if rest == 0 { return "\(sign)\(whole)" }
        return rest % 10 == 0 ? "\(sign)\(whole).\(rest / 10)" : "\(sign)\(whole).\(rest < 10 ? "0" : "")\(rest)"
    }

    /// Markup escaped, and what XML 1.0 forbids replaced.
    static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "\t", "\n", "\r": result += " "
            default:
                let forbidden = scalar.value < 0x20 || scalar.value == 0xFFFE || scalar.value == 0xFFFF
                result.unicodeScalars.append(forbidden ? "\u{FFFD}" : scalar)
            }
        }
        return result
    }
}
