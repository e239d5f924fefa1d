package import FaceData
import Tensors

/// How long degrading takes, decoding left out.
package enum DegradationBenchmark {
    /// On the images of a source, on one thread.
    ///
    /// - Returns: mean seconds per image.
    /// - Throws: `FaceDataError` where an image cannot be read.
    package static func seconds(_ recipe: DegradationRecipe, on source: any FaceSource) throws -> Double {
        let preprocessing = Preprocessing.arcFace
        let count = min(64, source.count)
        let faces = try (0..<count).map { preprocessing.fitted(try source.image(at: $0 * source.count / count)) }
        let scratch = ImageScratch()
        var images = 0
        func round(_ number: Int) {
            for (index, face) in faces.enumerated() {
                let context = ViewContext(seed: 1, record: index, epoch: number, view: 0)
                var random = context.random(.degradation)
                _ = recipe.apply(to: face, &random, scratch: scratch)
                images += 1
            }
        }
        // The first rounds make the tables.
        for number in 0..<4 { round(number) }
        images = 0
        let start = monotonicSeconds()
        var number = 4
        while monotonicSeconds() - start < 2 {
            round(number)
            number += 1
        }
        let seconds = monotonicSeconds() - start
        return seconds / Double(images)
    }
}
