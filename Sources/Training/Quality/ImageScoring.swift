package import Collectives
package import FaceData
import Tensors

/// Qualities of many images by one estimator.
package struct ImageScores: Sendable {
    /// By image; nil for one that was left out.
    package let values: [Float?]
    /// Why images were left out, by index.
    package let skipped: [Int: String]
    /// Of all ranks together, from the first image read to the last quality gathered.
    package let seconds: Double

    package init(values: [Float?], skipped: [Int: String], seconds: Double) {
        self.values = values
        self.skipped = skipped
        self.seconds = seconds
    }
}

extension Embedder {
    /// Scores images on all ranks; a rank keeps a number per image, and no embedding.
    ///
    /// - Returns: the scores on rank 0, nil on the others.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    package func score(
        _ images: ImageCollection, by quality: EmbeddingQuality, skipDamaged: Bool = false,
        communicator: any Communicator, progress: (Int) -> Void = { _ in }
    ) throws -> ImageScores? {
        let start = monotonicSeconds()
        let skipped = SkippedImages(isAllowed: skipDamaged)
        var own: [Float] = []
        own.reserveCapacity(share(of: images.count, rank: communicator.rank, ranks: communicator.size).count)
        try forEachShare(
            of: images.count, "scoring", flip: false, communicator: communicator,
            image: { try skipped.image($0, images.image) }, progress: progress
        ) { first, embeddings, _ in
            own += try quality.qualities(of: embeddings, dimension: embeddingSize) { images.key(first + $0) }
        }
        let left = try skipped.gathered(communicator)
        guard let values = try communicator.gather(own, "qualities") else { return nil }
        return ImageScores(
            values: values.enumerated().map { left[$0.offset] == nil ? $0.element : nil }, skipped: left,
            seconds: monotonicSeconds() - start)
    }
}
