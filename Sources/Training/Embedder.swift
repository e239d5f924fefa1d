package import Collectives
package import Evaluation
package import FaceData
package import Layers
package import Networks
package import Tensors

/// Embeds many images with running statistics, shared out over the ranks.
package final class Embedder {
    package let network: Network
    package let preprocessing: Preprocessing
    private let execution: Execution
    let pool: ThreadPool
    private let images: Tensor
    let batch: Int

    /// - Parameters:
    ///   - batch: images per pass.
    ///   - neighbour: an execution that rests while this embedder works, and lends its memory.
    package init(
        _ network: Network, preprocessing: Preprocessing, batch: Int, precision: Precision = .fp32, pool: ThreadPool,
        within neighbour: Execution? = nil
    ) {
        self.network = network
        self.preprocessing = preprocessing
        self.batch = batch
        self.pool = pool
        execution = Execution(
            network.graph, batch: batch, purpose: .inference, precision: precision, pool: pool,
            within: neighbour)
        images = Tensor([batch, preprocessing.valueCount])
    }

    package var embeddingSize: Int { network.specification.embeddingSize }

    /// Raw embeddings of images `range`, of the images themselves and, if asked for, of their mirror images.
    ///
    /// - Parameters:
    ///   - image: called from several threads.
    ///   - progress: called with the number of images done.
    /// - Returns: (range.count x d) each, row-major.
    /// - Throws: the first error of `image` in the order of the images.
    package func embed(
        _ range: Range<Int>, flip: Bool, image: @Sendable (Int) throws -> RGBImage, progress: (Int) -> Void = { _ in }
    ) throws -> (plain: [Float], mirrored: [Float]?) {
        var plain: [Float] = []
        var mirrored: [Float] = []
        plain.reserveCapacity(range.count * embeddingSize)
        try forEachBatch(range, flip: flip, image: image, progress: progress) { _, own, flipped in
            plain += own
            if let flipped { mirrored += flipped }
        }
        return (plain, flip ? mirrored : nil)
    }

    /// As `embed`, batch by batch, with nothing kept.
    ///
    /// - Parameter body: gets the first image of the batch, and the raw embeddings.
    /// - Throws: the first error of `image` in the order of the images; errors of `body`.
    package func forEachBatch(
        _ range: Range<Int>, flip: Bool, image: @Sendable (Int) throws -> RGBImage, progress: (Int) -> Void = { _ in },
        _ body: (_ first: Int, _ plain: [Float], _ mirrored: [Float]?) throws -> Void
    ) throws {
        for start in stride(from: range.lowerBound, to: range.upperBound, by: batch) {
            let count = min(batch, range.upperBound - start)
            let decoded = try decode(start, count, image)
            let plain = run(decoded, mirror: false)
            try body(start, plain, flip ? run(decoded, mirror: true) : nil)
            progress(start + count - range.lowerBound)
        }
    }

    /// Batches of a rank between two meetings of the ranks.
    private static let batchesPerRound = 8

    /// Images 0..<count, each rank its share, as `forEachBatch`. Collective.
    ///
    /// The ranks meet after every few batches: at the end of work of hours, the fastest would wait for the slowest longer than
    /// a watchdog can tell from a rank that hangs. What one of them throws ends all in the same round.
    ///
    /// - Parameters:
    ///   - what: the work, for messages.
    ///   - image: called from several threads.
    ///   - progress: called with the number of images that this rank has done.
    ///   - body: gets the first image of a batch, and its raw embeddings, (images x d) row-major, each.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    package func forEachShare(
        of count: Int, _ what: String, flip: Bool, communicator: any Communicator,
        image: @Sendable (Int) throws -> RGBImage, progress: (Int) -> Void = { _ in },
        _ body: (_ first: Int, _ plain: [Float], _ mirrored: [Float]?) throws -> Void
    ) throws {
        let ranks = communicator.size
        let own = share(of: count, rank: communicator.rank, ranks: ranks)
        let longest = (0..<ranks).map { share(of: count, rank: $0, ranks: ranks).count }.max() ?? 0
        let length = Self.batchesPerRound * batch
        for done in stride(from: 0, to: max(1, longest), by: length) {
            let first = min(own.lowerBound + done, own.upperBound)
            try communicator.together(what) {
                try forEachBatch(
                    first..<min(first + length, own.upperBound), flip: flip, image: image,
                    progress: { progress(first - own.lowerBound + $0) }, body)
            }
        }
    }

    /// The images of 0..<count that a rank embeds: whole batches, so that an image's batch is the same on any number of
    /// ranks, and with it the last bits of its embedding.
    package func share(of count: Int, rank: Int, ranks: Int) -> Range<Int> {
        let batches = (count + batch - 1) / batch
        return min(count, batches * rank / ranks * batch)..<min(count, batches * (rank + 1) / ranks * batch)
    }

    private func decode(_ start: Int, _ count: Int, _ image: @Sendable (Int) throws -> RGBImage) throws -> [RGBImage] {
        let preprocessing = preprocessing
        nonisolated(unsafe) var results = [Result<RGBImage, any Error>?](repeating: nil, count: count)
        results.withUnsafeMutableBufferPointer { slots in
            nonisolated(unsafe) let slots = slots
            pool.forEachRange(count) { range in
                for i in range { slots[i] = Result { preprocessing.fitted(try image(start + i)) } }
            }
        }
        return try results.map { try $0!.get() }
    }

    private func run(_ decoded: [RGBImage], mirror: Bool) -> [Float] {
        let table = preprocessing.table()
        let values = preprocessing.valueCount
        let target = images.floats
        pool.forEachRange(decoded.count) { range in
            for i in range {
                preprocessing.write(
                    decoded[i], flipped: mirror, table: table,
                    to: UnsafeMutableBufferPointer(rebasing: target[i * values..<(i + 1) * values]))
            }
        }
        return Array(execution.forward(images.pointer, count: decoded.count, mode: .evaluation).floats)
    }

    /// Embeds a pair set on all ranks, scores it on rank 0.
    ///
    /// - Returns: the report on rank 0, nil on the others.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    package func verify(
        _ set: VerificationSet, flip: FlipFusion, communicator: any Communicator, progress: (Int) -> Void = { _ in }
    ) throws -> VerificationReport? {
        let usesFlip = flip != .none
        let fused = try gatherEmbeddings(
            count: set.imageCount, flip: usesFlip, communicator: communicator, image: set.image, progress: progress)
        return try communicator.together("verification of \(set.name)") {
            guard let fused else { return nil }
            let embeddings = try FusedEmbeddings(
                raw: Embeddings(fused.plain, dimension: embeddingSize),
                mirrored: fused.mirrored.map { Embeddings($0, dimension: embeddingSize) }, fusion: flip)
            let scores = try PairScores(unit: embeddings.unit, pairs: set.pairs)
            return try VerificationReport(
                scores,
                facts: VerificationFacts(dataset: set.name, flip: flip, degradation: set.degradation),
                folds: set.folds, meanNorm: embeddings.meanNorm)
        }
    }

    /// Raw embeddings of images 0..<count, each rank its block, gathered on rank 0.
    package func gatherEmbeddings(
        count: Int, flip: Bool, communicator: any Communicator, image: @Sendable (Int) throws -> RGBImage,
        progress: (Int) -> Void = { _ in }
    ) throws -> (plain: [Float], mirrored: [Float]?)? {
        var own: (plain: [Float], mirrored: [Float]) = ([], [])
        own.plain.reserveCapacity(share(of: count, rank: communicator.rank, ranks: communicator.size).count * embeddingSize)
        try forEachShare(
            of: count, "embedding", flip: flip, communicator: communicator, image: image, progress: progress
        ) { _, plain, mirrored in
            own.plain += plain
            if let mirrored { own.mirrored += mirrored }
        }
        let plain = try communicator.gather(own.plain, "embeddings")
        let mirrored = flip ? try communicator.gather(own.mirrored, "mirrored embeddings") : nil
        guard let plain else { return nil }
        return (plain, mirrored)
    }
}
