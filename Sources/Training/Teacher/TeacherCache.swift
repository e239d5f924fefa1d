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
    /// - Parameter progress: called with the number of images that this rank has done, and shall do; may throw.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    static func make(
        _ path: String, _ origin: Origin, _ source: any FaceSource, _ embedder: Embedder,
        _ communicator: any Communicator, progress: (_ done: Int, _ count: Int) throws -> Void
    ) throws {
        let (count, dimension) = (source.count, embedder.embeddingSize)
        let head = SafetensorsHeader.encode(
            [TensorSpec(tensorName, [count, 2, dimension], .float32)], metadata: origin.metadata)
        let made = try communicator.together("teacher's cache") {
            try communicator.rank == 0
                ? RowFile.create(prefix: path + ".", rows: count, columns: 2 * dimension, head: head) : nil
        }
        let name = try communicator.broadcast(Array((made?.path ?? "").utf8), root: 0, "teacher's cache")
        do {
            let file = try communicator.together("teacher's cache") {
                try made
                    ?? RowFile.open(
                        String(decoding: name, as: UTF8.self), rows: count, columns: 2 * dimension, start: head.count)
            }
            try communicator.together("teacher's embeddings") {
                let range = embedder.share(of: count, rank: communicator.rank, ranks: communicator.size)
                try fill(file, range, source, embedder, progress)
                try file.synchronise()
            }
            try communicator.together("teacher's cache") { try made?.rename(to: path) }
        } catch {
            made?.remove()
            throw error
        }
    }

    private static func fill(
        _ file: RowFile, _ range: Range<Int>, _ source: any FaceSource, _ embedder: Embedder,
        _ progress: (_ done: Int, _ count: Int) throws -> Void
    ) throws {
        let d = embedder.embeddingSize
        let skipped = SkippedImages(isAllowed: true)
        try embedder.forEachBatch(
            range, flip: true, image: { try skipped.image($0) { try source.image(at: $0) } }
        ) { first, plain, mirrored in
            let images = plain.count / d
            var rows: [Float] = []
            rows.reserveCapacity(2 * plain.count)
            for image in 0..<images {
                rows += plain[image * d..<(image + 1) * d]
                rows += mirrored![image * d..<(image + 1) * d]
            }
            try rows.withUnsafeBufferPointer { try file.write($0, first: first) }
            try progress(first + images - range.lowerBound, range.count)
        }
    }

    /// Copies one embedding.
    func copy(record: Int, mirrored: Bool, to target: UnsafeMutablePointer<Float>) {
        let row = 2 * record + (mirrored ? 1 : 0)
        target.update(from: rows.floats.baseAddress! + row * dimension, count: dimension)
    }
}
