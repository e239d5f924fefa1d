#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// The letters of figures drawn as pixels: a font of our own made of strokes, so that no font file is needed. It draws
/// ASCII and a few signs of formulas; anything else is an empty box.
enum StrokeFont {
    struct Glyph: Sendable {
        /// In units of the design grid.
        let advance: Double
        /// Strokes on the grid; y grows upwards from the baseline.
        let strokes: [[Point]]
    }

    /// The design grid: capitals are 14 units high, small letters 10; capitals are 0.716 of the nominal size.
    static let unitsPerSize = 0.716 / 14
    static let strokeUnits = 1.5
    static let boldStrokeUnits = 2.3

    static let glyphs: [Character: Glyph] = designs.mapValues { design in
        Glyph(advance: design.advance, strokes: parse(design.path))
    }

    static let missing = Glyph(advance: 11, strokes: parse("m 2,0 2,14 9,14 9,0 2,0"))

    /// The width of text in points.
    static func width(_ text: String, size: Double, bold: Bool = false) -> Double {
        let units = text.reduce(0.0) { $0 + (glyphs[$1] ?? missing).advance }
        let spread = bold ? Double(text.count) * boldSpread : 0
        return (units + spread) * unitsPerSize * size
    }

    static func width(_ label: Label, size: Double, bold: Bool = false) -> Double {
        width(label.text, size: size, bold: bold)
            + width(label.exponent, size: size * Label.exponentScale, bold: bold)
    }

    /// Bold strokes need more room between letters.
    private static let boldSpread = 0.9

    /// The strokes of text that starts at the origin on the baseline, in points, y downwards.
    static func strokes(_ text: String, size: Double, bold: Bool = false) -> [[Point]] {
        let scale = unitsPerSize * size
        var (pen, result) = (0.0, [[Point]]())
        for character in text {
            let glyph = glyphs[character] ?? missing
            for stroke in glyph.strokes {
                result.append(stroke.map { Point((pen + $0.x) * scale, -$0.y * scale) })
            }
            pen += glyph.advance + (bold ? boldSpread : 0)
        }
        return result
    }

    /// Reads a path: `m` lifts the pen; `x,y` draws to a point; `a cx,cy,rx,ry,from,to` draws an arc of an ellipse,
    /// angles in degrees, anticlockwise from the right.
    private static func parse(_ path: String) -> [[Point]] {
        var (strokes, current): ([[Point]], [Point]) = ([], [])
        var arc = false
        for token in path.split(separator: " ") {
            if token == "m" {
                if !current.isEmpty { strokes.append(current) }
                current = []
            } else if token == "a" {
                arc = true
            } else {
                let numbers = token.split(separator: ",").compactMap { Double($0) }
                precondition(numbers.count == (arc ? 6 : 2), "glyph path \(path) at \(token)")
                if arc {
                    current += ellipse(numbers)
                } else {
                    current.append(Point(numbers[0], numbers[1]))
                }
                arc = false
            }
        }
        if !current.isEmpty { strokes.append(current) }
        return strokes
    }

    private static func ellipse(_ numbers: [Double]) -> [Point] {
        let (from, to) = (numbers[4] * Double.pi / 180, numbers[5] * Double.pi / 180)
        let steps = max(4, Int((abs(to - from) / 0.2).rounded(.up)))
        return (0...steps).map { step in
            let angle = from + (to - from) * Double(step) / Double(steps)
            return Point(numbers[0] + numbers[2] * cos(angle), numbers[1] + numbers[3] * sin(angle))
        }
    }
}
