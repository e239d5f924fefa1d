import Artifacts
import Collectives
import FaceData
import Foundation
import Tensors

/// Embeddings that a backbone which does not learn makes of all records and of their mirror images, in a file: what a run
/// would otherwise compute again in every epoch.
///
/// The file is a safetensors file: `embeddings`, fp32, (records, 2, d), of the image and of its mirror image. Its metadata
/// say of what; a run takes no other's.
package final class TeacherCache: Sendable {
    /// What the embeddings depend on.
    struct Origin: Equatable {
        var teacher: String
        var data: String
        var preprocessing: String
        var precision: String

        /// As `__metadata__`.
        var metadata: [String: String] {
            ["teacher": teacher, "data": data, "preprocessing": preprocessing, "precision": precision]
        }

        /// Names of what differs.
        func differences(from metadata: [String: String]) -> [String] {
            self.metadata.keys.sorted().filter { self.metadata[$0] != metadata[$0] }
        }
    }

    private static let tensorName = "embeddings"

    package let path: String
    private let rows: Tensor
    private let dimension: Int

    private init(_ path: String, _ rows: Tensor) {
        self.path = path
        self.rows = rows
        dimension = rows.shape[2]
    }

    /// Opens a cache.
    ///
    /// - Returns: nil where there is none.
    /// - Throws: `ArtifactError`, also for one of another teacher, other data or another arithmetic.
    static func open(_ path: String, _ origin: Origin, records: Int, dimension: Int) throws -> TeacherCache? {
        guard FileManager.default.fileExists(atPath: path) else { return nil }
        let file = try SafetensorsFile(path)
        let differences = origin.differences(from: file.metadata)
        guard differences.isEmpty else {
            throw ArtifactError.incompatible(
                path: path,
                reason: "it holds embeddings of another \(differences.joined(separator: ", another ")); remove it, or name "
                    + "another file in objectives.ccface.teacher_cache")
        }
        let rows = try file.tensor(tensorName)
        guard rows.dtype == .float32, rows.shape == [records, 2, dimension] else {
            throw ArtifactError.incompatible(
                path: path, reason: "its embeddings are \(rows.shape), not \([records, 2, dimension])")
        }
        return TeacherCache(path, rows)
    }

    /// Computes a cache on all ranks, each its share, in a file that gets its name when it is whole.
    ///
    /// An image that cannot be read has a black one's embedding, which nobody asks for: the loader passes over it, too.
    ///
    /// - Parameters:
    ///   - limit: images that may be unreadable; more are an error.
    ///   - progress: called with the number of images that this rank has done, and shall do; may throw.
    /// - Returns: why images could not be read, by record; the same on every rank.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    static func make(
        _ path: String, _ origin: Origin, _ source: any FaceSource, _ embedder: Embedder,
        _ communicator: any Communicator, limit: Int = .max, progress: (_ done: Int, _ count: Int) throws -> Void
    ) throws -> [Int: String] {
        let (count, dimension) = (source.count, embedder.embeddingSize)
        let head = SafetensorsHeader.encode(
            [TensorSpec(tensorName, [count, 2, dimension], .float32)], metadata: origin.metadata)
        let made = try communicator.together("teacher's cache") {
            guard communicator.rank == 0 else { return RowFile?.none }
            // As long as the finished one: what a job that was killed has left would fill the disk.
            RowFile.removeAbandoned(prefix: path + ".part-")
            return try RowFile.create(prefix: path + ".part-", rows: count, columns: 2 * dimension, head: head)
        }
        let name = try communicator.broadcast(Array((made?.path ?? "").utf8), root: 0, "teacher's cache")
        do {
            let file = try communicator.together("teacher's cache") {
                try made
                    ?? RowFile.open(
                        String(decoding: name, as: UTF8.self), rows: count, columns: 2 * dimension, start: head.count)
            }
            let left = try fill(file, source, embedder, communicator, progress)
            guard left.count <= limit else {
                throw RunFailure(TrainingError.quarantineLimit(count: left.count, limit: limit))
            }
            try communicator.together("teacher's embeddings") { try file.synchronise() }
            try communicator.together("teacher's cache") { try made?.rename(to: path) }
            return left
        } catch {
            made?.remove()
            throw error
        }
    }

    private static func fill(
        _ file: RowFile, _ source: any FaceSource, _ embedder: Embedder, _ communicator: any Communicator,
        _ progress: (_ done: Int, _ count: Int) throws -> Void
    ) throws -> [Int: String] {
        let d = embedder.embeddingSize
        let range = embedder.share(of: source.count, rank: communicator.rank, ranks: communicator.size)
        let skipped = SkippedImages(isAllowed: true)
        try embedder.forEachShare(
            of: source.count, "teacher's embeddings", flip: true, communicator: communicator,
            image: { try skipped.image($0) { try source.image(at: $0) } }
        ) { first, plain, mirrored in
            let rows = interleaved(plain, mirrored!, d)
            try rows.withUnsafeBufferPointer { try file.write($0, first: first) }
            try progress(first + plain.count / d - range.lowerBound, range.count)
        }
        return try skipped.gathered(communicator)
    }

    /// (rows, 2, d) of two times (rows, d).
    private static func interleaved(_ plain: [Float], _ mirrored: [Float], _ d: Int) -> [Float] {
        var rows: [Float] = []
        rows.reserveCapacity(2 * plain.count)
        for start in stride(from: 0, to: plain.count, by: d) {
            rows += plain[start..<start + d]
            rows += mirrored[start..<start + d]
        }
        return rows
    }

    /// Records that are embedded again when a cache is taken.
    private static let samples = 16
    /// How far another machine's arithmetic may move an embedding: as a share of what tells records apart, and of its length,
    /// which is what is left where nothing tells them apart.
    private static let tolerance = (spread: 0.03, length: 0.002)

    /// Embeds a few records, spread over the data, again: `Origin` knows the data by its numbers, names and labels, and images
    /// may have been aligned anew under the same names.
    ///
    /// - Throws: `ArtifactError` where an embedding is another one; `FaceDataError`.
    func check(_ source: any FaceSource, _ embedder: Embedder) throws {
        let count = min(Self.samples, source.count)
        let records = (0..<count).map { $0 * (source.count - 1) / max(1, count - 1) }
        let skipped = SkippedImages(isAllowed: true)
        let (plain, mirrored) = try embedder.embed(0..<count, flip: true) {
            try skipped.image($0) { try source.image(at: records[$0]) }
        }
        let width = 2 * dimension
        let present = Self.interleaved(plain, mirrored!, dimension)
        let kept = records.map { UnsafeBufferPointer(rebasing: rows.floats[$0 * width..<($0 + 1) * width]) }
        var mean = [Double](repeating: 0, count: width)
        for row in kept { for i in 0..<width { mean[i] += Double(row[i]) / Double(count) } }
        let squares = kept.reduce(0.0) { $0 + Self.squaredDistance($1, mean) }
        let spread = (squares / Double(max(1, count))).squareRoot()
        let length = (squares / Double(max(1, count)) + mean.reduce(0) { $0 + $1 * $1 }).squareRoot()
        let allowed = Self.tolerance.spread * spread + Self.tolerance.length * length
        for (place, record) in records.enumerated() {
            let now = present[place * width..<(place + 1) * width].map { Double($0) }
            guard Self.squaredDistance(kept[place], now) > allowed * allowed else { continue }
            throw ArtifactError.incompatible(
                path: path,
                reason: "the teacher's embedding of \(source.key(of: record)) is another one now: the images have changed "
                    + "since it was made; remove it, or name another file in objectives.ccface.teacher_cache")
        }
    }

    private static func squaredDistance(_ a: UnsafeBufferPointer<Float>, _ b: [Double]) -> Double {
        zip(a, b).reduce(0) { $0 + (Double($1.0) - $1.1) * (Double($1.0) - $1.1) }
    }

    /// Copies one embedding.
    func copy(record: Int, mirrored: Bool, to target: UnsafeMutablePointer<Float>) {
        let row = 2 * record + (mirrored ? 1 : 0)
        target.update(from: rows.floats.baseAddress! + row * dimension, count: dimension)
    }
}
