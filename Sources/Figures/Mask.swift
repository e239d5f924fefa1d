/// Coverage of the pixels of a rectangle by a shape, 0...1; coordinates are in pixels.
struct Mask {
    let left: Int
    let top: Int
    let width: Int
    let height: Int
    private(set) var coverage: [Float]

    /// Nil where nothing of the shape lies inside the clip.
    init?(covering lines: [[Point]], margin: Double, clip: (left: Int, top: Int, right: Int, bottom: Int)) {
        var (low, high) = (Point(.infinity, .infinity), Point(-.infinity, -.infinity))
        for point in lines.joined() where point.x.isFinite && point.y.isFinite {
            low = Point(min(low.x, point.x), min(low.y, point.y))
            high = Point(max(high.x, point.x), max(high.y, point.y))
        }
        guard low.x <= high.x else { return nil }
        // Clamped before the conversion: a point may lie far outside what Int holds.
        func pixel(_ value: Double, _ low: Int, _ high: Int) -> Int {
            Int(min(max(value, Double(low)), Double(max(low, high))))
        }
        left = pixel((low.x - margin).rounded(.down), clip.left, clip.right)
        top = pixel((low.y - margin).rounded(.down), clip.top, clip.bottom)
        width = pixel((high.x + margin).rounded(.up), clip.left, clip.right) - left
        height = pixel((high.y + margin).rounded(.up), clip.top, clip.bottom) - top
        guard width > 0, height > 0 else { return nil }
        coverage = [Float](repeating: 0, count: width * height)
    }

    /// A segment with round ends, `half` pixels to each side.
    mutating func coverSegment(_ a: Point, _ b: Point, half: Double) {
        guard a.x.isFinite, a.y.isFinite, b.x.isFinite, b.y.isFinite else { return }
        let reach = half + 1
        let rows = range(min(a.y, b.y) - reach, max(a.y, b.y) + reach, from: top, count: height)
        let (dx, dy) = (b.x - a.x, b.y - a.y)
        let length = dx * dx + dy * dy
        for row in rows {
            let y = Double(row + top) + 0.5
            // The part of the segment within reach of this row bounds the columns to look at.
            var (near, far) = (0.0, 1.0)
            if abs(dy) > 1e-9 {
                let (t0, t1) = ((y - reach - a.y) / dy, (y + reach - a.y) / dy)
                near = min(max(min(t0, t1), 0), 1)
                far = min(max(max(t0, t1), 0), 1)
            }
            let (x0, x1) = (a.x + near * dx, a.x + far * dx)
            for column in range(min(x0, x1) - reach, max(x0, x1) + reach, from: left, count: width) {
                let x = Double(column + left) + 0.5
                let t = length > 0 ? min(max(((x - a.x) * dx + (y - a.y) * dy) / length, 0), 1) : 0
                let (ex, ey) = (x - a.x - t * dx, y - a.y - t * dy)
                let cover = Float(min(1, max(0, half + 0.5 - (ex * ex + ey * ey).squareRoot())))
                let place = row * width + column
                if cover > coverage[place] { coverage[place] = cover }
            }
        }
    }

    private static let linesPerPixel = 8

    /// The inside of a closed polygon by the even-odd rule.
    mutating func coverPolygon(_ points: [Point]) {
        let share = 1 / Float(Self.linesPerPixel)
        for row in 0..<height {
            for line in 0..<Self.linesPerPixel {
                let y = Double(row + top) + (Double(line) + 0.5) / Double(Self.linesPerPixel)
                var crossings: [Double] = []
                for i in points.indices {
                    let (a, b) = (points[i], points[(i + 1) % points.count])
                    if (a.y <= y) != (b.y <= y) { crossings.append(a.x + (y - a.y) / (b.y - a.y) * (b.x - a.x)) }
                }
                crossings.sort()
                for i in stride(from: 0, to: crossings.count - 1, by: 2) {
                    coverSpan(row: row, from: crossings[i], to: crossings[i + 1], share: share)
                }
            }
        }
    }

    private mutating func coverSpan(row: Int, from start: Double, to end: Double, share: Float) {
        for column in range(start, end, from: left, count: width) {
            let x = Double(column + left)
            let covered = min(end, x + 1) - max(start, x)
            if covered > 0 { coverage[row * width + column] += Float(covered) * share }
        }
    }

    /// The rows or columns of the mask that touch low...high.
    private func range(_ low: Double, _ high: Double, from origin: Int, count: Int) -> Range<Int> {
        let first = min(max(low.rounded(.down) - Double(origin), 0), Double(count))
        let last = min(max(high.rounded(.up) - Double(origin), first), Double(count))
        return Int(first)..<Int(last)
    }
}

enum Dashes {
    /// Cuts a line into the pieces that a dash pattern draws; an empty pattern leaves it whole.
    static func cut(_ line: [Point], by pattern: [Double]) -> [[Point]] {
        guard !pattern.isEmpty, pattern.allSatisfy({ $0 > 0 }), line.count > 1 else { return [line] }
        var (pieces, piece) = ([[Point]](), [line[0]])
        var (index, left) = (0, pattern[0])
        for i in 1..<line.count {
            var from = line[i - 1]
            let to = line[i]
            var length = ((to.x - from.x) * (to.x - from.x) + (to.y - from.y) * (to.y - from.y)).squareRoot()
            guard length.isFinite else { return [line] }
            while length > left {
                let t = left / length
                from = Point(from.x + t * (to.x - from.x), from.y + t * (to.y - from.y))
                length -= left
                if index % 2 == 0 { pieces.append(piece + [from]) }
                index += 1
                left = pattern[index % pattern.count]
                piece = [from]
            }
            left -= length
            piece.append(to)
        }
        if index % 2 == 0, piece.count > 1 { pieces.append(piece) }
        return pieces
    }
}
