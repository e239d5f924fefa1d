internal import Tensors

/// The recent collectives of one rank: what it waits for, and what it finished last.
///
/// A watchdog reads it from any thread without MPI. Entries are overwritten oldest first; one that is still running is kept
/// beside the others until it ends, however many come after it: what is written behind the steps may hang while these go on.
package final class CollectiveRing: @unchecked Sendable {
    package enum State: String, Sendable { case running, done, failed }

    package struct Entry: Sendable, Equatable {
        /// Counts the collectives of this rank, all channels together, from 0.
        package var sequence: UInt64
        /// The communicator's name: "world", or what `split` was given.
        package var channel: String
        package var operation: String
        package var label: String
        package var bytes: Int
        package var state: State
        /// Nanoseconds of the monotonic clock.
        package var start: UInt64
        /// Nanoseconds of the monotonic clock; 0 while running.
        package var end: UInt64

        /// No step waits for it.
        package var isBehind: Bool { channel == behindChannel }

        /// Seconds from the start to the end; while it is running to `now`, by default the present.
        package func seconds(now: UInt64? = nil) -> Double {
            let until = state == .running ? max(now ?? MonotonicClock.nanoseconds, start) : end
            return Double(until - start) * 1e-9
        }
    }

    package let capacity: Int
    /// What this rank is at.
    package let place = Whereabouts()
    private let monitor = Monitor()
    private var stored: [Entry] = []
    /// Entries that were running when their turn came to be overwritten: at most one for each thread that calls collectives.
    private var kept: [Entry] = []
    private var next: UInt64 = 0
    private var waited: [String: Double] = [:]
    private var recorder: TraceRecorder?

    package init(capacity: Int = 256) {
        precondition(capacity > 0, "a ring of \(capacity) entries")
        self.capacity = capacity
        stored.reserveCapacity(capacity)
        kept.reserveCapacity(16)
    }

    /// Notes that a collective starts; returns its sequence number for `end`.
    package func begin(channel: String, operation: String, label: String, bytes: Int) -> UInt64 {
        monitor.withLock {
            let sequence = next
            next += 1
            let entry = Entry(
                sequence: sequence, channel: channel, operation: operation, label: label, bytes: bytes,
                state: .running, start: MonotonicClock.nanoseconds, end: 0)
            if stored.count < capacity {
                stored.append(entry)
            } else {
                let index = Int(sequence % UInt64(capacity))
                if stored[index].state == .running { kept.append(stored[index]) }
                stored[index] = entry
            }
            return sequence
        }
    }

    /// Notes that the collective `sequence` has ended, and adds its duration to the channel's wait.
    package func end(_ sequence: UInt64, _ state: State) {
        monitor.withLock {
            let index = Int(sequence % UInt64(capacity))
            let entry: Entry
            if stored[index].sequence == sequence {
                entry = Self.ended(stored[index], state)
                stored[index] = entry
            } else if let place = kept.firstIndex(where: { $0.sequence == sequence }) {
                entry = Self.ended(kept.remove(at: place), state)
            } else {
                return
            }
            waited[entry.channel, default: 0] += entry.seconds()
            if let recorder, recorder.isRecording { recorder.add(Self.slice(entry)) }
        }
    }

    private static func ended(_ entry: Entry, _ state: State) -> Entry {
        var entry = entry
        entry.state = state
        entry.end = MonotonicClock.nanoseconds
        return entry
    }

    /// Hands every collective that ends to a trace, too; nil for no longer.
    package func trace(into recorder: TraceRecorder?) { monitor.withLock { self.recorder = recorder } }

    /// What reduces gradients runs on a thread of its own; all other collectives of a step follow one another.
    private static func slice(_ entry: Entry) -> TraceRecorder.Slice {
        let isGradients = entry.channel.hasPrefix("gradients") || entry.channel == "window"
        return TraceRecorder.Slice(
            track: isGradients ? .communication : .collectives, name: entry.label, number: nil, start: entry.start,
            end: entry.end, bytes: entry.bytes, detail: entry.operation)
    }

    /// Runs `body` as the collective `label`.
    package func record<Result>(
        channel: String, operation: String, label: String, bytes: Int, _ body: () throws -> Result
    ) throws -> Result {
        let sequence = begin(channel: channel, operation: operation, label: label, bytes: bytes)
        do {
            let result = try body()
            end(sequence, .done)
            return result
        } catch {
            end(sequence, .failed)
            throw error
        }
    }

    /// The entries, oldest first.
    package var entries: [Entry] {
        monitor.withLock { (kept + stored).sorted { $0.sequence < $1.sequence } }
    }

    /// The collectives that have not ended, oldest first.
    package var running: [Entry] { entries.filter { $0.state == .running } }

    /// The channel of collectives that no step waits for.
    package static let behindChannel = "checkpoint"

    /// The collective that has been running longest, of those that a step waits for if there are any; nil when none runs.
    /// Allocates nothing.
    package var oldestRunning: Entry? { monitor.withLock { oldest(isBehind: false) ?? oldest(isBehind: true) } }

    /// As `oldestRunning`, of those behind the steps.
    package var oldestBehind: Entry? { monitor.withLock { oldest(isBehind: true) } }

    /// Whether one behind the steps is running. No copy of an entry is made, which would allocate at its first use.
    package var isInBehind: Bool {
        monitor.withLock { Self.runsBehind(kept) || Self.runsBehind(stored) }
    }

    private static func runsBehind(_ entries: [Entry]) -> Bool {
        for index in entries.indices where entries[index].state == .running && entries[index].isBehind { return true }
        return false
    }

    /// What is kept began before everything else.
    private func oldest(isBehind: Bool) -> Entry? {
        Self.oldest(of: kept, isBehind: isBehind) ?? Self.oldest(of: stored, isBehind: isBehind)
    }

    private static func oldest(of entries: [Entry], isBehind: Bool) -> Entry? {
        var oldest: Int?
        for index in entries.indices
        where entries[index].state == .running && entries[index].isBehind == isBehind {
            if let known = oldest, entries[known].start <= entries[index].start { continue }
            oldest = index
        }
        return oldest.map { entries[$0] }
    }

    /// Seconds spent in collectives so far, on one channel or on all. The rank that makes the others wait is the one
    /// that waits least.
    package func waitSeconds(channel: String? = nil) -> Double {
        monitor.withLock {
            if let channel { return waited[channel] ?? 0 }
            return waited.values.reduce(0, +)
        }
    }

    /// How many collectives have started.
    package var count: UInt64 { monitor.withLock { next } }
}
