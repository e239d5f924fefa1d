package import Collectives
package import Evaluation
package import FaceData
import Tensors

extension Embedder {
    /// Searches the probes of a set in its gallery: embeds on all ranks, compares on rank 0.
    ///
    /// - Parameters:
    ///   - ranks: what rates are given for.
    ///   - progress: called with about the number of images that all ranks have done.
    /// - Returns: the report on rank 0, nil on the others.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    package func identify(
        _ set: IdentificationSet, ranks: [Int], facts: IdentificationFacts, communicator: any Communicator,
        progress: (Int) -> Void = { _ in }
    ) throws -> IdentificationReport? {
        let size = communicator.size
        let gallery = try gatherUnit(set.gallery, flip: facts.flip, communicator: communicator) {
            progress(min(set.gallery.count, $0 * size))
        }
        let probes = try gatherUnit(set.probes, flip: facts.flip, communicator: communicator) {
            progress(set.gallery.count + min(set.probes.count, $0 * size))
        }
        return try communicator.together("identification in \(set.location)") {
            guard let gallery, let probes else { return nil }
            let placements = try Identification.placements(
                probes: probes, labels: set.probeLabels, gallery: gallery, galleryLabels: set.galleryLabels, pool: pool)
            let longest = min(set.gallery.count, max(50, ranks.max() ?? 1))
            return IdentificationReport(
                facts: facts, gallery: set.gallery.count,
                galleryIdentities: Set(set.galleryLabels).subtracting([IdentificationSet.distractor]).count,
                distractors: set.distractors,
                groups: set.groups.map { group in
                    IdentificationReport.Group(
                        group.name, placements: Array(placements[group.probes]),
                        probesWithoutMate: group.withoutMate.count, ranks: ranks, maximumRank: longest)
                })
        }
    }

    /// Unit embeddings of images, each rank's share, gathered on rank 0. Image and mirror image become one before they
    /// travel.
    private func gatherUnit(
        _ images: ImageCollection, flip: FlipFusion, communicator: any Communicator, progress: (Int) -> Void
    ) throws -> Embeddings? {
        let width = flip == .concatenation ? 2 * embeddingSize : embeddingSize
        var own: [Float] = []
        own.reserveCapacity(share(of: images.count, rank: communicator.rank, ranks: communicator.size).count * width)
        try forEachShare(
            of: images.count, "embedding", flip: flip != .none, communicator: communicator, image: images.image,
            progress: progress
        ) { first, plain, mirrored in
            own += try unit(plain, mirrored, flip) { images.key(first + $0) }.values
        }
        return try communicator.gather(own, "unit embeddings").map { Embeddings($0, dimension: width) }
    }

    private func unit(
        _ plain: [Float], _ mirrored: [Float]?, _ flip: FlipFusion, name: (Int) -> String
    ) throws -> Embeddings {
        let size = embeddingSize
        let raw = Embeddings(plain, dimension: size)
        let mirror = mirrored.map { Embeddings($0, dimension: size) }
        do {
            return try FusedEmbeddings(raw: raw, mirrored: mirror, fusion: flip).unit
        } catch {
            guard case .nonFiniteEmbedding(let row) = error else { throw error }
            throw TrainingError.incompatible(
                "\(name(row)): its embedding is not finite: the weights or the input are damaged; check the run's loss")
        }
    }
}
