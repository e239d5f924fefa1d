package import Tensors

/// Where the five points of an aligned face lie: left eye, right eye, nose, left and right corner of the mouth, left and
/// right as seen.
package struct FaceTemplate: Sendable, Equatable {
    package let points: [ImagePoint]
    package let width: Int
    package let height: Int

    /// insightface's template of 112 x 112 pixels.
    package static let standard = FaceTemplate(size: 112)

    /// - Parameters:
    ///   - size: height of the face; the standard template, scaled by size/112.
    ///   - width: of the part of it that is kept around the middle; all by default.
    package init(size: Int, width: Int? = nil) {
        let width = width ?? size
        precondition(size > 0 && width > 0 && width <= size, "a face of \(width) x \(size)")
        let scale = Double(size) / 112
        let left = Double((size - width) / 2)
        points = Self.standardPoints.map { ImagePoint($0.x * scale - left, $0.y * scale) }
        self.width = width
        height = size
    }

    private static let standardPoints = [
        ImagePoint(38.2946, 51.6963), ImagePoint(73.5318, 51.5014), ImagePoint(56.0252, 71.7366),
        ImagePoint(41.5493, 92.3655), ImagePoint(70.7299, 92.2041),
    ]

    /// The similarity from a photo to the aligned face; nil where five points do not determine one.
    package func alignment(of landmarks: [ImagePoint]) -> Similarity? {
        Similarity(mapping: landmarks, to: points)
    }

    /// The face of a photo at its place in the template: bilinear, black beyond the photo.
    package func aligned(_ photo: RGBImage, by alignment: Similarity) -> RGBImage {
        photo.warped(by: alignment, width: width, height: height)
    }
}
