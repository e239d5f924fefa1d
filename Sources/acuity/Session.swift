import ArgumentParser
import Collectives
import Foundation
import Logging
import MPICollectives
import Recipes
import Synchronization
import Telemetry
import Tensors
import Training

extension ProgressStyle: ExpressibleByArgument {}

/// swift-log's levels, as an option.
enum LogLevel: String, CaseIterable, ExpressibleByArgument {
    case debug, info, notice, warning, error

    var level: Logger.Level { Logger.Level(rawValue: rawValue)! }
}

/// What every command that computes takes.
struct SessionOptions: ParsableArguments {
    @Option(help: "How progress is shown: auto, bar, lines, never.")
    var progress: ProgressStyle = .auto

    @Option(help: "The least severe log lines shown: debug, info, notice, warning, error.")
    var logLevel: LogLevel = .info

    @Option(help: "Threads per rank; by default the processors of the affinity mask, shared by the ranks of the host.")
    var threads: Int?

    @Option(
        help: """
            Seconds after which a collective operation counts as lost; 600 by default, in training runs \
            compute.collective_timeout.
            """)
    var collectiveTimeout: Double?

    func validate() throws {
        if let threads, !(1...4096).contains(threads) { throw ValidationError("--threads must lie in 1...4096") }
        if let collectiveTimeout, !(collectiveTimeout > 0 && collectiveTimeout < 1e8) {
            throw ValidationError("--collective-timeout must be positive")
        }
    }
}

/// Runs a command on all ranks of the job: joins the ranks, prints the first error once, ends with its exit code.
enum Session {
    /// What the watchdog of a training run needs to know.
    struct Watch {
        /// Seconds that a collective of a step may take; `options.collectiveTimeout` wins.
        var limit: Double
        /// Where the ranks leave their reports.
        var folder: String
    }

    /// Seconds that a collective of any other command may take.
    private static let usualLimit = 600.0

    /// - Parameters:
    ///   - threads: what a recipe says; `options.threads` wins.
    ///   - savesOnSignal: the body looks at `stopRequested`; otherwise a signal ends the program at once, as usual.
    ///   - watch: of a training run, whose phases differ in how long the ranks may wait for one another.
    ///   - body: the command; its result is the exit code.
    static func run(
        _ options: SessionOptions, threads: Int? = nil, savesOnSignal: Bool = false, watch: Watch? = nil,
        faults: FaultPlan = .empty, _ body: (RunEnvironment) throws -> Int32
    ) throws -> Never {
        if savesOnSignal { Signals.install() }
        signal(SIGPIPE, SIG_IGN)
        let limit = options.collectiveTimeout ?? watch?.limit ?? usualLimit
        let mpi: MPICommunicator?
        do {
            // The watchdog is the one to speak; what it lets pass ends here.
            let deadline = Watchdog.longest(limit: limit) + 60
            mpi = try MPIEnvironment.launched ? .initialize(.init(deadline: deadline)) : nil
        } catch {
            Launch.fail(error, Training.ExitCode.of(error))
        }
        let communicator: any Communicator = mpi ?? SoloCommunicator()
        let watchdog = mpi.flatMap { startWatchdog($0, limit: limit, folder: watch?.folder) }
        let environment = environment(
            options, communicator, threads: options.threads ?? threads, watchdog: watchdog, faults: faults)
        do {
            let code = try body(environment)
            try mpi?.finalize()
            exit(code)
        } catch let failure as RunFailure {
            // Every rank has it; rank 0 speaks for all.
            if communicator.rank == 0 { complain(prefix(failure.rank, communicator) + failure.message) }
            try? mpi?.finalize()
            exit(failure.exitCode)
        } catch {
            complain(prefix(communicator.rank, communicator) + "\(error)")
            if let mpi {
                // Who is missing, in the words of all ranks that are left.
                if error is CollectiveError { watchdog?.fail("\(error)") }
                mpi.abort(Training.ExitCode.of(error))
            }
            exit(Training.ExitCode.of(error))
        }
    }

    /// Nobody waits for anybody where there is one rank.
    private static func startWatchdog(_ mpi: MPICommunicator, limit: Double, folder: String?) -> Watchdog? {
        guard mpi.size > 1 else { return nil }
        do {
            return try Watchdog(
                over: mpi,
                .init(
                    limit: limit, folder: folder,
                    say: { FileHandle.standardError.write(Data("watchdog: \($0)\n".utf8)) },
                    end: { mpi.abort(Training.ExitCode.peerLost) }))
        } catch {
            complain(prefix(mpi.rank, mpi) + "\(error)")
            mpi.abort(Training.ExitCode.of(error))
        }
    }

    private static func prefix(_ rank: Int?, _ communicator: any Communicator) -> String {
        guard let rank, communicator.size > 1 else { return "" }
        return "rank \(rank): "
    }

    static func complain(_ text: String) { FileHandle.standardError.write(Data("error: \(text)\n".utf8)) }
    static func warn(_ text: String) { FileHandle.standardError.write(Data("warning: \(text)\n".utf8)) }

    private static func environment(
        _ options: SessionOptions, _ communicator: any Communicator, threads: Int?, watchdog: Watchdog?,
        faults: FaultPlan
    ) -> RunEnvironment {
        let level = communicator.rank == 0 ? options.logLevel.level : max(.warning, options.logLevel.level)
        let logger = Logger(label: "acuity") { StandardErrorLog(label: $0, level: level) }
        // Ranks that are bound have processors of their own; ranks that share all of them divide them.
        let available = ThreadPool.availableProcessors
        let online = ProcessInfo.processInfo.processorCount
        let sharers = available >= online ? communicator.topology.localSize : 1
        let count = threads ?? max(1, available / sharers)
        if count * communicator.topology.localSize > max(online, available), communicator.rank == 0 {
            logger.warning(
                "\(communicator.topology.localSize) ranks with \(count) threads each on \(online) processors: oversubscribed")
        }
        return RunEnvironment(
            communicator: communicator, pool: ThreadPool(threads: count), logger: logger, progress: options.progress,
            stopRequested: { Signals.stopRequested }, watchdogSeconds: { watchdog?.seconds ?? 0 }, faults: faults)
    }
}

/// SIGTERM, SIGINT and SIGUSR1 ask for a stop at the next step boundary; SIGTERM or SIGINT after that leaves at once. SIGUSR1,
/// which launchers send, says the same however often it comes: several of them may ask.
///
/// One request may arrive more than once: launchers signal every process of a job or of its group, and those that started
/// this one (a container's parent process, a shell) pass on what they get. So what comes right after the first is the first.
enum Signals {
    /// When the first one came, nanoseconds of the monotonic clock; 0 before. Two threads may be interrupted at once.
    private static let first = Atomic<UInt64>(0)
    /// What a second signal says; made beforehand, because a handler may not allocate.
    private nonisolated(unsafe) static var farewell = UnsafeMutableBufferPointer<UInt8>(start: nil, count: 0)

    /// For how long after the first one a signal is a repetition, nanoseconds.
    private static var repetition: UInt64 { 2_000_000_000 }

    static var stopRequested: Bool { first.load(ordering: .relaxed) > 0 }

    static func install() {
        // Also makes it, which is not for a handler to do.
        first.store(0, ordering: .relaxed)
        let text = "a second signal: leaving at once, without saving; 'acuity resume' goes on from the last checkpoint\n"
        farewell = .allocate(capacity: text.utf8.count)
        _ = farewell.initialize(fromContentsOf: Array(text.utf8))
        for number in [SIGTERM, SIGINT, SIGUSR1] {
            signal(number) { Signals.receive($0) }
        }
    }

    /// In a handler: calls nothing that is not async-signal-safe.
    private static func receive(_ number: Int32) {
        let now = MonotonicClock.nanoseconds
        let (isFirst, earlier) = first.compareExchange(expected: 0, desired: now, ordering: .relaxed)
        if isFirst || number == SIGUSR1 || now < earlier + repetition { return }
        write(STDERR_FILENO, farewell.baseAddress, farewell.count)
        _exit(75)
    }
}
