import Artifacts
import Collectives
import FaceData
import Logging
import Networks
package import Objectives
package import Recipes
import Tensors

extension RunSetup {
    /// What a recipe adds to the classification, and what all of it asks of a step.
    struct AddedObjectives {
        var added: [any AddedObjective] = []
        var demand: StepDemand
        /// What classifies in place of the head's own margin.
        var margin: (any MarginFunction)?
        var teacher: Network?
        /// Hashes of what a run learns from beside its images, by the recipe's key: it must not change while the run goes on.
        var origins: [String: String] = [:]
    }

    /// What a step of the recipe looks like: the record; its degraded copy, which goes through the network with it; and
    /// another image of its identity, in a pass of its own.
    ///
    /// - Throws: `TrainingError.incompatible` where two objectives ask for what cannot be had together.
    package static func demand(_ recipe: Recipe) throws -> StepDemand {
        let objectives = recipe.objectives
        let degrades = objectives.comparesDegraded
        if objectives.contrast != nil, let resolution = objectives.resolution, resolution.marginSource != .head {
            throw TrainingError.incompatible(
                "objectives.ccface and objectives.qgface would both set the margin of each image; with qgface, let the head "
                    + "have its own: objectives.ccface.margin_source: head")
        }
        if let reason = clash(recipe) ?? clash(following: recipe) ?? cacheRefusal(recipe) {
            throw TrainingError.incompatible(reason)
        }
        let follows = keyMomentum(objectives)
        var passes = [0..<(degrades ? 2 : 1)]
        var classified = passes[0].count
        var taps: [String] = []
        if let section = objectives.distillation {
            let options = options(section)
            passes.append(passes[0].upperBound..<passes[0].upperBound + 1)
            if options.classifiesBothViews {
                if degrades {
                    throw TrainingError.incompatible(
                        "objectives.qsd.classified: both is for QSD alone; beside ccface or qgface the partner teaches only"
                    )
                }
                classified = 2
            }
            if options.stages > 0 { taps = options.taps }
        }
        let taught = objectives.resolution.map {
            ResolutionDistillation.taughtViews(.init(rawValue: $0.marginSource.rawValue)!)
        }
        return StepDemand(
            views: passes.last!.upperBound, passes: passes, classified: classified, taps: taps,
            teacher: follows != nil ? 0..<1 : taught ?? 0..<0, teacherMomentum: follows)
    }

    /// Of the network that makes the keys of QGFace's contrast; nil where the trained one does.
    private static func keyMomentum(_ objectives: ObjectivesSection) -> Double? {
        guard let contrast = objectives.contrast, contrast.weight > 0, contrast.keys == .momentum else { return nil }
        return contrast.keyMomentum
    }

    /// Why what a recipe asks for means nothing together; nil where it does.
    private static func clash(_ recipe: Recipe) -> String? {
        let objectives = recipe.objectives
        if objectives.certainty?.onTop == true, objectives.names.count > 1 {
            let others = objectives.names.filter { $0 != "cr_fiqa" }.map { "objectives.\($0)" }
            return
                "objectives.cr_fiqa.on_top trains nothing but its quality layer, so \(others.joined(separator: ", ")) would "
                + "have nothing to teach; leave out on_top or the others"
        }
        if let contrast = objectives.contrast, contrast.weight > 0, contrast.keys == .momentum {
            if objectives.names.count > 1 {
                return "objectives.qgface.keys: momentum is a baseline that classifies degraded copies alone; it goes with "
                    + "no other objective"
            }
            if contrast.compared == .both || contrast.correction != .none {
                return "objectives.qgface.keys: momentum compares degraded copies with keys that no class centre "
                    + "corrects: write compared: low and correction: none beside it"
            }
        }
        guard let resolution = objectives.resolution else { return nil }
        if resolution.marginSource == .head {
            if resolution.targets == .soft {
                return
                    "objectives.ccface.targets: soft reads the logits of ccface's own margin; with margin_source: head write "
                    + "targets: hard"
            }
            if resolution.teacher != nil {
                return "objectives.ccface.teacher: with margin_source: head no teacher is asked; leave it out"
            }
            if resolution.highWeight != 1 {
                return
                    "objectives.ccface.high_weight weights rows of ccface's own margin; with margin_source: head all rows "
                    + "count alike, leave it out"
            }
        }
        if resolution.targets == .soft, !resolution.freezesCentres {
            return "objectives.ccface.targets: soft compares with the teacher's class centres, which must stay: leave "
                + "freeze_centres at true, or write targets: hard"
        }
        return nil
    }

    /// Why QGFace's queue cannot follow class centres; nil where it can, or need not.
    private static func clash(following recipe: Recipe) -> String? {
        guard let contrast = recipe.objectives.contrast, contrast.weight > 0, contrast.correction != .none,
            recipe.freezesHead
        else { return nil }
        let other =
            recipe.objectives.resolution?.freezesCentres == true
            ? ("objectives.ccface keeps", "objectives.ccface.freeze_centres: false")
            : ("init.freeze: [head] keeps", "no head in init.freeze")
        return "objectives.qgface.correction follows class centres, and \(other.0) them where they are: write "
            + "objectives.qgface.correction: none or \(other.1)"
    }

    /// - Parameters:
    ///   - batch: B, records of a rank and pass.
    ///   - source: where qualities are looked up.
    /// - Throws: `FaceDataError`; `ArtifactError`; `TrainingError.incompatible`.
    static func objectives(
        _ recipe: Recipe, source: any FaceSource, batch: Int, _ environment: RunEnvironment
    ) throws -> AddedObjectives {
        var result = AddedObjectives(demand: try demand(recipe))
        let communicator = environment.communicator
        let dimension = recipe.network.embedding
        if let section = recipe.objectives.certainty {
            result.added.append(
                QualityRegression(
                    dimension: dimension, ratio: section.ratio == .paper ? .paper : .code, weight: section.weight,
                    beta: section.beta, communicator: communicator, seed: recipe.run.seed))
        }
        if let section = recipe.objectives.resolution {
            let objective = ResolutionDistillation(
                try options(section, recipe), batch: batch, dimension: dimension, communicator: communicator,
                pool: environment.pool, seed: recipe.run.seed)
            if section.marginSource != .head {
                result.margin = objective.marginFunction
                let teacher = try teacher(section, recipe)
                result.teacher = teacher
                result.origins["objectives.ccface.teacher"] = hexadecimal(fingerprint(teacher))
            }
            result.added.append(objective)
        }
        if let section = recipe.objectives.contrast {
            let follows = keyMomentum(recipe.objectives)
            result.margin = try gatedMargin(section, recipe, onlySecondViews: follows == nil ? nil : batch)
            if follows != nil { result.teacher = try network(recipe) }
            if section.weight > 0 {
                result.added.append(
                    QueueContrast(
                        options(section), classes: source.classCount, batch: batch, dimension: dimension,
                        communicator: communicator, pool: environment.pool))
            }
        }
        if let section = recipe.objectives.distillation {
            let qualities = try qualities(section.qualities, section.missing, of: source, environment)
            result.origins["objectives.qsd.qualities"] = fingerprint(qualities)
            result.added.append(
                SelfDistillation(
                    options(section), qualities: qualities, batch: batch, dimension: dimension,
                    partner: result.demand.views - 1, communicator: communicator, pool: environment.pool))
        }
        if let section = recipe.objectives.separation {
            let qualities = try qualities(section.qualities, section.missing, of: source, environment)
            result.origins["objectives.sdd_fiqa.qualities"] = fingerprint(qualities)
            result.added.append(
                SeparationRegression(
                    qualities: qualities, batch: batch, dimension: dimension, weight: section.weight, beta: section.beta,
                    dropout: section.dropout,
                    communicator: communicator, seed: recipe.run.seed))
        }
        return result
    }

    /// Whether the class centres' gradient must lie in memory: several passes sum it, and an objective may add to it.
    package static func keepsCentreGradient(_ recipe: Recipe) -> Bool {
        recipe.batch.accumulation > 1 || (recipe.objectives.distillation.map { $0.weight * $0.logits > 0 } ?? false)
    }

    /// Refuses what no run of the recipe could do, as far as the recipe alone tells.
    ///
    /// - Throws: `TrainingError.incompatible`.
    package static func check(_ recipe: Recipe) throws {
        _ = try demand(recipe)
        if let section = recipe.objectives.resolution { _ = try options(section, recipe) }
        if let section = recipe.objectives.contrast { _ = try gatedMargin(section, recipe, onlySecondViews: nil) }
        try checkCosines(margin(recipe.head, seed: recipe.run.seed, ranks: 1), recipe)
    }

    /// Refuses a head, or a policy, that what is learnt beside the classes cannot do with.
    ///
    /// - Throws: `TrainingError.incompatible`.
    static func check(_ recipe: Recipe, _ added: [any AddedObjective], _ margin: any MarginFunction) throws {
        try checkSampling(
            recipe.head, added.map { (name: "objectives.\($0.name)", needsEveryClass: $0.needsEveryClass) })
        try checkCosines(margin, recipe)
        if recipe.stability.policy == .skip, added.contains(where: \.keepsState) {
            throw TrainingError.incompatible(
                "stability.policy = skip: an objective of this recipe keeps embeddings of former updates, which a refused "
                    + "one has entered; use rollback or stop")
        }
    }

    /// Refuses a head without cosines to an objective that looks at them.
    private static func checkCosines(_ margin: any MarginFunction, _ recipe: Recipe) throws {
        guard let name = recipe.objectives.comparingCentres.first, margin.normalisation != .unit else { return }
        throw TrainingError.incompatible(
            "head.margin = \(recipe.head.margin.name.rawValue) compares inner products; objectives.\(name) needs cosines, as "
                + "cosface, arcface and the others have them")
    }

    // MARK: - CR-FIQA, QSD, SDD-FIQA

    private static func options(_ section: SelfDistillationSection) -> SelfDistillation.Options {
        var options = SelfDistillation.Options()
        options.weight = section.weight
        // Weight 0 leaves every tap out.
        let isOn = section.weight > 0
        options.stages = isOn ? section.stages : 0
        options.embedding = isOn ? section.embedding : 0
        options.logits = isOn ? section.logits : 0
        options.threshold = section.threshold
        options.differentiatesAmplification = section.amplification == .differentiated
        options.classifiesBothViews = section.classified == .both
        return options
    }

    /// By record; NaN where the table has none.
    private static func qualities(
        _ table: String, _ missing: SelfDistillationSection.Missing, of source: any FaceSource,
        _ environment: RunEnvironment
    ) throws -> [Float] {
        let found = try QualityTable(table).qualities(
            of: source,
            missing: missing == .refuse
                ? .refuse(allowedBy: "'missing: ignore' beside its path learns nothing from them") : .value(.nan))
        if found.missing > 0, environment.isRoot {
            environment.logger.warning(
                "\(table) lacks \(found.missing) of \(source.count) images, from which no quality is learnt")
        }
        return found.values
    }

    private static func fingerprint(_ qualities: [Float]) -> String {
        qualities.withUnsafeBufferPointer { hexadecimal(Consistency.hash($0)) }
    }

    // MARK: - CCFace

    private static func options(_ section: ResolutionSection, _ recipe: Recipe) throws -> ResolutionDistillation.Options {
        var options = ResolutionDistillation.Options()
        if section.marginSource != .head {
            guard case .arcface(let keys) = recipe.head.margin, keys.fallback == .hard, keys.gradient == .exact,
                recipe.head.filter == nil
            else {
                throw TrainingError.incompatible(
                    "objectives.ccface gives each image a share of an angular margin: write head.margin: arcface, without "
                        + "fallback, gradient or filter, or objectives.ccface.margin_source: head")
            }
            options.scale = keys.scale
        }
        options.margin = section.m
        options.marginSource = .init(rawValue: section.marginSource.rawValue)!
        options.targets = section.targets == .soft ? .soft : .hard
        options.teacherShare = section.teacherShare
        options.teacherScale = section.teacherScale
        options.highWeight = section.highWeight
        options.crossWeight = section.crossWeight
        options.cross = .init(rawValue: section.cross.rawValue)!
        options.capacity = section.queue
        options.teacherTemperature = section.teacherTemperature
        options.studentTemperature = section.studentTemperature
        options.hidden = section.hidden
        return options
    }

    // MARK: - QGFace

    private static func gatedMargin(
        _ section: ContrastSection, _ recipe: Recipe, onlySecondViews: Int?
    ) throws -> any MarginFunction {
        guard case .adaface(let keys) = recipe.head.margin, keys.statistics == .global, recipe.head.filter == nil,
            let base = margin(recipe.head, seed: recipe.run.seed, ranks: 1) as? AdaFace
        else {
            throw TrainingError.incompatible(
                "objectives.qgface reads quality from AdaFace's statistics: write head.margin: adaface, with global statistics "
                    + "and no filter")
        }
        return QualityGatedMargin(
            base, threshold: section.threshold, warmup: section.thresholdWarmup, onlySecondViews: onlySecondViews)
    }

    private static func options(_ section: ContrastSection) -> QueueContrast.Options {
        var options = QueueContrast.Options()
        options.weight = section.weight
        options.scale = section.scale
        options.capacity = section.queue
        options.correction = .init(rawValue: section.correction.rawValue)!
        options.gate = ContrastGate(
            shape: .init(rawValue: section.gate.rawValue)!, range: .init(rawValue: section.gateRange.rawValue)!,
            threshold: section.threshold)
        options.pairQuality = .init(rawValue: section.pairQuality.rawValue)!
        options.comparesBothViews = section.compared == .both
        options.detachesKeys = section.detachKeys
        options.margin = section.m
        options.rescales = section.rescale
        options.growth = section.queueGrowth
        options.keyMomentum = section.keys == .momentum ? section.keyMomentum : nil
        return options
    }
}
