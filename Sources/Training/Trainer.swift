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
    package internal(set) var state: RunState
    /// Evaluation reports of rank 0, by set, of the last evaluation.
    package internal(set) var reports: [String: VerificationReport] = [:]
    let card: ModelFile.Card
    private let lock: HeldLock?
    let saver: RunSaver
    /// The last evaluation gave the best accuracy so far, and its checkpoint has yet to be begun.
    var isBest = false
    /// Records that could not be read, of all ranks; the same on every rank.
    var damaged: Set<Int> = []
    /// Resumed from a checkpoint of another number of ranks: saved again even if no step is left.
    var isTakenOver = false
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
    static let images = "data.train"

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
        self.environment = environment
        let communicator = environment.communicator
        let ranks = communicator.size
        communicator.ring.place.enter(.load, step: 0)
        try Self.compareRecipes(recipe, environment)
        let recipe = resume ? recipe : try RunSetup.withTeacherFile(recipe, environment)
        self.recipe = recipe

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
            return environment.isRoot ? HeldLock(try Self.claim(recipe.run.folder, store, resume: resume, environment)) : nil
        }
        let folder = recipe.run.folder
        let recorder = try communicator.together("run log") { try RunRecorder(folder: folder, environment) }
        self.recorder = recorder
        saver = try RunSaver(recipe, environment, store: store, recorder: recorder, source: source)

        network.initialize(seed: recipe.run.seed)
        let weights = try communicator.together("initial weights") {
            resume ? nil : try Self.weights(recipe, environment)
        }
        try communicator.together("initial weights") {
            if let weights { try Self.loadWeights(weights, network, recipe, environment) }
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
        try Self.compareOrigins(origins, communicator)
        if let weights {
            try communicator.together("initial weights") {
                try Self.loadWeights(weights, of: objectives.added.flatMap(\.parameters), environment)
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

    // MARK: - The loop

    /// Trains to the end, to a limit, or until asked to stop; saves and evaluates on the way.
    package func run() throws -> Ending {
        defer { lock?.release() }
        defer { step.trace?.abandon() }
        do {
            return try train()
        } catch {
            // Without one of the ranks no checkpoint can be completed.
            if !(error is CollectiveError) { saver.abandon() }
            throw error
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
            // There is nothing to save yet: asked to stop here, the run makes its first update.
            if recipe.evaluation.atStart { _ = try evaluate() }
            // An untrained network is no best one.
            if isBest { (isBest, state.bestAccuracy) = (false, nil) }
        }
        prepareSaving()
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
            if let every = recipe.evaluation.everySteps, state.step % every == 0, state.step < totalSteps, ending == nil,
                try evaluate()
            {
                ending = .interrupted
            }
            let isDue = recipe.checkpoint.everySteps.map { state.step % $0 == 0 } ?? false
            if isDue || isBest, state.step < totalSteps, ending == nil {
                try saveOnTheWay()
            } else if report.flags.saved == communicator.size {
                try saver.settle()
            }
        }
        recorder.finish()
        adviseOnData(loader.times)
        try step.trace?.finish()
        if try finish(evaluating: ending != .interrupted) { ending = .interrupted }
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
}
