package import Collectives
package import Evaluation
package import FaceData
package import Tensors

/// One list of pairs at several resolutions. An image that looks the same at several of them, because only one image of a
/// pair is reduced, is embedded once.
package struct ResolutionSweep: Sendable {
    /// The size of an aligned face: images are left as they are.
    package static let whole = 112

    /// The list at one resolution.
    package struct Entry: Sendable {
        package let size: Int
        /// `lfw@16`.
        package let name: String
        /// In words, e.g. "none", "16 px, second image".
        package let degradation: String
        /// Images of the sweep.
        package let pairs: [VerificationPair]
    }

    /// What the list is called.
    package let name: String
    package let folds: Folds?
    /// In the order in which the sizes were given.
    package let entries: [Entry]
    package let imageCount: Int
    /// The image at an index, reduced if that is its turn; safe from several threads.
    package let image: @Sendable (Int) throws -> RGBImage

    /// An image at a size.
    private struct Appearance: Hashable, Sendable {
        let image: Int
        /// 0 for the image as it is.
        let size: Int
    }

    /// - Parameters:
    ///   - base: the list with its images as they are.
    ///   - sizes: in pixels, 1 to 112; 112 leaves images as they are, whatever their size is.
    ///   - kernels: area averaging and bicubic where nil, as `PairVariant.reduced`.
    package init(
        _ base: VerificationSet, sizes: [Int], sides: PairVariant.Sides, kernels: PairVariant.Kernels? = nil
    ) {
        precondition(sizes.allSatisfy { (1...Self.whole).contains($0) }, "sizes \(sizes)")
        var numbers: [Appearance: Int] = [:]
        var appearances: [Appearance] = []
        func number(_ image: Int, _ size: Int, isSecond: Bool) -> Int {
            let isReduced = size != Self.whole && sides.includes(second: isSecond)
            let appearance = Appearance(image: image, size: isReduced ? size : 0)
            if let known = numbers[appearance] { return known }
            numbers[appearance] = appearances.count
            appearances.append(appearance)
            return appearances.count - 1
        }
        var entries: [Entry] = []
        for size in sizes {
            let variant: PairVariant = size == Self.whole ? .original : .reduced(side: size, sides, kernels: kernels)
            let pairs = base.pairs.map { pair in
                VerificationPair(
                    number(pair.first, size, isSecond: false), number(pair.second, size, isSecond: true),
                    same: pair.same)
            }
            entries.append(
                Entry(size: size, name: "\(base.name)@\(size)", degradation: variant.words, pairs: pairs))
        }
        name = base.name
        folds = base.folds
        self.entries = entries
        imageCount = appearances.count
        let order = appearances
        let original = base.image
        image = { index in
            let appearance = order[index]
            let image = try original(appearance.image)
            if appearance.size == 0 { return image }
            return PairVariant.reduction(to: appearance.size, kernels).apply(to: image)
        }
    }

    /// The images that an entry compares, ascending, and its pairs as indices of these.
    func compacted(_ entry: Entry) -> (images: [Int], pairs: [VerificationPair]) {
        var places = [Int](repeating: -1, count: imageCount)
        for pair in entry.pairs {
            places[pair.first] = 0
            places[pair.second] = 0
        }
        let images = places.indices.filter { places[$0] == 0 }
        for (place, image) in images.enumerated() { places[image] = place }
        return (
            images, entry.pairs.map { VerificationPair(places[$0.first], places[$0.second], same: $0.same) }
        )
    }
}

extension Embedder {
    /// Embeds a list at all its resolutions on all ranks, scores it on rank 0.
    ///
    /// - Returns: a report for each resolution on rank 0, nil on the others.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    package func verify(
        _ sweep: ResolutionSweep, flip: FlipFusion, communicator: any Communicator,
        progress: (Int) -> Void = { _ in }
    ) throws -> [VerificationReport]? {
        let gathered = try gatherEmbeddings(
            count: sweep.imageCount, flip: flip != .none, communicator: communicator, image: sweep.image,
            progress: progress)
        return try communicator.together("verification of \(sweep.name)") {
            guard let gathered else { return nil }
            return try sweep.entries.map { entry in
                let (images, pairs) = sweep.compacted(entry)
                let fused = try FusedEmbeddings(
                    raw: rows(images, of: gathered.plain),
                    mirrored: gathered.mirrored.map { rows(images, of: $0) }, fusion: flip)
                return try VerificationReport(
                    PairScores(unit: fused.unit, pairs: pairs),
                    facts: VerificationFacts(dataset: entry.name, flip: flip, degradation: entry.degradation),
                    folds: sweep.folds, meanNorm: fused.meanNorm)
            }
        }
    }

    private func rows(_ images: [Int], of values: [Float]) -> Embeddings {
        let width = embeddingSize
        var kept: [Float] = []
        kept.reserveCapacity(images.count * width)
        for image in images { kept += values[image * width..<(image + 1) * width] }
        return Embeddings(kept, dimension: width)
    }
}
