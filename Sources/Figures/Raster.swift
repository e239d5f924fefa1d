package import Tensors

/// Pixels that lines, areas and text are drawn on with anti-aliasing.
///
/// A line's coverage falls from 1 to 0 over one pixel around its edge, by the distance to the nearest of its segments;
/// an area's is measured on eight lines per pixel, exactly along each.
package struct Raster: Sendable {
    package private(set) var image: RGBImage
    /// Pixels per point.
    package let scale: Double
    private var clip: (left: Int, top: Int, right: Int, bottom: Int)

    package init(width: Double, height: Double, scale: Double = 2, background: Colour = .white) {
        precondition(width > 0 && height > 0 && scale > 0, "raster of \(width) x \(height) at \(scale)")
        image = RGBImage(
            width: max(1, Int((width * scale).rounded())), height: max(1, Int((height * scale).rounded())),
            fill: (background.red, background.green, background.blue))
        self.scale = scale
        clip = (0, 0, image.width, image.height)
    }

    /// Draws what `body` draws, inside the rectangle only.
    mutating func clipped(to area: Rectangle, _ body: (inout Raster) -> Void) {
        let outer = clip
        clip = (
            max(clip.left, Int((area.x * scale).rounded())), max(clip.top, Int((area.y * scale).rounded())),
            min(clip.right, Int((area.right * scale).rounded())),
            min(clip.bottom, Int((area.bottom * scale).rounded()))
        )
        body(&self)
        clip = outer
    }

    /// Copies an image with its upper left corner at a place in points, each pixel enlarged to `pixels` squared.
    package mutating func place(_ picture: RGBImage, at corner: Point, pixels: Int = 1) {
        let (left, top) = (Int((corner.x * scale).rounded()), Int((corner.y * scale).rounded()))
        for y in max(top, clip.top)..<max(top, clip.top, min(top + picture.height * pixels, clip.bottom)) {
            for x in max(left, clip.left)..<max(left, clip.left, min(left + picture.width * pixels, clip.right)) {
                let source = 3 * ((y - top) / pixels * picture.width + (x - left) / pixels)
                let target = 3 * (y * image.width + x)
                for channel in 0..<3 { image.pixels[target + channel] = picture.pixels[source + channel] }
            }
        }
    }

    /// Draws lines of one colour as one shape, so that where they cross nothing is drawn twice.
    mutating func stroke(_ lines: [[Point]], colour: Colour, width: Double) {
        let pixels = lines.map { line in line.map { Point($0.x * scale, $0.y * scale) } }
        let half = max(width * scale, 1) / 2
        guard var mask = Mask(covering: pixels, margin: half + 1, clip: clip) else { return }
        for line in pixels {
            if line.count == 1 { mask.coverSegment(line[0], line[0], half: half) }
            for i in 1..<max(1, line.count) { mask.coverSegment(line[i - 1], line[i], half: half) }
        }
        blend(mask, colour: colour, opacity: 1)
    }

    /// Fills a polygon, by the even-odd rule where it crosses itself.
    mutating func fill(_ polygon: [Point], colour: Colour, opacity: Double) {
        let pixels = polygon.map { Point($0.x * scale, $0.y * scale) }
        guard pixels.count > 2, var mask = Mask(covering: [pixels], margin: 1, clip: clip) else { return }
        mask.coverPolygon(pixels)
        blend(mask, colour: colour, opacity: opacity)
    }

    package mutating func draw(_ text: Drawing.Text) {
        let label = text.label
        let total = StrokeFont.width(label, size: text.size, bold: text.bold)
        let start: Double =
            switch text.anchor {
            case .start: 0
            case .middle: -total / 2
            case .end: -total
            }
        func run(_ string: String, size: Double, from x: Double, rise: Double) -> [[Point]] {
            StrokeFont.strokes(string, size: size, bold: text.bold).map { stroke in
                stroke.map { point in
                    let (along, across) = (x + point.x, point.y - rise)
                    return text.upwards
                        ? Point(text.position.x + across, text.position.y - along)
                        : Point(text.position.x + along, text.position.y + across)
                }
            }
        }
        let units = text.bold ? StrokeFont.boldStrokeUnits : StrokeFont.strokeUnits
        let width = units * StrokeFont.unitsPerSize * text.size
        let base = run(label.text, size: text.size, from: start, rise: 0)
        stroke(base, colour: text.colour, width: width)
        if !label.exponent.isEmpty {
            let raised = run(
                label.exponent, size: text.size * Label.exponentScale,
                from: start + StrokeFont.width(label.text, size: text.size, bold: text.bold),
                rise: text.size * Label.exponentRise)
            stroke(raised, colour: text.colour, width: width * 0.85)
        }
    }

    private mutating func blend(_ mask: Mask, colour: Colour, opacity: Double) {
        let channels = [Float(colour.red), Float(colour.green), Float(colour.blue)]
        for y in 0..<mask.height {
            for x in 0..<mask.width {
                let cover = min(1, mask.coverage[y * mask.width + x]) * Float(opacity)
                guard cover > 0 else { continue }
                let place = 3 * ((y + mask.top) * image.width + x + mask.left)
                for channel in 0..<3 {
                    let below = Float(image.pixels[place + channel])
                    image.pixels[place + channel] = UInt8((below + (channels[channel] - below) * cover).rounded())
                }
            }
        }
    }
}

extension Drawing {
    /// The drawing as pixels, `scale` per point.
    package func raster(scale: Double = 2) -> RGBImage {
        var raster = Raster(width: width, height: height, scale: scale, background: background)
        Self.draw(elements, on: &raster)
        return raster.image
    }

    private static func draw(_ elements: [Element], on raster: inout Raster) {
        for element in elements {
            switch element {
            case .line(let points, let colour, let width, let dash):
                raster.stroke(Dashes.cut(points, by: dash), colour: colour, width: width)
            case .area(let points, let colour, let opacity):
                raster.fill(points, colour: colour, opacity: opacity)
            case .text(let text):
                raster.draw(text)
            case .clipped(let area, let inner):
                raster.clipped(to: area) { draw(inner, on: &$0) }
            }
        }
    }
}
