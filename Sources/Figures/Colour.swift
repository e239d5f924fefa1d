/// An opaque sRGB colour.
package struct Colour: Sendable, Equatable {
    package let red: UInt8
    package let green: UInt8
    package let blue: UInt8

    package init(_ red: UInt8, _ green: UInt8, _ blue: UInt8) {
        self.red = red
        self.green = green
        self.blue = blue
    }

    package static let white = Colour(255, 255, 255)
    package static let black = Colour(0, 0, 0)
    /// Text and axes.
    package static let ink = Colour(38, 38, 38)
    package static let grid = Colour(224, 224, 224)
    package static let faint = Colour(120, 120, 120)

    /// Colours that people with any common colour blindness tell apart (Okabe and Ito, "Color Universal Design", 2002),
    /// without the yellow that white paper swallows.
    package static let palette = [
        Colour(0, 114, 178), Colour(213, 94, 0), Colour(0, 158, 115), Colour(204, 121, 167), Colour(230, 159, 0),
        Colour(86, 180, 233), Colour(0, 0, 0),
    ]

    /// "#rrggbb".
    var hex: String {
        "#"
            + [red, green, blue].map { byte in
                let digits = String(byte, radix: 16)
                return digits.count == 1 ? "0" + digits : digits
            }.joined()
    }
}
