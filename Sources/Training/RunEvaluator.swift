import Collectives
package import Evaluation
package import FaceData
package import Layers
package import Networks
package import Recipes
import Telemetry

/// The verification sets of a recipe, ready to be evaluated again and again.
package final class RunEvaluator {
    package struct Entry {
        package let set: VerificationSet
        package let flip: FlipFusion
    }

    package let sets: [Entry]
    private let embedder: Embedder?
    private let environment: RunEnvironment

    /// - Parameter training: lends its memory: sets are evaluated between steps.
    /// - Throws: what is wrong with a set's files.
    package init(
        _ recipe: Recipe, network: Network, preprocessing: Preprocessing, within training: Execution,
        _ environment: RunEnvironment
    ) throws {
        sets = try recipe.evaluation.sets.map {
            Entry(set: try VerificationSets.open($0), flip: $0.flip ? .sum : .none)
        }
        self.environment = environment
        embedder =
            sets.isEmpty
            ? nil
            : Embedder(
                network, preprocessing: preprocessing, batch: recipe.evaluation.batch, pool: environment.pool,
                within: training)
    }

    /// All sets in turn, until a rank is asked to stop. Collective.
    ///
    /// - Returns: the sets that were evaluated, with their reports on rank 0; whether some were left out.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    package func run() throws -> (results: [(VerificationSet, VerificationReport?)], isStopped: Bool) {
        guard let embedder else { return ([], false) }
        let ranks = environment.communicator.size
        var results: [(VerificationSet, VerificationReport?)] = []
        for entry in sets {
            let asked = environment.stopRequested() ? 1 : 0
            if try environment.communicator.allReduce(asked, .max, "stop requests") > 0 { return (results, true) }
            let progress = ProgressDisplay(
                total: entry.set.imageCount, style: environment.isRoot ? environment.progress : .never)
            let report = try embedder.verify(entry.set, flip: entry.flip, communicator: environment.communicator) {
                progress.update(min($0 * ranks, entry.set.imageCount), "evaluating \(entry.set.name)")
            }
            progress.finish()
            results.append((entry.set, report))
        }
        return (results, false)
    }
}
