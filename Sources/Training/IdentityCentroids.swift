package import Collectives
package import Evaluation
package import FaceData
import Tensors

/// The mean direction of each identity of a data set, as a network sees it.
package struct IdentityCentroids: Sendable {
    /// One row per identity, of unit length; zeros for an identity without an image that could be read.
    package let directions: Embeddings
    /// Images that went into each row.
    package let images: [Int]
    /// Images that could not be read.
    package let unreadable: Int

    /// Embeds up to `imagesPerIdentity` images of each identity, spread evenly over its images, with their mirror images,
    /// shared out over the ranks. A row is the normalised sum of normalised embeddings, each the sum of those of image and
    /// mirror image.
    ///
    /// - Parameters:
    ///   - imagesPerIdentity: nil for all of them.
    ///   - progress: called with the number of images that this rank has done, and that it has to do.
    /// - Returns: the same on every rank, up to the rounding of sums over another number of ranks.
    /// - Throws: `RunFailure` when the disk fails, the same on every rank; `EvaluationError.nonFiniteEmbedding`;
    ///   `CollectiveError`.
    package init(
        _ source: any FaceSource, _ embedder: Embedder, imagesPerIdentity: Int?, communicator: any Communicator,
        progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
    ) throws {
        let chosen = Self.chosen(source, imagesPerIdentity)
        let (rank, size) = (communicator.rank, communicator.size)
        let own = chosen.count * rank / size..<chosen.count * (rank + 1) / size
        let d = embedder.embeddingSize
        var sums = [Float](repeating: 0, count: source.classCount * d)
        var counts = [Int64](repeating: 0, count: source.classCount + 1)
        try communicator.together("centroids") {
            // Blocks, so that the embeddings themselves never fill the memory.
            for start in stride(from: own.lowerBound, to: own.upperBound, by: 2048) {
                let block = Array(chosen[start..<min(start + 2048, own.upperBound)])
                let (embeddings, isRead) = try Self.embed(block, source, embedder)
                for (place, record) in block.enumerated() {
                    let label = source.label(of: record)
                    guard isRead[place] else {
                        counts[source.classCount] += 1
                        continue
                    }
                    counts[label] += 1
                    for i in 0..<d { sums[label * d + i] += embeddings.values[place * d + i] }
                }
                progress(min(start + 2048, own.upperBound) - own.lowerBound, own.count)
            }
        }
        try sums.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "centroids") }
        try counts.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "images of centroids") }
        unreadable = Int(counts.removeLast())
        images = counts.map { Int($0) }
        directions = try Embeddings(sums, dimension: d).normalised()
    }

    /// Records, those of an identity together.
    private static func chosen(_ source: any FaceSource, _ most: Int?) -> [Int] {
        let table = IdentityTable(source)
        var chosen: [Int] = []
        for label in 0..<source.classCount {
            let records = table.records(of: label)
            let count = min(records.count, most ?? records.count)
            for i in 0..<count { chosen.append(Int(records[records.startIndex + i * records.count / count])) }
        }
        return chosen
    }

    private static func embed(
        _ records: [Int], _ source: any FaceSource, _ embedder: Embedder
    ) throws -> (unit: Embeddings, isRead: [Bool]) {
        let marks = ReadMarks(count: records.count)
        let blank = RGBImage(width: embedder.preprocessing.faceWidth, height: embedder.preprocessing.faceHeight)
        let raw = try embedder.embed(0..<records.count, flip: true) { index in
            do throws(FaceDataError) {
                return try source.image(at: records[index])
            } catch {
                // A disk that fails is no damage of a record.
                if error.kind == .cannotRead { throw error }
                marks.fail(index)
                return blank
            }
        }
        let fused = try FusedEmbeddings(
            raw: Embeddings(raw.plain, dimension: embedder.embeddingSize),
            mirrored: raw.mirrored.map { Embeddings($0, dimension: embedder.embeddingSize) })
        return (fused.unit, records.indices.map { marks.isRead($0) })
    }
}

/// Which images could be read; each thread marks its own.
private final class ReadMarks: @unchecked Sendable {
    private let failed: UnsafeMutableBufferPointer<Bool>

    init(count: Int) {
        failed = .allocate(capacity: count)
        failed.initialize(repeating: false)
    }

    deinit { failed.deallocate() }

    func fail(_ index: Int) { failed[index] = true }
    func isRead(_ index: Int) -> Bool { !failed[index] }
}
