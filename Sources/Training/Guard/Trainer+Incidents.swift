import Artifacts
import Collectives
import FaceData
import Foundation
import Layers
import Logging
import Networks
import Objectives
import Recipes
import Telemetry
import Tensors

/// What a run has done about updates that were refused.
struct IncidentCounts {
    var bundles = 0
    var rollbacks = 0
    /// Updates after which the run went back, by the number of completed ones.
    var rolledBack: Set<Int> = []

    /// Bundles that one process writes: a run that goes wrong for ever must not fill the disk.
    static let mostBundles = 5
}

extension Trainer {
    /// Follows the recipe's policy after an update was refused, which every rank has come to alike. Collective.
    ///
    /// - Parameters:
    ///   - next: where the data goes on without this update.
    ///   - found: damaged records that this rank met in it.
    /// - Returns: the refused update's report, where the run goes on without it; nil where it is back at a checkpoint.
    /// - Throws: `RunFailure` where the run ends; `CollectiveError`.
    func respond(to error: TrainingError, next: Int, found: [QuarantinedRecord]) throws -> StepReport? {
        guard let report = step.refused else { throw RunFailure(error) }
        let folder = try record(error, report)
        keeper?.restore()
        let place = folder.map { "; 'acuity replay \($0)' looks into it" } ?? ""
        switch recipe.stability.policy {
        case .stop:
            throw RunFailure(rank: nil, message: "\(error)\(place)", exitCode: ExitCode.of(error))
        case .skip:
            try skip(error, report, next: next, found: found, place)
            return report
        case .rollback:
            if counts.rolledBack.insert(state.step).inserted {
                try rollBack(error, place)
                return nil
            }
            // The same update went wrong in the same way: it lies in the data or in the state, not in the machine.
            guard !keepsQueues else { throw exhausted(error, "it has come again after going back", place) }
            try skip(error, report, next: next, found: found, place)
            return report
        }
    }

    /// Whether an objective keeps embeddings of former updates, which a refused one has entered.
    var keepsQueues: Bool { objective.added.contains { $0.keepsState } }

    private func exhausted(_ error: TrainingError, _ what: String, _ place: String) -> RunFailure {
        RunFailure(TrainingError.policyExhausted("\(error); \(what)\(place)"))
    }

    private func skip(
        _ error: TrainingError, _ report: StepReport, next: Int, found: [QuarantinedRecord], _ place: String
    ) throws {
        let count = (state.skippedUpdates ?? 0) + 1
        guard count <= recipe.stability.skipLimit else {
            throw exhausted(error, "stability.skip_limit = \(recipe.stability.skipLimit) updates were left out", place)
        }
        if environment.isRoot {
            environment.logger.warning(
                "\(error.brief): left out (\(count) of at most \(recipe.stability.skipLimit))\(place)")
        }
        let number = state.step + 1
        advance(to: next, skipped: count)
        try recorder.event("skipped", step: number, [("reason", .text(error.brief)), ("count", .integer(count))])
        if report.flags.quarantined > 0 { try shareDamage(found) }
    }

    private func rollBack(_ error: TrainingError, _ place: String) throws {
        counts.rollbacks += 1
        guard counts.rollbacks <= recipe.stability.rollbackLimit else {
            throw exhausted(error, "the run went back \(recipe.stability.rollbackLimit) times", place)
        }
        let communicator = environment.communicator
        communicator.ring.place.enter(.load, step: state.step)
        // The one that is being written is the last one.
        try saver.settle()
        let hasCheckpoint = try communicator.together("checkpoint to go back to") {
            try environment.isRoot && !store.names().isEmpty
        }
        guard try communicator.allReduce(hasCheckpoint ? 1 : 0, .max, "checkpoint to go back to") > 0 else {
            throw exhausted(error, "there is no checkpoint yet to go back to", place)
        }
        let from = state.step + 1
        if environment.isRoot {
            let number = "\(counts.rollbacks) of at most \(recipe.stability.rollbackLimit)"
            environment.logger.warning("\(error.brief): back to the last checkpoint (\(number))\(place)")
        }
        try recorder.event(
            "rollback", step: from, [("reason", .text(error.brief)), ("count", .integer(counts.rollbacks))])
        try restore(replacing: false)
    }

    // MARK: - The bundle

    /// Notes a refused update in the log and writes its bundle. Collective.
    ///
    /// - Returns: the bundle's folder; nil where there are enough already, or where it could not be written: the run has
    ///   worse to report then.
    private func record(_ error: TrainingError, _ report: StepReport) throws -> String? {
        let number = state.step + 1
        try recorder.event(
            "refused", step: number,
            [
                ("reason", .text(error.brief)), ("loss", .number(report.loss)),
                ("gradient_norm", .number(report.gradientNorm)),
                ("policy", .text(recipe.stability.policy.rawValue)),
            ])
        guard counts.bundles < IncidentCounts.mostBundles else { return nil }
        counts.bundles += 1
        do {
            return try writeBundle(error, report)
        } catch let failure as RunFailure {
            // The same on every rank.
            if environment.isRoot { environment.logger.warning("the refused update is not recorded: \(failure)") }
            return nil
        }
    }

    private func writeBundle(_ error: TrainingError, _ report: StepReport) throws -> String {
        let gradients = gradientNorms()
        let communicator = environment.communicator
        let name = CheckpointName(step: state.step + 1)
        let folder = "\(recipe.run.folder)/incidents/\(name)-\(counts.bundles)"
        try communicator.together("incident") {
            if environment.isRoot {
                do {
                    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
                } catch {
                    throw RunLogError(path: folder, reason: systemReason(error))
                }
            }
        }
        let (share, tensors) = try examine()
        let shares = try communicator.gather(coding: share, "incident")
        try communicator.together("incident") {
            try SafetensorsWriter.write(folder + "/" + Incident.rankFile(communicator.rank), tensors)
            guard let shares else { return }
            try write(error, report, gradients, shares, to: folder)
        }
        return folder
    }

    /// Rank 0's files.
    private func write(
        _ error: TrainingError, _ report: StepReport, _ gradients: [Incident.GradientNorm], _ shares: [Incident.Share],
        to folder: String
    ) throws {
        let last = (try? store.names())?.last
        let incident = Incident(
            step: state.step + 1, position: state.position, reason: error.brief, loss: report.loss,
            gradientNorm: report.gradientNorm, learningRate: report.learningRate, seed: recipe.run.seed,
            ranks: environment.communicator.size, passes: recipe.batch.accumulation,
            batch: recipe.batch.global / recipe.batch.accumulation / environment.communicator.size,
            policy: recipe.stability.policy.rawValue, checkpoint: last?.description,
            stepsSinceCheckpoint: last.map { state.step - $0.step }, gradients: gradients, shares: shares)
        try WeightsFile.write(
            folder + "/" + Incident.modelFile,
            network.state.map { (name: $0.name, tensor: $0.value) }
                + objective.parameters.map { (name: $0.name, tensor: $0.value) }, metadata: card.metadata)
        let description = try incident.encoded()
        for (name, bytes) in [(Incident.recipeFile, Data(recipe.yaml.utf8)), (Incident.file, description)] {
            do {
                try bytes.write(to: URL(filePath: folder + "/" + name), options: .atomic)
            } catch {
                throw RunLogError(path: folder + "/" + name, reason: systemReason(error))
            }
        }
    }

    /// Of the refused update, the norm of each parameter's gradient over all ranks.
    private func gradientNorms() -> [Incident.GradientNorm] {
        step.arena.parameters.map { parameter, range in
            let squares = step.reducer.gradients[range].reduce(0.0) { $0 + Double($1) * Double($1) }
            return Incident.GradientNorm(name: parameter.name, norm: squares.squareRoot())
        }
    }

    /// Loads the refused update's images again, which are a function of the position, and computes forward and objective
    /// once more. Collective.
    private func examine() throws -> (Incident.Share, [(name: String, tensor: Tensor)]) {
        let communicator = environment.communicator
        var share = Incident.Share(
            rank: communicator.rank, host: communicator.topology.hostName, labels: [], records: [], keys: [],
            badCentre: firstBadCentre())
        var tensors: [(name: String, tensor: Tensor)] = []
        let loader = makeLoader()
        let passes = recipe.batch.accumulation
        for pass in 0..<passes {
            let batch = try communicator.together("incident") { try loader.next() }
            share.labels.append(batch.labels)
            share.records.append(batch.records)
            share.keys.append(batch.records.map { source.key(of: $0) })
            tensors.append((Incident.images(pass), batch.images.copy()))
            let (embeddings, gradient) = try step.examine(
                StepInput(batch), step: state.step,
                micro: pass, count: passes)
            tensors.append((Incident.embeddings(pass), embeddings))
            tensors.append((Incident.gradient(pass), gradient))
        }
        return (share, tensors)
    }

    private func firstBadCentre() -> Int? {
        let classifier = head.classifier
        return classifier.centres.floats.firstIndex { !$0.isFinite }
            .map { classifier.classRange.lowerBound + $0 / classifier.dimension }
    }
}

extension TrainingError {
    /// What happened, without the advice.
    var brief: String {
        switch self {
        case .nonFinite(let step, let what): "step \(step): \(what) is not finite"
        case .spike(let step, let loss, let median, let factor):
            "step \(step): the loss, \(loss), is more than \(factor) times \(median), the median of the last ones"
        default: description
        }
    }
}
