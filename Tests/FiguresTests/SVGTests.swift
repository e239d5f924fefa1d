import Figures
import Foundation
import Testing

#if canImport(FoundationXML)
    import FoundationXML
#endif

@Suite struct SVGTests {
    private func small() -> Plot {
        Plot(
            title: "a < b & c", x: Plot.Axis("x", range: 0...2), y: Plot.Axis("y", range: 0...1),
            series: [
                Plot.Series("one", [Point(0, 0), Point(1, 1), Point(2, 0.5)]),
                Plot.Series("two", [Point(0, 0.25), Point(1, .nan), Point(2, 0.25)], dash: [3, 2]),
            ], width: 200, height: 150)
    }

    @Test func drawingIsWrittenElementByElement() {
        var drawing = Drawing(width: 40, height: 20.5)
        drawing.elements = [
            .clipped(
                Rectangle(1, 2, 30.126, 10),
                [.line([Point(1, 2), Point(3.456, -4)], colour: Colour(0, 114, 178), width: 1.5, dash: [4, 2])]),
            .area([Point(0, 0), Point(5, 0), Point(5, 5)], colour: .black, opacity: 0.5),
            .text(
                Drawing.Text(
                    Label("10", exponent: "\u{2212}3"), at: Point(7, 8), size: 10, anchor: .end, bold: true)),
            .text(Drawing.Text(Label("a\u{1}<\"b\">"), at: Point(2, 3), size: 9, upwards: true)),
        ]
        let golden = """
            <svg xmlns="http://www.w3.org/2000/svg" width="40" height="20.5" viewBox="0 0 40 20.5" role="img" \
            font-family="Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif">
            <title>t &amp; u</title>
            <rect width="40" height="20.5" fill="#ffffff"/>
            <clipPath id="clip_1_2_30.13_10"><rect x="1" y="2" width="30.13" height="10"/></clipPath>
            <g clip-path="url(#clip_1_2_30.13_10)">
            <polyline points="1,2 3.46,-4" fill="none" stroke="#0072b2" stroke-width="1.5" stroke-linejoin="round" \
            stroke-linecap="round" stroke-dasharray="4 2"/>
            </g>
            <polygon points="0,0 5,0 5,5" fill="#000000" fill-opacity="0.5"/>
            <text x="7" y="8" font-size="10" fill="#262626" text-anchor="end" font-weight="bold">10\
            <tspan dy="-3.8" font-size="7.2">\u{2212}3</tspan></text>
            <text x="2" y="3" font-size="9" fill="#262626" transform="rotate(-90 2 3)">a\u{FFFD}&lt;&quot;b&quot;&gt;\
            </text>
            </svg>

            """
        #expect(drawing.svg(description: "t & u") == golden)
    }

    @Test func plotIsWellFormed() throws {
        let svg = small().svg()
        let parser = XMLParser(data: Data(svg.utf8))
        #expect(parser.parse(), "\(String(describing: parser.parserError))")
        #expect(svg.contains("a &lt; b &amp; c"))
        // The second series is broken by its missing value into two lone points, so it makes two lines.
        #expect(svg.components(separatedBy: "stroke-dasharray=\"3 2\"").count == 4)
    }

    @Test func sameFigureSameBytes() {
        #expect(small().svg() == small().svg())
        #expect(small().drawing().raster() == small().drawing().raster())
    }
}
