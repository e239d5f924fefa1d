import ArgumentParser
import Collectives
import Foundation
import Logging
import Recipes
import Training

/// The recipe of a command: files, then overrides.
struct RecipeArguments: ParsableArguments {
    @Argument(help: "Recipe files, later ones winning, then overrides as key.path=value.")
    var recipe: [String] = []

    var files: [String] { recipe.filter { !Self.isOverride($0) } }
    var overrides: [String] { recipe.filter(Self.isOverride) }

    /// `a.b=c` sets a key; a file whose name holds '=' can be given as ./name.
    private static func isOverride(_ text: String) -> Bool {
        text.contains("=") && !text.hasPrefix(".") && !text.hasPrefix("/")
    }

    /// Without an argument a run would start that nobody asked for.
    func require() throws {
        if recipe.isEmpty { throw ValidationError("name a recipe, such as configs/quickstart.yaml") }
    }

    /// Reads the recipe, or ends the program with one clear error.
    func read() -> Recipe {
        do {
            return try Recipe(files: files, overrides: overrides)
        } catch {
            Launch.fail(error, Training.ExitCode.of(error))
        }
    }
}

/// Steps as FROM:COUNT.
struct TraceWindow: ExpressibleByArgument {
    var steps: Range<Int>

    init(steps: Range<Int>) { self.steps = steps }

    init?(argument: String) {
        let parts = argument.split(separator: ":", omittingEmptySubsequences: false).map { Int($0) }
        guard parts.count == 2, let from = parts[0], let count = parts[1], (1...1_000_000_000).contains(from),
            (1...1000).contains(count)
        else { return nil }
        steps = from..<from + count
    }

    var defaultValueDescription: String { "\(steps.lowerBound):\(steps.count)" }
}

/// A trace of some steps.
struct TraceOptions: ParsableArguments {
    @Option(help: "Write what every rank did in some steps to this file, for Perfetto and chrome://tracing.")
    var trace: String?

    @Option(help: "The traced steps as FROM:COUNT, counted from 1 at the start of the program.")
    var traceSteps = TraceWindow(steps: 10..<20)

    /// Collective where there is one.
    func make(_ environment: RunEnvironment) throws -> StepTrace? {
        try trace.map { try StepTrace(path: $0, updates: traceSteps.steps, environment) }
    }
}

/// Faults that are injected on purpose.
struct FaultOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Inject a fault, to see what survives it: KIND@key=value,... (repeatable).",
            discussion: """
                KIND: kill, hang, delay (seconds=), nan, disk-full, torn-write, corrupt-record (record=). Where: rank= (every \
                rank), step= (every step), phase= load, step, save or evaluate; how often: times=. \
                Example: --inject kill@rank=1,step=20,phase=save
                """))
    var inject: [String] = []

    func validate() throws {
        do { _ = try FaultPlan(parsing: inject) } catch { throw ValidationError("--inject: \(error)") }
    }

    var plan: FaultPlan { (try? FaultPlan(parsing: inject)) ?? .empty }
}

struct Train: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Train from a recipe.",
        discussion: """
            acuity train configs/quickstart.yaml
            mpirun -np 2 acuity train configs/real-faces.yaml data.train=faces/train.tsv run.folder=runs/first
            acuity train configs/real-faces.yaml data.train=photos head.margin=adaface head.m=0.4

            Heads (head.margin): \(HeadSection.Name.allCases.map(\.rawValue).joined(separator: ", ")). \
            'acuity config show head.margin=NAME' prints the keys of one with their defaults.

            The run folder receives checkpoints, log.jsonl, the resolved recipe and the first batch as a picture.

            SIGTERM, SIGINT and SIGUSR1 end the run after the step at hand, with a checkpoint and exit code 75; SIGTERM or \
            SIGINT two seconds later or more ends it at once. mpirun leaves its ranks one second after SIGTERM or SIGINT and \
            then kills them: send it SIGUSR1, which it hands on.

            When the ranks wait for one another longer than compute.collective_timeout, each says where it is, rank 0 says \
            who is behind, and the run ends with exit code 69.
            """)

    @OptionGroup var recipe: RecipeArguments
    @OptionGroup var session: SessionOptions
    @OptionGroup var tracing: TraceOptions
    @OptionGroup var faults: FaultOptions

    @Option(help: "Train on N images only, spread over the data and repeated, to see whether the loss goes to zero.")
    var overfit: Int?

    func validate() throws {
        try recipe.require()
        if let overfit, overfit < 2 { throw ValidationError("--overfit needs at least two images") }
    }

    func run() throws {
        let recipe = recipe.read()
        try Session.run(
            session, threads: recipe.compute.threads, savesOnSignal: true, watch: Session.Watch(recipe), faults: faults.plan
        ) { environment in
            try environment.announceFaults()
            defer { environment.announceMissedFaults() }
            return try Conclusion.code(
                Trainer(recipe, environment, resume: false, overfit: overfit, trace: tracing.make(environment)))
        }
    }
}

struct Resume: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Continue a run from its newest checkpoint, on any number of ranks.")

    @Argument(help: "The run folder.")
    var folder: String

    @Argument(help: "Overrides as key.path=value, e.g. schedule.max_steps=2000; they stay with the run.")
    var overrides: [String] = []

    @OptionGroup var session: SessionOptions
    @OptionGroup var tracing: TraceOptions
    @OptionGroup var faults: FaultOptions

    func validate() throws {
        func place(_ path: some StringProtocol) -> URL { URL(filePath: String(path)).standardizedFileURL }
        if let other = overrides.last(where: { $0.hasPrefix("run.folder=") }), place(other.dropFirst(11)) != place(folder) {
            throw ValidationError("the run stays in \(folder): leave out run.folder, or move the folder and resume it there")
        }
    }

    func run() throws {
        let stored = folder + "/recipe.yaml"
        guard FileManager.default.fileExists(atPath: stored) else {
            let error = TrainingError.notARun(folder: folder, reason: "it has no recipe.yaml")
            Launch.fail(error, Training.ExitCode.of(error))
        }
        let recipe = read(stored)
        try Session.run(
            session, threads: recipe.compute.threads, savesOnSignal: true, watch: Session.Watch(recipe), faults: faults.plan
        ) { environment in
            try environment.announceFaults()
            defer { environment.announceMissedFaults() }
            return try Conclusion.code(Trainer(recipe, environment, resume: true, trace: tracing.make(environment)))
        }
    }

    private func read(_ file: String) -> Recipe {
        do {
            var recipe = try Recipe(files: [file], overrides: overrides)
            recipe.run.folder = folder
            return recipe
        } catch {
            Launch.fail(error, Training.ExitCode.of(error))
        }
    }
}

extension Session.Watch {
    init(_ recipe: Recipe) { self.init(limit: recipe.compute.collectiveTimeout, folder: recipe.run.folder) }
}

extension RunEnvironment {
    /// Nobody shall take a run with injected faults for an ordinary one.
    ///
    /// - Throws: `RunFailure` for a fault of a rank that there is not.
    func announceFaults() throws {
        for fault in faults.faults {
            if let rank = fault.rank, rank >= communicator.size {
                throw RunFailure(
                    rank: nil, message: "--inject \(fault): there are \(communicator.size) ranks, from 0 on",
                    exitCode: Training.ExitCode.usage)
            }
            if isRoot { logger.warning("a fault will be injected: \(fault)") }
        }
    }

    /// A fault that never struck has proved nothing.
    func announceMissedFaults() {
        for fault in faults.missed(rank: communicator.rank) { logger.warning("never struck: \(fault)") }
    }
}

/// How a run ends in an exit code and a line.
enum Conclusion {
    static func code(_ trainer: Trainer) throws -> Int32 {
        switch try trainer.run() {
        case .complete:
            trainer.conclude("complete")
            return Training.ExitCode.success
        case .stopped(let limit):
            trainer.conclude("stopped by \(limit)")
            return Training.ExitCode.success
        case .interrupted:
            trainer.conclude("interrupted, saved; continue with 'acuity resume \(trainer.recipe.run.folder)'")
            return Training.ExitCode.tryAgain
        }
    }
}
