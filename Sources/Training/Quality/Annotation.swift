package import Collectives
package import Evaluation
package import FaceData
import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Quality priors of a labelled set (`QualityAnnotation`), worked out on all ranks.
package struct Annotation: Sendable {
    /// By image, in 0...100; nil for one that has no second image of its identity, or was left out.
    package let values: [Float?]
    /// Why images were left out, by index.
    package let skipped: [Int: String]
    package let identities: Int
    /// Identities with a single image.
    package let droppedIdentities: Int
    package let embeddingSeconds: Double
    package let roundSeconds: Double

    /// Where a job stands.
    package enum Stage: Sendable {
        /// Images embedded by this rank.
        case embedding(Int)
        /// Rounds done.
        case rounds(Int)
    }
}

extension Embedder {
    /// Annotates a labelled set.
    ///
    /// The embeddings, unit rows in fp32 by record, go into one file that all ranks write and map; the file loses its name
    /// as soon as all have it open, or, between hosts, when they are done. A rank needs memory for labels and positions (12
    /// bytes an image) and for its own share of the qualities.
    ///
    /// - Parameters:
    ///   - scratch: how the file's name begins; all hosts must see the folder.
    /// - Returns: the annotation on rank 0, nil on the others.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    package func annotate(
        _ images: ImageCollection, options: QualityAnnotation.Options, skipDamaged: Bool = false, scratch: String,
        communicator: any Communicator, progress: (Annotation.Stage) -> Void = { _ in }
    ) throws -> Annotation? {
        let labels = try communicator.together("annotation") {
            guard let labels = images.labels else {
                throw TrainingError.incompatible(
                    "\(images.location) names no identities: annotation compares images of one person with one another")
            }
            // What is wrong with the identities shall show before the work.
            _ = try QualityAnnotation(labels: labels, options: options)
            return labels
        }
        let start = monotonicSeconds()
        let skipped = SkippedImages(isAllowed: skipDamaged)
        var file = try openRows(images.count, prefix: scratch, communicator)
        let shared = communicator.topology.hosts > 1
        if !shared, communicator.rank == 0 { file.remove() }
        defer { if shared, communicator.rank == 0 { file.remove() } }
        try writeRows(images, skipped, to: file, communicator) { progress(.embedding($0)) }
        if shared { try communicator.together("file for embeddings") { try file.synchronise() } }
        let left = try skipped.gathered(communicator)
        let embedded = monotonicSeconds()

        let (annotation, rows) = try communicator.together("annotation") {
            // What other hosts have written shows when the file is opened again.
            if shared { file = try RowFile.open(file.path, rows: images.count, columns: embeddingSize) }
            return (
                try QualityAnnotation(labels: labels, excluded: Set(left.keys), options: options), try file.map()
            )
        }
        let count = annotation.records.count
        let positions =
            count * communicator.rank / communicator.size..<count * (communicator.rank + 1) / communicator.size
        let own = try withExtendedLifetime(rows) {
            try annotation.qualities(
                of: positions, rows: rows.base.assumingMemoryBound(to: Float.self), dimension: embeddingSize,
                pool: pool,
                together: { least, greatest in
                    var extremes = [-least, greatest]
                    try extremes.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .max, "separations") }
                    (least, greatest) = (-extremes[0], extremes[1])
                }, progress: { progress(.rounds($0)) })
        }
        guard let gathered = try communicator.gather(own.map { Float($0) }, "qualities") else { return nil }
        var values = [Float?](repeating: nil, count: images.count)
        for (record, value) in zip(annotation.records, gathered) { values[Int(record)] = value }
        return Annotation(
            values: values, skipped: left, identities: annotation.identities,
            droppedIdentities: annotation.droppedIdentities, embeddingSeconds: embedded - start,
            roundSeconds: monotonicSeconds() - embedded)
    }

    /// One file, made by rank 0 and open on all.
    private func openRows(_ count: Int, prefix: String, _ communicator: any Communicator) throws -> RowFile {
        let made = try communicator.together("file for embeddings") {
            try communicator.rank == 0 ? RowFile.create(prefix: prefix, rows: count, columns: embeddingSize) : nil
        }
        let path = String(
            decoding: try communicator.broadcast(Array((made?.path ?? "").utf8), root: 0, "file for embeddings"),
            as: UTF8.self)
        do {
            return try communicator.together("file for embeddings") {
                try made ?? opened(path, count, on: communicator.topology.hostName)
            }
        } catch {
            made?.remove()
            throw error
        }
    }

    private func opened(_ path: String, _ count: Int, on host: String) throws -> RowFile {
        do throws(MappedFileError) {
            return try RowFile.open(path, rows: count, columns: embeddingSize)
        } catch {
            guard error.code == ENOENT else { throw error }
            throw TrainingError.incompatible(
                "\(path), where rank 0 wants the embeddings, is not to be seen on \(host): name an output folder that all "
                    + "hosts share")
        }
    }

    /// Unit embeddings of this rank's images, to their rows. Collective.
    private func writeRows(
        _ images: ImageCollection, _ skipped: SkippedImages, to file: RowFile, _ communicator: any Communicator,
        progress: (Int) -> Void
    ) throws {
        try forEachShare(
            of: images.count, "embedding", flip: false, communicator: communicator,
            image: { try skipped.image($0, images.image) }, progress: progress
        ) { first, plain, _ in
            let unit: Embeddings
            do throws(EvaluationError) {
                unit = try Embeddings(plain, dimension: embeddingSize).normalised()
            } catch {
                guard case .nonFiniteEmbedding(let row) = error else { throw error }
                throw TrainingError.incompatible(
                    "\(images.key(first + row)): its embedding is not finite: the weights are damaged, or the image is")
            }
            try unit.values.withUnsafeBufferPointer { try file.write($0, first: first) }
        }
    }
}
