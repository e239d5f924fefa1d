package import Evaluation
import FaceData
import Recipes
package import Tensors

/// Pairs of images to verify, as indices into a list of images that are embedded once each.
package struct VerificationSet: Sendable {
    package let name: String
    package let imageCount: Int
    package let pairs: [VerificationPair]
    /// As a protocol lists them; nil for ten contiguous ones.
    package let folds: Folds?
    /// In words, e.g. "none", "16 px, second image".
    package let degradation: String
    /// What a person calls the image at an index.
    package let key: @Sendable (Int) -> String
    /// The image at an index, degraded; safe from several threads.
    package let image: @Sendable (Int) throws -> RGBImage

    package init(
        name: String, imageCount: Int, pairs: [VerificationPair], folds: Folds?, degradation: String,
        key: @escaping @Sendable (Int) -> String, image: @escaping @Sendable (Int) throws -> RGBImage
    ) {
        self.name = name
        self.imageCount = imageCount
        self.pairs = pairs
        self.folds = folds
        self.degradation = degradation
        self.key = key
        self.image = image
    }
}
