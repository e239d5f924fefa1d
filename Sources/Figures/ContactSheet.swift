package import Tensors

/// Images in a grid with captions: what a batch, a degradation or a set of pairs looks like.
package struct ContactSheet: Sendable {
    package struct Item: Sendable {
        package let image: RGBImage
        /// Lines under the image; each is shortened to the image's width.
        package let caption: [String]

        package init(_ image: RGBImage, caption: [String] = []) {
            self.image = image
            self.caption = caption
        }
    }

    package let items: [Item]
    package let columns: Int
    package var title: String
    /// At the left of each row, if any.
    package var rowLabels: [String]
    package var background: Colour
    /// Each image pixel becomes a square of this many.
    package var enlargement: Int
    /// Between images, in pixels.
    package var gap: Int

    /// - Parameter columns: as many as make the sheet about square where nil.
    package init(
        _ items: [Item], columns: Int? = nil, title: String = "", rowLabels: [String] = [],
        background: Colour = .white, enlargement: Int = 1, gap: Int = 8
    ) {
        precondition(!items.isEmpty && enlargement > 0 && gap >= 0, "contact sheet of \(items.count) images")
        precondition((columns ?? 1) > 0, "contact sheet of \(columns ?? 0) columns")
        self.items = items
        self.columns = min(items.count, columns ?? Int(Double(items.count).squareRoot().rounded(.up)))
        self.title = title
        self.rowLabels = rowLabels
        self.background = background
        self.enlargement = enlargement
        self.gap = gap
    }

    package var rows: Int { (items.count + columns - 1) / columns }

    static let captionSize = 14.0
    static let captionRow = 18
    private static let titleSize = 20.0

    /// The room for one image: the largest of them.
    private var cell: (width: Int, height: Int) {
        (
            (items.map(\.image.width).max() ?? 1) * enlargement, (items.map(\.image.height).max() ?? 1) * enlargement
        )
    }

    private var captionHeight: Int {
        let lines = items.map(\.caption.count).max() ?? 0
        return lines == 0 ? 0 : lines * Self.captionRow + 4
    }
    private var titleHeight: Int { title.isEmpty ? 0 : 34 }
    private var labelWidth: Int {
        let widest = rowLabels.map { StrokeFont.width($0, size: Self.captionSize) }.max() ?? 0
        return rowLabels.isEmpty ? 0 : Int(widest.rounded(.up)) + gap
    }

    /// Where the image of an item lies on the sheet, in pixels; images smaller than their cell are centred in it.
    package func frame(of index: Int) -> Rectangle {
        let (width, height) = cell
        let image = items[index].image
        let left = gap + labelWidth + index % columns * (width + gap)
        let top = gap + titleHeight + index / columns * (height + captionHeight + gap)
        return Rectangle(
            Double(left + (width - image.width * enlargement) / 2),
            Double(top + (height - image.height * enlargement) / 2), Double(image.width * enlargement),
            Double(image.height * enlargement))
    }

    /// The sheet as pixels.
    package func image() -> RGBImage {
        let (width, height) = cell
        let grid = columns * (width + gap) + gap + labelWidth
        let titleWidth = Int(StrokeFont.width(title, size: Self.titleSize, bold: true).rounded(.up)) + 2 * gap
        var raster = Raster(
            width: Double(max(grid, title.isEmpty ? 0 : titleWidth)),
            height: Double(gap + titleHeight + rows * (height + captionHeight + gap)), scale: 1,
            background: background)
        let ink: Colour = background.isDark ? .white : .ink
        if !title.isEmpty {
            raster.draw(
                Drawing.Text(
                    Label(title), at: Point(Double(gap), Double(gap) + Self.titleSize),
                    size: Self.titleSize, colour: ink, bold: true))
        }
        for (row, label) in rowLabels.prefix(rows).enumerated() {
            let middle = Double(gap + titleHeight + row * (height + captionHeight + gap)) + Double(height) / 2
            raster.draw(
                Drawing.Text(
                    Label(label), at: Point(Double(gap), middle + 0.36 * Self.captionSize),
                    size: Self.captionSize, colour: ink))
        }
        for (index, item) in items.enumerated() {
            let frame = frame(of: index)
            raster.place(item.image, at: Point(frame.x, frame.y), pixels: enlargement)
            let cellTop = gap + titleHeight + index / columns * (height + captionHeight + gap)
            for (line, text) in item.caption.enumerated() {
                raster.draw(
                    Drawing.Text(
                        Label(Self.shortened(text, to: Double(width))),
                        at: Point(
                            frame.x + frame.width / 2,
                            Double(cellTop + height + line * Self.captionRow) + Self.captionSize + 2),
                        size: Self.captionSize, anchor: .middle, colour: ink))
            }
        }
        return raster.image
    }

    /// The sheet as the bytes of a PNG file.
    ///
    /// - Throws: `PNG.Failure`.
    package func png() throws(PNG.Failure) -> [UInt8] { try PNG.encode(image()) }

    /// Text that fits into `width` pixels, ending in "…" where it was cut.
    package static func shortened(_ text: String, to width: Double) -> String {
        guard StrokeFont.width(text, size: captionSize) > width else { return text }
        var kept = text
        while !kept.isEmpty, StrokeFont.width(kept + "…", size: captionSize) > width { kept.removeLast() }
        return kept + "…"
    }
}

extension Colour {
    var isDark: Bool { 299 * Int(red) + 587 * Int(green) + 114 * Int(blue) < 128_000 }
}
