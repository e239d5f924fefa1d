import Collectives
package import FaceData
import Logging
package import Recipes
import Tensors

/// What the section `data` of a recipe means.
extension RunSetup {
    /// Opens what is learnt from, without what is excluded.
    ///
    /// - Parameter progress: called now and then while a missing index is rebuilt, with the bytes passed and the bytes in
    ///   all.
    /// - Throws: `FaceDataError`; `TrainingError`.
    package static func source(
        _ data: DataSection, progress: (_ done: UInt64, _ total: UInt64) -> Void = { _, _ in }
    ) throws -> any FaceSource {
        let exclusion = try data.exclude.map { path throws(FaceDataError) in try ExclusionList(path) }
        if data.sources.isEmpty {
            let source = try open(data.train, folder: data.folder, data.synthetic, progress)
            guard let exclusion else { return source }
            let (rest, report) = try exclusion.applied(to: [(nil, source)])
            return AnnotatedSource(rest[0], notes: exclusion.notes(report))
        }
        var members: [CompositeSource.Member] = []
        for section in data.sources {
            members.append(
                CompositeSource.Member(
                    name: section.name ?? FaceSources.name(of: section.path),
                    source: try open(section.path, folder: section.folder, data.synthetic, progress),
                    weight: section.weight, labels: section.labels == .shared ? .shared : .separate))
        }
        var names: Set<String> = []
        for member in members where !names.insert(member.name).inserted {
            throw TrainingError.incompatible(
                "data.train: two sources are called '\(member.name)'; give each a 'name' of its own")
        }
        guard let exclusion else { return try CompositeSource(members) }
        let (rest, report) = try exclusion.applied(to: members.map { (name: Optional($0.name), source: $0.source) })
        for index in members.indices { members[index].source = rest[index] }
        return AnnotatedSource(try CompositeSource(members), notes: exclusion.notes(report))
    }

    private static func open(
        _ path: String, folder: String?, _ synthetic: SyntheticSection,
        _ progress: (_ done: UInt64, _ total: UInt64) -> Void
    ) throws -> any FaceSource {
        guard path == "synthetic" else { return try FaceSources.open(path, folder: folder, progress: progress) }
        return SyntheticSource(
            SyntheticFaces(seed: synthetic.seed, options: .init(variation: Float(synthetic.variation))),
            identities: synthetic.firstIdentity..<synthetic.firstIdentity + synthetic.identities,
            imagesPerIdentity: synthetic.imagesPerIdentity)
    }

    /// Opens the data where an index is missing on rank 0, so that it rebuilds it once for all ranks.
    ///
    /// - Returns: rank 0's source, if it was opened; the other ranks, and rank 0 where nothing is missing, open theirs now.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    static func sourceWithRebuiltIndex(
        _ data: DataSection, _ environment: RunEnvironment
    ) throws -> (any FaceSource)? {
        let communicator = environment.communicator
        let paths = data.sources.isEmpty ? [data.train] : data.sources.map(\.path)
        let isMissing = environment.isRoot && paths.contains { FaceSources.lacksIndex($0) }
        guard try communicator.allReduce(isMissing ? 1 : 0, .max, "missing index") > 0 else { return nil }
        return try communicator.together("index") { () -> (any FaceSource)? in
            guard environment.isRoot else { return nil }
            environment.logger.notice("an index is missing: passing over all records to rebuild it")
            var last = monotonicSeconds()
            return try source(data) { done, total in
                guard monotonicSeconds() - last > 10 else { return }
                last = monotonicSeconds()
                environment.logger.info("\(done * 100 / max(1, total)) % of \(total >> 20) MiB passed")
            }
        }
    }

    /// The order of a run.
    ///
    /// - Parameter globalBatch: images of one pass over all ranks.
    /// - Throws: `SamplerError` when an epoch has fewer images.
    package static func sampler(
        _ data: DataSection, _ source: any FaceSource, globalBatch: Int, seed: UInt64
    ) throws -> EpochSampler {
        if data.sampling == .identities, let each = data.imagesPerIdentity {
            return try EpochSampler(
                identities: IdentityTable(source), imagesEach: each, globalBatch: globalBatch, seed: seed)
        }
        let shuffle: Shuffle =
            switch data.shuffle {
            case .full: .full
            case .chunks: .chunks(size: data.chunk, open: data.openChunks)
            case .none: .none
            }
        return try EpochSampler(parts: source.parts, globalBatch: globalBatch, seed: seed, shuffle: shuffle)
    }

    /// The order of a run of the recipe, long enough for a batch.
    ///
    /// - Parameters:
    ///   - data: the recipe's, or what takes its place.
    ///   - passBatch: images of one pass over all ranks.
    /// - Throws: `TrainingError.tooFewImages`.
    static func sampler(
        _ recipe: Recipe, _ data: DataSection, _ source: any FaceSource, passBatch: Int
    ) throws -> EpochSampler {
        do {
            let sampler = try sampler(data, source, globalBatch: passBatch, seed: recipe.run.seed)
            guard sampler.slots >= recipe.batch.global else {
                throw TrainingError.tooFewImages(images: sampler.slots, needed: recipe.batch.global)
            }
            return sampler
        } catch let error as SamplerError {
            throw TrainingError.tooFewImages(images: error.records, needed: recipe.batch.global)
        }
    }

    /// How images are prepared.
    package static func loaderOptions(_ recipe: Recipe) -> BatchLoader.Options {
        BatchLoader.Options(
            preprocessing: preprocessing(recipe), seed: recipe.run.seed,
            flipProbability: recipe.data.flip ? 0.5 : 0, threads: recipe.data.threads, prefetch: recipe.data.prefetch,
            quarantineLimit: recipe.data.quarantineLimit, views: views(recipe))
    }
}
