import Artifacts
import Collectives
package import Evaluation
import FaceData
import Layers
import Logging
package import Networks
package import Objectives
package import Recipes
import Telemetry
import Tensors

/// A training run from a recipe: data, network, head, the loop, and on rank 0 everything a user sees.
package final class Trainer {
    package enum Ending: Equatable {
        case complete
        /// A signal, `max_steps` or `max_time` ended it; a checkpoint was saved.
        case stopped(String)
        /// Asked to stop by a signal: run again.
        case interrupted
    }

    package let recipe: Recipe
    let environment: RunEnvironment
    let source: any FaceSource
    package let network: Network
    package let head: MarginClassification
    /// What is learnt, the head and what the recipe adds to it.
    package let objective: ObjectiveStack
    package let step: TrainingStep
    let sampler: EpochSampler
    let evaluator: RunEvaluator
    let store: CheckpointStore
    let recorder: RunRecorder
    package private(set) var state: RunState
    /// Evaluation reports of rank 0, by set, of the last evaluation.
    package private(set) var reports: [String: VerificationReport] = [:]
    let card: ModelFile.Card
    private let lock: HeldLock?
    let saver: RunSaver
    /// The last evaluation gave the best accuracy so far, and its checkpoint has yet to be begun.
    private var isBest = false
    /// Records that could not be read, of all ranks; the same on every rank.
    private var damaged: Set<Int> = []
    /// Resumed from a checkpoint of another number of ranks: saved again even if no step is left.
    private var isTakenOver = false
    /// What a refused update must not leave behind; nil where such an update ends the run.
    private(set) var keeper: RefusalKeeper?
    var counts = IncidentCounts()
    var rankTimes = RankTimes()
    /// The host of each rank.
    private(set) var hosts: [String] = []
    /// Updates made by this process.
    private var made = 0
    /// Hashes of what is learnt from, by the recipe's key.
    let origins: [String: String]
    /// The images' key among them.
    private static let images = "data.train"

    package var totalSteps: Int { min(step.schedule.totalSteps, recipe.schedule.maxSteps ?? .max) }

    /// Sets a run up on all ranks; nothing is trained yet.
    ///
    /// - Parameters:
    ///   - resume: continue from the newest checkpoint of `recipe.run.folder`; otherwise the folder must hold no run.
    ///   - overfit: train on N images only, spread over the data; a resumed run keeps its own.
    ///   - trace: records some of the updates.
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    package init(
        _ recipe: Recipe, _ environment: RunEnvironment, resume: Bool, overfit: Int? = nil, trace: StepTrace? = nil
    ) throws {
        self.recipe = recipe
        self.environment = environment
        let communicator = environment.communicator
        let ranks = communicator.size
        communicator.ring.place.enter(.load, step: 0)
        try Self.compareRecipes(recipe, environment)

        let overfit =
            try overfit
            ?? communicator.together("checkpoint") {
                resume ? CheckpointContents.overfit(ofRun: recipe.run.folder, environment.fileSystem) : nil
            }
        // What can be wrong with the recipe or the data is found before anything is written.
        let opened = try RunSetup.sourceWithRebuiltIndex(recipe.data, environment)
        let (network, source) = try communicator.together("set-up") {
            let network = try RunSetup.network(recipe)
            let passes = recipe.batch.accumulation
            guard recipe.batch.global % (passes * ranks) == 0 else {
                throw TrainingError.batchNotDivisible(
                    global: recipe.batch.global, accumulation: passes, ranks: ranks)
            }
            var source = try Self.selected(opened ?? RunSetup.source(recipe.data), recipe, overfit: overfit)
            let corrupt = environment.faults.corruptRecords(rank: communicator.rank)
            if let last = corrupt.max(), last >= source.count {
                throw TrainingError.incompatible(
                    "--inject corrupt-record@record=\(last): there are \(source.count) records, from 0 on")
            }
            if !corrupt.isEmpty { source = DamagedSource(source, records: corrupt) }
            return (network, source)
        }
        try Self.compareData(source, communicator)
        self.network = network
        self.source = source
        card = ModelFile.Card(
            specification: network.specification, preprocessing: RunSetup.preprocessing(recipe))
        let batch = recipe.batch.global / recipe.batch.accumulation / ranks
        sampler = try communicator.together("sampler") {
            var data = recipe.data
            if overfit != nil { (data.sampling, data.shuffle) = (.records, .full) }
            return try RunSetup.sampler(recipe, data, source, passBatch: batch * ranks)
        }
        let (disk, planned) = (environment.fileSystem, environment.faults)
        let store = CheckpointStore(
            runFolder: recipe.run.folder,
            fileSystem: planned.isEmpty ? disk : InjectedDisk(disk, planned, rank: communicator.rank))
        self.store = store
        lock = try communicator.together("run folder") {
            try Self.checkPlace(recipe)
            return environment.isRoot ? HeldLock(try Self.claim(recipe.run.folder, store, resume: resume)) : nil
        }
        let folder = recipe.run.folder
        let recorder = try communicator.together("run log") { try RunRecorder(folder: folder, environment) }
        self.recorder = recorder
        saver = try RunSaver(recipe, environment, store: store, recorder: recorder, source: source)

        network.initialize(seed: recipe.run.seed)
        try communicator.together("initial weights") {
            if !resume { try Self.loadWeights(network, recipe, environment) }
            try Self.checkFactors(network, recipe)
        }
        let schedule = LearningRateSchedule(
            recipe.schedule, recipe.optimizer, globalBatch: recipe.batch.global,
            stepsPerEpoch: max(1, sampler.stepsPerEpoch / recipe.batch.accumulation))
        let (objectives, margin) = try communicator.together("objectives") {
            let objectives = try RunSetup.objectives(recipe, source: source, batch: batch, environment)
            let margin = objectives.margin ?? RunSetup.margin(recipe.head, seed: recipe.run.seed, ranks: ranks)
            try RunSetup.check(recipe, objectives.added, margin)
            return (objectives, margin)
        }
        origins = objectives.origins.merging([
            Self.images: RunSetup.hexadecimal(Consistency.fingerprint(source, recordKeys: false).hash)
        ]) { own, _ in own }
        if !resume {
            try communicator.together("initial weights") {
                try Self.loadWeights(of: objectives.added.flatMap(\.parameters), recipe, environment)
            }
        }
        let storage = try communicator.together("head storage") {
            try RunSetup.storage(recipe, classes: source.classCount, rank: communicator.rank, ranks: ranks)
        }
        let head = MarginClassification(
            ShardedClassifier<Float>(
                classes: source.classCount, dimension: recipe.network.embedding,
                batch: objectives.demand.classified * batch,
                margin: margin, communicator: communicator,
                pool: environment.pool, seed: recipe.run.seed, initializer: RunSetup.initializer(recipe.head),
                frozen: recipe.freezesHead, keepsGradient: RunSetup.keepsCentreGradient(recipe),
                sampling: RunSetup.sampling(recipe.head), storage: storage), pool: environment.pool,
            decaysBias: !recipe.optimizer.decayExempt.contains("bias"))
        self.head = head
        objective = ObjectiveStack(
            head, objectives.added, demand: objectives.demand, classifies: recipe.objectives.classifies)
        let cache = try RunSetup.teacherCache(recipe, objectives.teacher, source, environment)
        let step = try TrainingStep(
            network: network, objective: objective, communicator: communicator, pool: environment.pool, batch: batch,
            recipe: recipe, schedule: schedule, teacher: objectives.teacher, cache: cache)
        step.trace = trace
        let (faults, rank) = (environment.faults, communicator.rank)
        if !faults.isEmpty { step.poison = { faults.due(.nan, .step, step: $0 + 1, rank: rank) != nil } }
        if let factor = recipe.stability.spikeFactor {
            step.spikes = SpikeGuard(factor: factor, window: recipe.stability.spikeWindow)
        }
        self.step = step
        state = RunState(
            seed: recipe.run.seed, worldSize: ranks, classes: source.classCount, images: source.count)
        state.origins = origins
        state.overfit = overfit
        evaluator = try communicator.together("evaluation sets") {
            try RunEvaluator(
                recipe, network: network, preprocessing: RunSetup.preprocessing(recipe), within: step.execution,
                environment)
        }
        if recipe.stability.policy != .stop { keeper = RefusalKeeper(network.buffers, head) }
        hosts = try Consistency.hosts(communicator)
        if resume { try restore(replacing: true) }
        try shareParameters()
        if !resume {
            startFollower()
            try startHead()
            environment.faults.reached(.load, step: state.step, rank: communicator.rank)
        }
        if environment.isRoot { describe(overfit: overfit) }
    }

    // MARK: - Going on

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

    /// Rank 0 has the warnings of all ranks.
    func warn(_ warnings: [String]) {
        guard environment.isRoot else { return }
        for warning in warnings { environment.logger.warning("\(warning)") }
    }

    /// All ranks start from rank 0's bytes, whatever their own say.
    private func shareParameters() throws {
        for entry in network.state {
            if case .buffer = entry, state.step > 0 { continue }
            try environment.communicator.broadcast(entry.value.bytes, root: 0, "parameters")
        }
        for parameter in objective.parameters {
            try environment.communicator.broadcast(parameter.value.bytes, root: 0, "parameters")
        }
    }

    // MARK: - The loop

    /// Trains to the end, to a limit, or until asked to stop; saves and evaluates on the way.
    package func run() throws -> Ending {
        defer { lock?.release() }
        defer { step.trace?.abandon() }
        do {
            return try train()
        } catch let failure as RunFailure {
            saver.abandon()
            throw failure
        }
    }

    private func train() throws -> Ending {
        let communicator = environment.communicator
        recorder.start(
            every: recipe.log.everySteps, total: totalSteps, first: state.step, images: recipe.batch.global)
        if state.step == 0 {
            try communicator.together("recipe") {
                if environment.isRoot { try recorder.saveRecipe(recipe) }
            }
            // The folder may hold the log of a run that ended before it had a checkpoint.
            try recorder.event(
                "start", step: 0, [("ranks", .integer(communicator.size)), ("version", .text(ModelFile.version))])
            if recipe.evaluation.atStart { try evaluate() }
            // An untrained network is no best one.
            if isBest { (isBest, state.bestAccuracy) = (false, nil) }
        }
        saver.prepare { checkpointShare(RunningStatistics(network.buffers)) }
        var loader = makeLoader()
        recorder.restartClock()
        let deadline = recipe.schedule.maxTime.map { monotonicSeconds() + $0 }
        var ending: Ending?
        saver.savedStep = isTakenOver ? nil : state.step
        while state.step < totalSteps, ending == nil {
            guard let report = try update(loader, deadline: deadline) else {
                // The run is back at a checkpoint.
                loader = makeLoader()
                saver.savedStep = state.step
                continue
            }
            if report.flags.stop > 0 {
                ending = .interrupted
                if environment.isRoot {
                    environment.logger.notice(
                        "\(report.flags.stop) rank(s) were asked to stop by a signal: saving after step \(state.step)")
                }
            }
            if report.flags.timeUp > 0 { ending = .stopped("max_time") }
            if let every = recipe.evaluation.everySteps, state.step % every == 0, state.step < totalSteps, ending == nil {
                try evaluate()
            }
            let isDue = recipe.checkpoint.everySteps.map { state.step % $0 == 0 } ?? false
            if isDue || isBest, state.step < totalSteps, ending == nil {
                try prepareSave()
                try saver.save(step: state.step, best: isBest) { checkpointShare(try averagedStatistics()) }
                isBest = false
            } else if report.flags.saved == communicator.size {
                try saver.settle()
            }
        }
        recorder.finish()
        adviseOnData(loader.times)
        try step.trace?.finish()
        if ending != .interrupted { try evaluate() }
        communicator.ring.place.enter(.save, step: state.step)
        try saver.settle(isSuperseded: true)
        if saver.savedStep != state.step || isBest { try save() }
        let share = recorder.dataWaitShare.map { [("data_wait_share", LogValue.number($0))] } ?? []
        try recorder.event("end", step: state.step, [("ending", .text("\(ending ?? .complete)"))] + share)
        if let ending { return ending }
        return totalSteps < step.schedule.totalSteps ? .stopped("max_steps") : .complete
    }

    func makeLoader() -> BatchLoader {
        BatchLoader(
            source: source, sampler: sampler, rank: environment.communicator.rank,
            worldSize: environment.communicator.size, position: state.position, options: RunSetup.loaderOptions(recipe))
    }

    /// Another update, made or left out.
    func advance(to position: Int, skipped: Int? = nil) {
        state.step += 1
        state.position = position
        if let skipped { state.skippedUpdates = skipped }
    }

    /// - Returns: nil where the run went back to a checkpoint instead.
    private func update(_ loader: BatchLoader, deadline: Double?) throws -> StepReport? {
        let communicator = environment.communicator
        // The first update makes what the others use again, and takes longer.
        communicator.ring.place.enter(made == 0 ? .load : .step, step: state.step + 1)
        made += 1
        let start = monotonicSeconds()
        rankTimes.begin(communicator.ring)
        environment.faults.reached(.step, step: state.step + 1, rank: communicator.rank)
        keeper?.keep()
        var flags = StepFlags()
        var last: Batch?
        var found: [QuarantinedRecord] = []
        let report: StepReport
        do {
            report = try step.update(
                step: state.step, count: recipe.batch.accumulation,
                flags: {
                    if environment.stopRequested() { flags.stop = 1 }
                    if environment.isRoot, let deadline, monotonicSeconds() > deadline { flags.timeUp = 1 }
                    if saver.hasEnded { flags.saved = 1 }
                    return flags
                },
                input: { _ in
                    let batch = try loader.next()
                    let new = batch.quarantined.filter { !damaged.contains($0.record) }
                    found += new
                    flags.quarantined += new.count
                    flags.dataWait += batch.waitSeconds
                    last = batch
                    return StepInput(batch)
                })
        } catch let error as TrainingError {
            // Every rank has come to it from the same sums.
            guard let last else { throw RunFailure(error) }
            return try respond(to: error, next: last.nextPosition, found: found)
        }
        guard let last else { preconditionFailure("an update without a batch") }
        if state.step == 0, environment.isRoot { try recorder.saveFirstBatch(last, recipe) }
        advance(to: last.nextPosition)
        try recorder.record(report, state: state, ranks: communicator.size)
        try noteTimes(
            report, seconds: monotonicSeconds() - start, dataWait: flags.dataWait, isFirst: made == 1)
        if recipe.run.checkEvery > 0, state.step % recipe.run.checkEvery == 0 { try compareParameters() }
        if report.flags.quarantined > 0 { try shareDamage(found) }
        return report
    }

    /// Adds the damaged records that the ranks have found to those that all know: a record counts once, whichever ranks
    /// meet it in whichever epoch.
    func shareDamage(_ found: [QuarantinedRecord]) throws {
        damaged.formUnion(try sharedDamage(found, known: damaged, step: state.step - 1))
        state.damagedRecords = damaged.sorted()
        if damaged.count > recipe.data.quarantineLimit {
            // Known to all ranks, so all stop here.
            throw RunFailure(
                TrainingError.quarantineLimit(count: damaged.count, limit: recipe.data.quarantineLimit))
        }
    }

    // MARK: - Saving and evaluating

    private func averagedStatistics() throws -> RunningStatistics {
        try RunningStatistics(network.buffers).averaged(environment.communicator)
    }

    private func checkpointShare(_ averaged: RunningStatistics) -> CheckpointShare {
        CheckpointContents.share(state: state, step: step, head: head, averaged: averaged, card: card)
    }

    /// What comes before a checkpoint: what differs between the ranks must not become what the run goes on from.
    private func prepareSave() throws {
        environment.communicator.ring.place.enter(.save, step: state.step)
        if recipe.run.checkEvery > 0 { try compareParameters() }
        state.recentLosses = step.spikes?.losses
    }

    /// Writes a checkpoint of the present step on all ranks, and returns when it is there.
    package func save() throws {
        try prepareSave()
        try saver.saveNow(step: state.step, best: isBest) { checkpointShare(try averagedStatistics()) }
        isBest = false
    }

    /// Evaluates all sets with averaged statistics.
    package func evaluate() throws {
        guard !evaluator.sets.isEmpty else { return }
        environment.communicator.ring.place.enter(.evaluate, step: state.step)
        environment.faults.reached(.evaluate, step: state.step, rank: environment.communicator.rank)
        let own = RunningStatistics(network.buffers)
        try averagedStatistics().apply(to: network.buffers)
        defer { own.apply(to: network.buffers) }
        let results = try evaluator.run()
        let keptBest = recipe.checkpoint.keepBest
        if state.bestSet != keptBest { (state.bestSet, state.bestAccuracy) = (keptBest, nil) }
        isBest = false
        for (set, report) in results {
            guard let report else { continue }
            reports[set.name] = report
            try recorder.evaluated(report, step: state.step)
            if set.name == keptBest ?? evaluator.sets[0].set.name {
                isBest = keptBest != nil && report.accuracy.mean > state.bestAccuracy ?? -1
                state.bestAccuracy = max(state.bestAccuracy ?? 0, report.accuracy.mean)
            }
        }
        // Rank 0 alone has the reports.
        let best: Int = isBest ? 1 : 0
        if keptBest != nil { isBest = try environment.communicator.allReduce(best, .max, "best accuracy") > 0 }
    }
}
