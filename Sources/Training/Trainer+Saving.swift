import Collectives
import Evaluation
import Layers
import Logging
import Networks
import Recipes

/// Saving and evaluating, on all ranks.
extension Trainer {
    private func averagedStatistics() throws -> RunningStatistics {
        try RunningStatistics(network.buffers).averaged(environment.communicator)
    }

    private func checkpointShare(_ averaged: RunningStatistics) -> CheckpointShare {
        CheckpointContents.share(state: state, step: step, head: head, averaged: averaged, card: card)
    }

    /// Takes the memory for checkpoints on the way.
    func prepareSaving() {
        saver.prepare { checkpointShare(RunningStatistics(network.buffers)) }
    }

    /// What comes before a checkpoint: what differs between the ranks must not become what the run goes on from.
    private func prepareSave() throws {
        environment.communicator.ring.place.enter(.save, step: state.step)
        if recipe.run.checkEvery > 0 { try compareParameters() }
        state.recentLosses = step.spikes?.losses
    }

    /// Begins a checkpoint of the present step, or writes it where nothing is written behind the training.
    func saveOnTheWay() throws {
        try prepareSave()
        try saver.save(step: state.step, best: isBest) { checkpointShare(try averagedStatistics()) }
        isBest = false
    }

    /// Writes a checkpoint of the present step on all ranks, and returns when it is there.
    ///
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    package func save() throws {
        try prepareSave()
        try saver.saveNow(step: state.step, best: isBest) { checkpointShare(try averagedStatistics()) }
        isBest = false
    }

    /// Saves, then evaluates, where the updates end: whatever ends the evaluation, it costs none of them.
    ///
    /// - Returns: whether a rank was asked to stop during the evaluation, which a resumed run makes again.
    func finish(evaluating: Bool) throws -> Bool {
        environment.communicator.ring.place.enter(.save, step: state.step)
        try saver.settle(isSuperseded: true)
        if saver.savedStep != state.step || isBest { try save() }
        guard evaluating else { return false }
        if try evaluate() { return true }
        // What `best` names states its accuracy, so it is written once more.
        if isBest { try save() }
        return false
    }

    /// Evaluates all sets with averaged statistics; where a rank is asked to stop, those that are left are left out.
    ///
    /// - Returns: whether a rank was asked to stop, the same on every rank.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    package func evaluate() throws -> Bool {
        guard !evaluator.sets.isEmpty else { return false }
        environment.communicator.ring.place.enter(.evaluate, step: state.step)
        environment.faults.reached(.evaluate, step: state.step, rank: environment.communicator.rank)
        let own = RunningStatistics(network.buffers)
        try averagedStatistics().apply(to: network.buffers)
        defer { own.apply(to: network.buffers) }
        let (results, isStopped) = try evaluator.run()
        if isStopped, environment.isRoot {
            environment.logger.notice(
                "asked to stop by a signal: evaluated \(results.count) of \(evaluator.sets.count) set(s)")
        }
        try note(results)
        return isStopped
    }

    /// What an evaluation has shown; the reports are on rank 0.
    private func note(_ results: [(VerificationSet, VerificationReport?)]) throws {
        let keptBest = recipe.checkpoint.keepBest
        if state.bestSet != keptBest { (state.bestSet, state.bestAccuracy) = (keptBest, nil) }
        isBest = false
        for (set, report) in results {
            guard let report else { continue }
            reports[set.name] = report
            try recorder.evaluated(report, step: state.step)
            // Without `checkpoint.keep_best` an evaluation leaves no trace in checkpoints: the last one follows its own.
            if set.name == keptBest {
                isBest = report.accuracy.mean > state.bestAccuracy ?? -1
                state.bestAccuracy = max(state.bestAccuracy ?? 0, report.accuracy.mean)
            }
        }
        let best: Int = isBest ? 1 : 0
        if keptBest != nil { isBest = try environment.communicator.allReduce(best, .max, "best accuracy") > 0 }
    }
}
