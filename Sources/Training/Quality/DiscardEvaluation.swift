package import Collectives
package import Evaluation
package import FaceData
import Tensors

/// What an error-versus-discard evaluation compares: listed pairs, or all pairs of a labelled set.
package struct DiscardSubject: Sendable {
    package enum Pairs: Sendable {
        case listed([VerificationPair])
        /// By identity.
        case all(labels: [Int32])
    }

    package let name: String
    package let images: ImageCollection
    package let pairs: Pairs
    package let flip: FlipFusion

    /// The pairs of a verification set.
    package init(_ set: VerificationSet, flip: FlipFusion) {
        name = set.name
        images = ImageCollection(
            location: set.name, count: set.imageCount, labels: nil, key: set.key, image: set.image,
            degradation: set.degradation)
        pairs = .listed(set.pairs)
        self.flip = flip
    }

    /// All pairs of a set.
    ///
    /// - Throws: `TrainingError.incompatible` where the set names no identities.
    package init(allPairsOf images: ImageCollection, name: String, flip: FlipFusion) throws {
        guard let labels = images.labels else {
            throw TrainingError.incompatible(
                "\(images.location) names no identities: all pairs are those of a folder of identity folders, a list or a "
                    + ".rec file")
        }
        self.name = name
        self.images = images
        pairs = .all(labels: labels)
        self.flip = flip
    }
}

/// Where the qualities of an evaluation come from.
package enum DiscardQuality {
    /// The raw embeddings that are compared, by an estimator.
    case compared(EmbeddingQuality)
    /// Another model than the one whose embeddings are compared.
    case model(ModelFile.Model, EmbeddingQuality)
    /// A table, and what is done about images that it lacks.
    case table(QualityTable, missing: QualityTable.Missing)
}

extension Embedder {
    /// Error-versus-discard curves of a subject, with this embedder's cosines.
    ///
    /// - Parameters:
    ///   - weights: what this embedder's weights are called.
    ///   - progress: called with a stage and the share of it that is done.
    /// - Returns: the report on rank 0, nil on the others.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    package func discard(
        _ subject: DiscardSubject, by quality: DiscardQuality, weights: String, options: DiscardReport.Options,
        communicator: any Communicator, progress: (_ stage: String, _ share: Double) -> Void = { _, _ in }
    ) throws -> DiscardReport? {
        let images = subject.images
        /// The ranks have equal shares, so that this one's stands for all.
        func done(_ count: Int) -> Double {
            min(1, Double(count) * Double(communicator.size) / Double(images.count))
        }
        let scores: [Float]? =
            switch quality {
            case .compared: nil
            case .model(let model, let estimator):
                try Embedder(
                    model.network, preprocessing: model.card.preprocessing, batch: batch, pool: pool
                ).score(images, by: estimator, communicator: communicator) { progress("scoring", done($0)) }?.values
                    .map { $0 ?? .nan }
            case .table(let table, let missing):
                try communicator.together("qualities") {
                    try table.qualities(count: images.count, of: subject.name, missing: missing, key: images.key).values
                }
            }
        let gathered = try gatherEmbeddings(
            count: images.count, flip: subject.flip != .none, communicator: communicator, image: images.image
        ) { progress("embedding", done($0)) }
        return try communicator.together("error versus discard of \(subject.name)") {
            guard let gathered else { return nil }
            let raw = Embeddings(gathered.plain, dimension: embeddingSize)
            let fused = try FusedEmbeddings(
                raw: raw, mirrored: gathered.mirrored.map { Embeddings($0, dimension: embeddingSize) },
                fusion: subject.flip)
            var qualities = scores ?? []
            let source: String
            switch quality {
            case .compared(let estimator):
                qualities = try estimator.qualities(of: raw.values, dimension: embeddingSize, name: images.key)
                source = "\(estimator.estimator.rawValue) of \(weights)"
            case .model(let model, let estimator): source = "\(estimator.estimator.rawValue) of \(model.path)"
            case .table(let table, .refuse): source = table.location
            case .table(let table, .value(let value)): source = "\(table.location), \(value) where it lacks an image"
            }
            return try report(subject, fused, qualities, source, weights, options) {
                progress("comparing", $0)
            }
        }
    }

    private func report(
        _ subject: DiscardSubject, _ fused: FusedEmbeddings, _ qualities: [Float], _ source: String, _ weights: String,
        _ options: DiscardReport.Options, progress: (Double) -> Void
    ) throws -> DiscardReport {
        func facts(_ pairs: DiscardFacts.Pairs) -> DiscardFacts {
            DiscardFacts(
                dataset: subject.name, pairs: pairs, degradation: subject.images.degradation, flip: subject.flip,
                embeddings: weights, quality: source)
        }
        let qualities = qualities.map { Double($0) }
        switch subject.pairs {
        case .listed(let pairs):
            return try DiscardReport(
                similarities: pairs.map { fused.unit.similarity($0.first, $0.second) }, pairs: pairs,
                qualities: qualities, facts: facts(.listed), options: options, pool: pool)
        case .all(let labels):
            return try DiscardReport(
                allPairsOf: fused.unit, labels: labels, qualities: qualities, facts: facts(.all), options: options,
                pool: pool, progress: progress)
        }
    }
}
