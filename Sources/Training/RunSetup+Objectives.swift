import Collectives
import FaceData
import Objectives
import Recipes
import Tensors

extension RunSetup {
    /// What a recipe adds to the classification, and what all of it asks of a step.
    struct Objectives {
        var added: [any AddedObjective]
        var demand: StepDemand
        /// What the loader makes of each record.
        var views: [View]
    }

    /// What a step of the recipe looks like, before any data is read.
    ///
    /// - Throws: `TrainingError.incompatible` where two objectives ask for what cannot be had together.
    package static func demand(_ recipe: Recipe) throws -> StepDemand {
        guard let section = recipe.objectives.distillation else { return .single }
        let options = options(section)
        return StepDemand(
            views: 2, passes: [0..<1, 1..<2], classified: options.classifiesBothViews ? 2 : 1,
            taps: options.stages > 0 ? options.taps : [])
    }

    /// - Parameters:
    ///   - batch: B, records of a rank and pass.
    ///   - source: where qualities are looked up.
    /// - Throws: `FaceDataError`; `TrainingError.incompatible`.
    static func objectives(
        _ recipe: Recipe, source: any FaceSource, batch: Int, _ environment: RunEnvironment
    ) throws -> Objectives {
        var added: [any AddedObjective] = []
        var views = [View()]
        if let section = recipe.objectives.certainty {
            added.append(
                QualityRegression(
                    dimension: recipe.network.embedding, ratio: section.ratio == .paper ? .paper : .code,
                    weight: section.weight, beta: section.beta, communicator: environment.communicator,
                    seed: recipe.run.seed))
        }
        if let section = recipe.objectives.distillation {
            views = [View(.record), View(.partner)]
            added.append(
                SelfDistillation(
                    options(section), qualities: try qualities(section, of: source), batch: batch,
                    dimension: recipe.network.embedding, communicator: environment.communicator, pool: environment.pool))
        }
        return Objectives(added: added, demand: try demand(recipe), views: views)
    }

    /// Refuses a head without cosines to an objective that looks at them.
    ///
    /// - Throws: `TrainingError.incompatible`.
    static func checkCosines(_ head: MarginClassification, _ recipe: Recipe) throws {
        guard let name = recipe.objectives.names.first, head.classifier.margin.normalisation != .unit else { return }
        throw TrainingError.incompatible(
            "head.margin = \(recipe.head.margin.name.rawValue) compares inner products; objectives.\(name) needs cosines, as "
                + "cosface, arcface and the others have them")
    }

    private static func options(_ section: SelfDistillationSection) -> SelfDistillation.Options {
        var options = SelfDistillation.Options()
        options.weight = section.weight
        options.stages = section.stages
        options.embedding = section.embedding
        options.logits = section.logits
        options.threshold = section.threshold
        options.differentiatesAmplification = section.amplification == .differentiated
        options.classifiesBothViews = section.classified == .both
        return options
    }

    /// By record; NaN where the table has none.
    private static func qualities(_ section: SelfDistillationSection, of source: any FaceSource) throws -> [Float] {
        let table = try QualityTable(section.qualities)
        return try table.qualities(of: source, missing: section.missing == .refuse ? .refuse : .value(.nan)).values
    }
}
