import Artifacts
import Collectives
import FaceData
import Logging
import Recipes
import Telemetry
import Tensors

/// Writes a run's checkpoints; those on the way behind the training: between two steps the state is copied, and a thread
/// of its own on every rank writes the copy and commits it over a communicator of its own while steps go on
/// (docs/decisions/0011).
///
/// At most one checkpoint is being written. That its writing has ended on every rank is learnt with the control of a
/// step: `hasEnded` goes into the step's flags, and when all ranks have said so they agree on how it went (`settle`). But
/// for `hasEnded` and `abandon`, all functions are collective.
final class RunSaver {
    /// What the thread is given.
    private struct Request: Sendable {
        let step: Int
        let best: Bool
        let share: CheckpointShare
    }

    /// What the thread leaves.
    private final class Outcome: @unchecked Sendable {
        private let monitor = Monitor()
        private var failed = false
        private var result: (committed: CommittedCheckpoint, seconds: Double)?

        func begin() {
            monitor.withLock {
                failed = false
                result = nil
            }
        }

        func fail() { monitor.withLock { failed = true } }

        func succeed(_ committed: CommittedCheckpoint, seconds: Double) {
            monitor.withLock { result = (committed, seconds) }
        }

        /// This rank could not do its own part.
        var hasFailedHere: Bool { monitor.withLock { failed } }
        var value: (committed: CommittedCheckpoint, seconds: Double)? { monitor.withLock { result } }
    }

    /// A checkpoint that was begun and not yet agreed on; the same on every rank.
    private struct Flight {
        let step: Int
        /// What it took from the steps of this rank.
        let stall: Double
    }

    /// The step of the newest checkpoint that this run has committed or started from.
    var savedStep: Int?

    private let recipe: Recipe
    private let environment: RunEnvironment
    private let store: CheckpointStore
    private let recorder: RunRecorder
    private let source: any FaceSource
    private let retention: RetentionPolicy
    private let configHash: String
    private let outcome = Outcome()
    private let snapshot = CheckpointSnapshot()
    /// nil where everything is written at once.
    private let background: BackgroundCollective<Request>?
    private var flight: Flight?
    /// The longest wait for an earlier checkpoint that was told of: twice that is worth another word.
    private var longestWait = 0.0
    /// Warnings that were given: what an earlier save left may stay for the whole run.
    private var given: Set<String> = []

    /// Waits shorter than this are not worth a word.
    private static let noticeableSeconds = 0.1

    init(
        _ recipe: Recipe, _ environment: RunEnvironment, store: CheckpointStore, recorder: RunRecorder,
        source: any FaceSource
    ) throws {
        self.recipe = recipe
        self.environment = environment
        self.store = store
        self.recorder = recorder
        self.source = source
        let retention = RetentionPolicy(keepLast: recipe.checkpoint.keep, keepEvery: recipe.checkpoint.keepEvery)
        let configHash = recorder.recipeHash(recipe)
        self.retention = retention
        self.configHash = configHash
        recorder.toleratesFullDisk = recipe.checkpoint.onError == .warn
        guard RunSetup.savesBehind(recipe) else {
            background = nil
            return
        }
        let (outcome, faults) = (outcome, environment.faults)
        background = try BackgroundCollective<Request>(over: environment.communicator, channel: CollectiveRing.behindChannel) {
            request, channel in
            try RunSaver.write(
                request, to: store, retention: retention, configHash: configHash, source: source, faults: faults,
                over: channel, outcome)
        }
    }

    /// Writes this rank's share and takes part in the commit.
    private static func write(
        _ request: Request, to store: CheckpointStore, retention: RetentionPolicy, configHash: String,
        source: any FaceSource, faults: FaultPlan, over communicator: any Communicator, _ outcome: Outcome
    ) throws {
        let start = monotonicSeconds()
        outcome.begin()
        let committed = try store.save(
            step: request.step, configHash: configHash, retention: retention, best: request.best,
            with: CheckpointContents.coordination(communicator, failedHere: { outcome.fail() })
        ) { files in
            try CheckpointContents.write(request.share, to: files, source: source)
            // In the middle of the transaction: this rank's files are written, but not confirmed.
            faults.reached(.save, step: request.step, rank: communicator.rank)
        }
        outcome.succeed(committed, seconds: monotonicSeconds() - start)
    }

    // MARK: - On the way

    /// Takes the memory for copies before the first step, so that a host without room says so at the start.
    func prepare(_ share: () -> CheckpointShare) {
        if background != nil { _ = snapshot.take(share(), environment.pool) }
    }

    /// The checkpoint that was begun has ended on this rank.
    var hasEnded: Bool {
        guard flight != nil, let background else { return false }
        return !background.isRunning
    }

    /// Begins a checkpoint on the way, or writes it at once where nothing is written behind the training.
    ///
    /// - Parameters:
    ///   - best: makes it the one that `best` names.
    ///   - share: what this rank writes; asked for when the checkpoint before it is done.
    /// - Throws: `RunFailure` if the checkpoint before it failed, and the recipe does not let that pass.
    func save(step: Int, best: Bool, _ share: () throws -> CheckpointShare) throws {
        guard let background else { return try saveNow(step: step, best: best, mustSucceed: false, share) }
        let start = monotonicSeconds()
        if let before = flight {
            try settle()
            let waited = monotonicSeconds() - start
            if waited > max(Self.noticeableSeconds, 2 * longestWait), environment.isRoot {
                longestWait = waited
                environment.logger.notice(
                    """
                    step \(step): waited \((waited * 100).rounded() / 100) s until the checkpoint of step \(before.step) was \
                    written: checkpoint.every_steps is short for this disk
                    """)
            }
        }
        let copy = snapshot.take(try share(), environment.pool)
        recorder.toleratesFullDisk = true
        background.start(Request(step: step, best: best, share: copy))
        flight = Flight(step: step, stall: monotonicSeconds() - start)
    }

    /// Waits for the checkpoint that was begun, if there is one, and agrees on how it went.
    ///
    /// - Parameter isSuperseded: a newer one is saved right after it, so that its failure ends nothing.
    /// - Throws: `RunFailure`, the same on every rank, if it failed and the recipe does not let that pass;
    ///   `CollectiveError`.
    func settle(isSuperseded: Bool = false) throws {
        guard let background, let ended = flight else { return }
        flight = nil
        do {
            try environment.communicator.together("checkpoint", isCause: { outcome.hasFailedHere }) {
                try background.wait()
            }
        } catch let failure as RunFailure {
            recorder.toleratesFullDisk = recipe.checkpoint.onError == .warn
            return try pass(failure, step: ended.step, isSuperseded: isSuperseded)
        }
        recorder.toleratesFullDisk = recipe.checkpoint.onError == .warn
        try record(step: ended.step, stall: ended.stall)
    }

    // MARK: - At once

    /// Writes a checkpoint from where the state lies, while training waits; first lets the one under way end.
    ///
    /// - Parameter mustSucceed: there is no later one.
    func saveNow(step: Int, best: Bool, mustSucceed: Bool = true, _ share: () throws -> CheckpointShare) throws {
        try settle()
        let start = monotonicSeconds()
        let request = Request(step: step, best: best, share: try share())
        do {
            try environment.communicator.together("checkpoint", isCause: { outcome.hasFailedHere }) {
                try Self.write(
                    request, to: store, retention: retention, configHash: configHash, source: source,
                    faults: environment.faults, over: environment.communicator, outcome)
            }
        } catch let failure as RunFailure {
            return try pass(failure, step: step, mustSucceed: mustSucceed)
        }
        try record(step: step, stall: monotonicSeconds() - start)
    }

    // MARK: - How it went

    /// After a failure of any kind but the loss of a rank: lets the checkpoint under way end, and says so if it is there. A
    /// run that ends for another reason must not lose it. Not collective: where this rank alone has failed, the others'
    /// threads go on writing, too.
    func abandon() {
        guard let background, let ended = flight else { return }
        flight = nil
        // Ranks wait for one another until it is there.
        environment.communicator.ring.place.enter(.save, step: ended.step)
        do {
            try background.wait()
            try record(step: ended.step, stall: ended.stall)
        } catch {
            if environment.isRoot || outcome.hasFailedHere {
                environment.logger.warning(
                    "rank \(environment.communicator.rank): the checkpoint of step \(ended.step) was not saved: \(error)")
            }
        }
    }

    /// What a failed save means: the end of the run, or a warning.
    private func pass(
        _ failure: RunFailure, step: Int, mustSucceed: Bool = false, isSuperseded: Bool = false
    ) throws {
        let message = "the checkpoint of step \(step) was not saved: \(failure.message)"
        // Anything but a file that cannot be written is a mistake that would come again.
        let isOfFiles = [ExitCode.cannotWrite, ExitCode.inputOutput].contains(failure.exitCode)
        if isOfFiles, environment.isRoot {
            for path in store.leftovers {
                environment.logger.warning("\(path) is left of a save, cannot be removed for now, and takes room")
            }
        }
        guard recipe.checkpoint.onError == .warn || isSuperseded, isOfFiles, !mustSucceed else {
            throw RunFailure(rank: failure.rank, message: message, exitCode: failure.exitCode)
        }
        if environment.isRoot {
            let whose = failure.rank.map { "rank \($0): " } ?? ""
            let why = isSuperseded ? "a newer one follows" : "training goes on (checkpoint.on_error: warn)"
            environment.logger.warning("\(whose)\(message); \(why)")
        }
        // The newer one may find room, or says itself that there is none.
        let tolerates = recorder.toleratesFullDisk
        if isSuperseded { recorder.toleratesFullDisk = true }
        defer { recorder.toleratesFullDisk = tolerates }
        try recorder.event("checkpoint_failed", step: step, [("reason", .text(failure.message))])
    }

    private func record(step: Int, stall: Double) throws {
        guard let (committed, seconds) = outcome.value else { preconditionFailure("a save without an outcome") }
        savedStep = step
        if environment.isRoot {
            for warning in committed.warnings where given.insert(warning).inserted {
                environment.logger.warning("\(warning)")
            }
        }
        try recorder.saved(committed, step: step, seconds: seconds, stall: stall)
    }
}
