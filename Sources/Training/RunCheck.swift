import Artifacts
import Collectives
package import FaceData
package import Networks
package import Recipes

/// What a run would refuse of a recipe and of the data and files that it names, found on one rank and without the memory for
/// the class centres. The run folder, and what shall be written, are left to the run.
package struct RunCheck {
    package let network: Network
    package let source: any FaceSource

    /// - Parameter environment: of one rank.
    /// - Throws: what the run would throw.
    package init(_ recipe: Recipe, _ environment: RunEnvironment) throws {
        try RunSetup.check(recipe)
        network = try RunSetup.network(recipe)
        try Trainer.checkFactors(network, recipe)
        let (batch, passes) = (recipe.batch.global, recipe.batch.accumulation)
        guard batch % passes == 0 else {
            throw TrainingError.batchNotDivisible(global: batch, accumulation: passes, ranks: 1)
        }
        source = try RunSetup.source(recipe.data)
        try Trainer.checkPlace(recipe)
        _ = try RunSetup.sampler(recipe, recipe.data, source, passBatch: batch / passes)
        if let weights = try Trainer.weights(recipe, environment) {
            try Trainer.loadWeights(weights, network, recipe, environment)
        }
        let objectives = try RunSetup.objectives(recipe, source: source, batch: batch / passes, environment)
        let margin = objectives.margin ?? RunSetup.margin(recipe.head, seed: recipe.run.seed, ranks: 1)
        try RunSetup.check(recipe, objectives.added, margin)
        try RunSetup.checkCache(recipe, objectives.teacher, source, environment)
        try Self.checkHead(recipe, source, environment)
        for set in recipe.evaluation.sets { _ = try VerificationSets.open(set) }
    }

    private static func checkHead(_ recipe: Recipe, _ source: any FaceSource, _ environment: RunEnvironment) throws {
        var kept = 0
        if let path = recipe.start.head {
            let store = CheckpointStore(runFolder: path)
            guard let name = try store.names().last else {
                throw TrainingError.notARun(folder: path, reason: "it has no checkpoint")
            }
            let checkpoint = try store.checkpoint(name)
            // Their bytes are hashed by the ranks of the run.
            if let damage = checkpoint.verifySizes().first { throw damage }
            try CheckpointContents.checkLength(checkpoint, is: recipe.network.embedding)
            kept = try ClassNames.rows(checkpoint, for: source, over: environment.communicator).rows.count { $0 >= 0 }
        }
        try Trainer.checkCentres(recipe, kept: kept, of: source.classCount)
    }
}
