import Artifacts
import Collectives
import FaceData
import Layers
import Logging
import Networks
import Recipes
import Tensors

/// The backbone that CCFace learns from.
extension RunSetup {
    private static func teacherPath(_ section: ResolutionSection, _ recipe: Recipe) -> String? {
        section.teacher ?? recipe.start.weights
    }

    /// The recipe with the teacher's file in the place of a run folder, whose newest checkpoint may be another one when this
    /// run is resumed. Collective.
    ///
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    static func withTeacherFile(_ recipe: Recipe, _ environment: RunEnvironment) throws -> Recipe {
        guard let section = recipe.objectives.resolution, section.marginSource != .head,
            let path = teacherPath(section, recipe)
        else { return recipe }
        let file = try environment.communicator.together("teacher") {
            try ModelFile.location(path, with: CheckpointContents.coordination(environment.communicator)) {
                if environment.isRoot { environment.logger.warning("\($0)") }
            }
        }
        guard file != path else { return recipe }
        if environment.isRoot { environment.logger.info("the teacher is \(file)") }
        var recipe = recipe
        recipe.objectives.resolution?.teacher = file
        return recipe
    }

    /// Its weights.
    ///
    /// - Throws: `ArtifactError`; `TrainingError`.
    static func teacher(_ section: ResolutionSection, _ recipe: Recipe) throws -> Network {
        guard let path = teacherPath(section, recipe) else {
            throw TrainingError.incompatible(
                "objectives.ccface learns from a teacher: name its weights in objectives.ccface.teacher or init.weights"
            )
        }
        let (network, card, location) = try ModelFile.open(path)
        if let (have, need) = difference(card.preprocessing, preprocessing(recipe)) {
            throw TrainingError.preprocessing(file: location, have: have, need: need)
        }
        guard card.specification.embeddingSize == recipe.network.embedding else {
            throw TrainingError.incompatible(
                "the teacher's embeddings have \(card.specification.embeddingSize) components, network.embedding is "
                    + "\(recipe.network.embedding)")
        }
        return network
    }

    /// Whether the teacher's embeddings of the images themselves lie in a file.
    static func cachesTeacher(_ recipe: Recipe) -> Bool { recipe.objectives.resolution?.teacherCache != nil }

    /// Why they cannot; nil where they can, or need not.
    static func cacheRefusal(_ recipe: Recipe) -> String? {
        guard cachesTeacher(recipe) else { return nil }
        if recipe.objectives.resolution?.marginSource == .head {
            return "objectives.ccface.teacher_cache: with margin_source: head no teacher is asked; leave it out"
        }
        if !recipe.data.augment.isNone {
            return "objectives.ccface.teacher_cache holds embeddings of the images as they are, and data.augment changes them; "
                + "leave one of the two out"
        }
        return nil
    }

    /// Opens the recipe's cache, or makes it on all ranks. Collective.
    ///
    /// - Returns: nil where the recipe has none.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    static func teacherCache(
        _ recipe: Recipe, _ teacher: Network?, _ source: any FaceSource, _ environment: RunEnvironment
    ) throws -> TeacherCache? {
        guard let path = recipe.objectives.resolution?.teacherCache, let teacher else { return nil }
        let communicator = environment.communicator
        func opened() throws -> TeacherCache? {
            try communicator.together("teacher's cache") { try existingCache(path, recipe, teacher, source) }
        }
        let cache = try opened()
        // A file that only some hosts see is made again, and must be seen by all then.
        guard try communicator.allReduce(cache == nil ? 1 : 0, .max, "teacher's cache") > 0 else {
            try communicator.together("teacher's cache") {
                if environment.isRoot { try cache?.check(source, embedder(teacher, recipe, environment)) }
            }
            return cache
        }
        if environment.isRoot {
            environment.logger.notice(
                "\(path): the teacher embeds \(source.count) images and their mirror images, once for all")
        }
        var last = monotonicSeconds()
        let left = try TeacherCache.make(
            path, cacheOrigin(recipe, teacher, source), source, embedder(teacher, recipe, environment), communicator,
            limit: recipe.data.quarantineLimit
        ) { done, share in
            if environment.stopRequested() { throw TrainingError.interrupted("the teacher's embeddings were not complete") }
            guard environment.isRoot, monotonicSeconds() - last > 10 else { return }
            last = monotonicSeconds()
            environment.logger.info("\(done * 100 / max(1, share)) % embedded")
        }
        if environment.isRoot, let first = left.min(by: { $0.key < $1.key }) {
            environment.logger.warning(
                "\(path): \(left.count) of \(source.count) images cannot be read, and are black in it: \(first.value)")
        }
        let made = try opened()
        return try communicator.together("teacher's cache") {
            guard let made else {
                throw TrainingError.incompatible(
                    "\(path), made by rank 0, is not to be seen on \(communicator.topology.hostName): name a file in a folder "
                        + "that all hosts share in objectives.ccface.teacher_cache")
            }
            return made
        }
    }

    /// Looks at a cache that is there already.
    ///
    /// - Throws: `ArtifactError`, also for one of another teacher, other data or another arithmetic; `FaceDataError`.
    static func checkCache(
        _ recipe: Recipe, _ teacher: Network?, _ source: any FaceSource, _ environment: RunEnvironment
    ) throws {
        guard let path = recipe.objectives.resolution?.teacherCache, let teacher else { return }
        try existingCache(path, recipe, teacher, source)?.check(source, embedder(teacher, recipe, environment))
    }

    private static func embedder(_ teacher: Network, _ recipe: Recipe, _ environment: RunEnvironment) -> Embedder {
        Embedder(
            teacher, preprocessing: preprocessing(recipe), batch: recipe.evaluation.batch,
            precision: precision(recipe.compute), pool: environment.pool)
    }

    private static func existingCache(
        _ path: String, _ recipe: Recipe, _ teacher: Network, _ source: any FaceSource
    ) throws -> TeacherCache? {
        try TeacherCache.open(
            path, cacheOrigin(recipe, teacher, source), records: source.count, dimension: recipe.network.embedding)
    }

    private static func cacheOrigin(
        _ recipe: Recipe, _ teacher: Network, _ source: any FaceSource
    ) -> TeacherCache.Origin {
        let card = ModelFile.Card(specification: teacher.specification, preprocessing: preprocessing(recipe)).metadata
        return TeacherCache.Origin(
            teacher: hexadecimal(fingerprint(teacher)), data: hexadecimal(Consistency.fingerprint(source).hash),
            preprocessing: card[WeightsKey.preprocessing]!, precision: recipe.compute.precision.rawValue)
    }

    static func hexadecimal(_ hash: UInt64) -> String { String(hash, radix: 16) }

    /// Of all parameters and running statistics.
    static func fingerprint(_ network: Network) -> UInt64 {
        network.state.reduce(UInt64(network.state.count)) { hash, entry in
            guard entry.value.dtype == .float32 else { return hash }
            return (hash &* 31) ^ Consistency.hash(UnsafeBufferPointer(entry.value.floats))
        }
    }
}
