package import Collectives
import Foundation
import Logging
import Telemetry
import Tensors

/// A trace of a few updates: what every rank did when, in one file that a viewer opens.
///
/// The ranks' clocks are compared right before the first traced update; before the one that follows the last, rank 0 gathers
/// the events and writes them, so that what happens to the run later does not matter. A run that fails sooner leaves each
/// rank's own events: rank 0's in the file, those of rank R in a file beside it that ends with `.rank-R`.
package final class StepTrace {
    package let path: String
    /// The traced updates, counted from 1 at the program's start.
    package let updates: Range<Int>
    package let recorder: TraceRecorder

    private let communicator: any Communicator
    private let logger: Logger
    private var made = 0
    private var origin: Int64 = 0
    private var uncertainty: Int64 = 0
    private var phase = Phase.before
    private var numbers: ClosedRange<Int>?

    private enum Phase { case before, recording, recorded, over }

    /// Slices of one update that there is room for: phases, buckets, collectives.
    private static let slicesPerUpdate = 1024

    /// Collective. Makes the file, so that a path that cannot be written ends the run before it begins.
    ///
    /// - Throws: `RunFailure`, the same on every rank.
    package init(path: String, updates: Range<Int>, _ environment: RunEnvironment) throws {
        precondition(updates.lowerBound > 0 && !updates.isEmpty, "a trace of the updates \(updates)")
        self.path = path
        self.updates = updates
        communicator = environment.communicator
        logger = environment.logger
        recorder = TraceRecorder(capacity: Self.slicesPerUpdate * updates.count, steps: updates.count)
        let isRoot = environment.isRoot
        try communicator.together("trace") {
            if isRoot { try Self.write(TraceEvents.document([], summary: []), to: path) }
        }
    }

    // MARK: - Recording

    /// Runs one update, and records it if it is one of those.
    func record(step: Int, _ body: () throws -> StepReport) throws -> StepReport {
        made += 1
        if phase == .recorded { try finish() }
        guard updates.contains(made) else { return try body() }
        if made == updates.lowerBound { try begin() }
        numbers = (numbers?.lowerBound ?? step)...step
        let report = try Optional(recorder).slice("step", number: step) { try body() }
        recorder.add(
            TraceRecorder.Reduction(
                step: step, end: MonotonicClock.nanoseconds, seconds: report.reduceSeconds,
                exposed: min(report.reduceWait, report.reduceSeconds)))
        if made + 1 == updates.upperBound { end() }
        return report
    }

    private func begin() throws {
        let offsets = try ClockOffset.measure(communicator)
        uncertainty = offsets.map(\.uncertainty).max() ?? 0
        var start = Int64(MonotonicClock.nanoseconds)
        try withUnsafeMutableBytes(of: &start) { try communicator.broadcast($0, root: 0, "trace") }
        origin = start + offsets[communicator.rank].nanoseconds
        communicator.ring.trace(into: recorder)
        recorder.start()
        phase = .recording
    }

    private func end() {
        recorder.stop()
        communicator.ring.trace(into: nil)
        phase = .recorded
    }

    private var events: String {
        TraceEvents(rank: communicator.rank, hostName: communicator.topology.hostName, origin: origin).json(recorder)
    }

    // MARK: - Writing

    /// Gathers and writes what was recorded, unless that has been done. Collective; says on rank 0 what is in the file.
    ///
    /// - Throws: `RunFailure`, the same on every rank; `CollectiveError`.
    package func finish() throws {
        if phase == .over { return }
        if phase == .before {
            phase = .over
            if communicator.rank == 0 {
                logger.warning(
                    "\(path): nothing was traced: there were \(made) updates, the trace begins with number \(updates.lowerBound)"
                )
            }
            return
        }
        end()
        let overlap = try overlap()
        let lost = try communicator.allReduce(recorder.lostCount, .sum, "trace")
        let parts = try communicator.gather(Array(events.utf8), root: 0, "trace")
        let path = path
        let clocks = "hosts' clocks agree within \((Double(uncertainty) / 1e3).rounded()) us"
        try communicator.together("trace") {
            guard let parts else { return }
            let document = TraceEvents.document(
                parts.map { String(decoding: $0, as: UTF8.self) }, summary: [("overlap", overlap), ("clocks", clocks)])
            try Self.write(document, to: path)
        }
        phase = .over
        guard communicator.rank == 0, let numbers else { return }
        let notes =
            (communicator.topology.hosts > 1 ? ", \(clocks)" : "") + (lost > 0 ? ", no room for \(lost) events" : "")
        logger.info(
            "\(path): steps \(numbers.lowerBound) to \(numbers.upperBound) of \(communicator.size) rank(s)\(notes)")
        logger.info("overlap: \(overlap)")
    }

    /// Writes this rank's own events where `finish` has not been reached. Not collective.
    package func abandon() {
        guard phase == .recording || phase == .recorded else { return }
        end()
        phase = .over
        let rank = communicator.rank
        let summary = [(name: "incomplete", text: "the run failed; this is rank \(rank) only")]
        let document = TraceEvents.document([events], summary: summary)
        try? Self.write(document, to: rank == 0 ? path : "\(path).rank-\(rank)")
    }

    /// How much of the reduction backward has hidden: means over steps and ranks.
    private func overlap() throws -> String {
        let reductions = recorder.reductions
        var sums = [
            reductions.reduce(0) { $0 + $1.seconds }, reductions.reduce(0) { $0 + $1.exposed },
            Double(reductions.count),
        ]
        try sums.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "trace") }
        let (seconds, exposed, count) = (sums[0], sums[1], sums[2])
        guard communicator.size > 1, seconds > 0 else { return "nothing to reduce on one rank" }
        return String(
            format: "%.0f %% of %.1f ms of reduction hidden", 100 * (seconds - exposed) / seconds,
            1e3 * seconds / count)
    }

    private static func write(_ text: String, to path: String) throws {
        do {
            try Data(text.utf8).write(to: URL(filePath: path))
        } catch {
            throw RunLogError(path: path, reason: systemReason(error))
        }
    }
}
