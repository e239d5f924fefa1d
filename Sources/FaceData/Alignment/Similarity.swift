#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

/// A place in an image, in pixels: the centre of the first pixel is (0, 0).
package struct ImagePoint: Sendable, Equatable {
    package var x: Double
    package var y: Double

    package init(_ x: Double, _ y: Double) {
        self.x = x
        self.y = y
    }
}

/// Rotation, uniform scale and shift: (x, y) becomes (a·x - b·y + shift.x, b·x + a·y + shift.y). It never mirrors.
package struct Similarity: Sendable, Equatable {
    package let a: Double
    package let b: Double
    package let shift: ImagePoint

    package init(a: Double, b: Double, shift: ImagePoint) {
        self.a = a
        self.b = b
        self.shift = shift
    }

    /// The rotation by an angle in degrees, counter-clockwise as seen, around a point.
    package init(degrees: Double, around centre: ImagePoint) {
        let (cosine, sine) = (cos(degrees * .pi / 180), sin(degrees * .pi / 180))
        self.init(
            a: cosine, b: -sine,
            shift: ImagePoint(
                centre.x - cosine * centre.x - sine * centre.y, centre.y + sine * centre.x - cosine * centre.y))
    }

    /// The similarity that brings `points` closest to `targets` in the sense of least squares (Umeyama, "Least-squares
    /// estimation of transformation parameters between two point patterns", TPAMI 1991, eq. 40-42, in the plane).
    ///
    /// With both sets as complex numbers around their means, the best a + bi is Σ conj(p)·q / Σ |p|²; that is Umeyama's
    /// solution with its reflections left out.
    /// - Returns: nil when the points, or their images, are one point, or a coordinate is no finite number.
    package init?(mapping points: [ImagePoint], to targets: [ImagePoint]) {
        precondition(points.count == targets.count, "\(points.count) points for \(targets.count) targets")
        guard points.count > 1, (points + targets).allSatisfy({ $0.x.isFinite && $0.y.isFinite }) else { return nil }
        let (from, to) = (Self.mean(points), Self.mean(targets))
        var (real, imaginary, spread) = (0.0, 0.0, 0.0)
        for (point, target) in zip(points, targets) {
            let (px, py) = (point.x - from.x, point.y - from.y)
            let (qx, qy) = (target.x - to.x, target.y - to.y)
            real += px * qx + py * qy
            imaginary += px * qy - py * qx
            spread += px * px + py * py
        }
        // Spread far below a pixel is no face, and the inverse would be no number.
        guard spread > 1e-6, spread.isFinite else { return nil }
        let (a, b) = (real / spread, imaginary / spread)
        guard a * a + b * b > 1e-12 else { return nil }
        self.init(a: a, b: b, shift: ImagePoint(to.x - a * from.x + b * from.y, to.y - b * from.x - a * from.y))
    }

    package func callAsFunction(_ point: ImagePoint) -> ImagePoint {
        ImagePoint(a * point.x - b * point.y + shift.x, b * point.x + a * point.y + shift.y)
    }

    package var scale: Double { (a * a + b * b).squareRoot() }

    package var inverse: Similarity {
        let norm = a * a + b * b
        let (c, d) = (a / norm, -b / norm)
        return Similarity(
            a: c, b: d, shift: ImagePoint(-(c * shift.x - d * shift.y), -(d * shift.x + c * shift.y)))
    }

    private static func mean(_ points: [ImagePoint]) -> ImagePoint {
        let count = Double(points.count)
        return ImagePoint(points.reduce(0) { $0 + $1.x } / count, points.reduce(0) { $0 + $1.y } / count)
    }
}
