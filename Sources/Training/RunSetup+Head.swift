package import Objectives
package import Recipes

extension RunSetup {
    /// nil where every class takes part in every step.
    package static func sampling(_ head: HeadSection) -> ClassSampling? {
        guard head.sampling.rate < 1 else { return nil }
        return ClassSampling(
            rate: head.sampling.rate, mode: head.sampling.mode == .keyed ? .keyed : .reference,
            momentum: head.sampling.momentum == .sparse ? .sparse : .dense)
    }

    package static func initializer(_ head: HeadSection) -> CentreInitializer {
        switch head.centres {
        case .normal: .normal(standardDeviation: 0.01)
        case .unitUniform: .unitUniform
        }
    }

    /// What a rank's class centres and their momentum lie in.
    ///
    /// - Throws: `MappedFileError`.
    package static func storage(_ recipe: Recipe, classes: Int, rank: Int, ranks: Int) throws -> HeadStorage {
        let rows = ShardMap(classes: classes, ranks: ranks).range(ofRank: rank).count
        let frozen = recipe.start.freeze.contains("head")
        return switch recipe.head.storage {
        case .memory: HeadStorage(rows: rows, dimension: recipe.network.embedding, frozen: frozen)
        case .file:
            try HeadStorage(
                in: recipe.head.storageFolder ?? recipe.run.folder, rows: rows, dimension: recipe.network.embedding,
                frozen: frozen)
        }
    }

    /// Refuses a sample of the classes to an objective that needs them all.
    ///
    /// - Throws: `TrainingError.incompatible`.
    package static func checkSampling(_ head: HeadSection, _ objectives: [(name: String, needsEveryClass: Bool)]) throws
    {
        guard sampling(head) != nil, let refused = objectives.first(where: \.needsEveryClass) else { return }
        throw TrainingError.incompatible(
            "head.sampling.rate = \(head.sampling.rate): \(refused.name) needs the cosines to every class, and would be "
                + "wrong on a sample; leave head.sampling out, or set its rate to 1")
    }
}
