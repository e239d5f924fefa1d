import Artifacts
import Collectives
import FaceData
import Logging
import Recipes
import Telemetry

/// Going on from a checkpoint: when a run is resumed, and when it goes back by itself.
extension Trainer {
    /// Goes on from the newest sound checkpoint.
    ///
    /// - Parameter replacing: the recipe's text in the run folder becomes what the run goes on with, as at a resume; a run
    ///   that goes back by itself leaves it alone.
    func restore(replacing: Bool) throws {
        let communicator = environment.communicator
        let opened = try communicator.together("checkpoint") {
            try store.open(with: CheckpointContents.coordination(communicator))
        }
        warn(opened.warnings)
        state = try communicator.together("checkpoint") {
            let state = try opened.checkpoint.state(RunState.self)
            if environment.isRoot { try ClassNames.check(opened.checkpoint, are: source) }
            guard state.classes == source.classCount, state.images == source.count else {
                throw TrainingError.incompatible(
                    "\(recipe.run.folder) was trained on \(state.images) images of \(state.classes) identities, "
                        + "\(source.location) has \(source.count) of \(source.classCount); resume needs the same data")
            }
            guard state.seed == recipe.run.seed else {
                throw TrainingError.incompatible(
                    "run.seed is \(recipe.run.seed), and \(recipe.run.folder) was trained with \(state.seed), which its order of "
                        + "images hangs on; give run.seed=\(state.seed), or start a new run")
            }
            if let changed = changedOrigin(state) {
                throw TrainingError.incompatible(
                    changed == Self.images
                        ? "\(source.location) has other images than \(recipe.run.folder) was trained on, or has them in another "
                            + "order; resume needs the same data. A new run can start from it: init.weights and init.head"
                        : "\(changed) is not what the run has learnt from so far: its values have changed; give it the former ones"
                )
            }
            try CheckpointContents.read(opened.checkpoint, state: state, into: step, head: head)
            environment.faults.reached(.load, step: state.step, rank: communicator.rank)
            return state
        }
        state.origins = origins
        damaged = Set(state.damagedRecords ?? [])
        if let spikes = step.spikes {
            step.spikes = SpikeGuard(factor: spikes.factor, window: spikes.window, losses: state.recentLosses ?? [])
        }
        if state.worldSize != communicator.size {
            let change = "the checkpoint is of \(state.worldSize) ranks, going on with \(communicator.size)"
            if environment.isRoot {
                environment.logger.notice("\(change): running statistics start from their average")
            }
            state.worldSize = communicator.size
            isTakenOver = true
        }
        if environment.isRoot { environment.logger.info("resuming \(recipe.run.folder) at step \(state.step)") }
        let changed = try replacing ? replaceRecipe() : nil
        try recorder.event(
            "resume", step: state.step,
            [("ranks", .integer(communicator.size))] + (changed.map { [("changed", .text($0))] } ?? []))
    }

    /// Rank 0 says what is different from here on, and keeps it. Collective.
    private func replaceRecipe() throws -> String? {
        let changes = try environment.communicator.together("recipe") {
            environment.isRoot ? try recorder.replaceRecipe(by: recipe, at: state.step) : []
        }
        for change in changes { environment.logger.notice("from here on \(change)") }
        return changes.isEmpty ? nil : changes.joined(separator: "; ")
    }

    /// The recipe's key of what is learnt from and is not what it was.
    private func changedOrigin(_ state: RunState) -> String? {
        origins.keys.sorted().first { state.origins?[$0] != nil && state.origins?[$0] != origins[$0] }
    }

    /// Rank 0 has the warnings of all ranks.
    func warn(_ warnings: [String]) {
        guard environment.isRoot else { return }
        for warning in warnings { environment.logger.warning("\(warning)") }
    }
}
