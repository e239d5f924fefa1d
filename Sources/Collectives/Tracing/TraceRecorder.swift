internal import Synchronization
internal import Tensors

/// When the parts of training steps began and ended on this rank, for a trace that a viewer shows.
///
/// Any thread adds slices. The memory for them is taken at the start; what no longer fits is counted and left out. Nothing
/// is kept outside of `start` and `stop`.
package final class TraceRecorder: @unchecked Sendable {
    /// A row of the trace. The slices of one row follow one another or lie within one another.
    package enum Track: Int, Sendable, CaseIterable {
        /// The thread that computes.
        case step = 1
        /// The thread that reduces gradients.
        case communication
        /// All other collectives. Those of one step do not overlap, whichever thread calls them.
        case collectives

        package var name: String {
            switch self {
            case .step: "step"
            case .communication: "communication"
            case .collectives: "collectives"
            }
        }
    }

    package struct Slice: Sendable, Equatable {
        package var track: Track
        package var name: String
        /// Of a step or a bucket; nil where there is but one.
        package var number: Int?
        /// Nanoseconds of this rank's monotonic clock.
        package var start: UInt64
        package var end: UInt64
        /// Sent and received, or summed; 0 where nothing travels.
        package var bytes: Int
        /// The route of a bucket, the operation of a collective.
        package var detail: String

        package init(
            track: Track, name: String, number: Int? = nil, start: UInt64, end: UInt64, bytes: Int = 0,
            detail: String = ""
        ) {
            self.track = track
            self.name = name
            self.number = number
            self.start = start
            self.end = end
            self.bytes = bytes
            self.detail = detail
        }
    }

    /// What the reduction of one step's gradients took, and what of it backward did not hide.
    package struct Reduction: Sendable, Equatable {
        package var step: Int
        /// When the step's last bucket was there, nanoseconds of this rank's monotonic clock.
        package var end: UInt64
        /// Seconds that the reducer's thread was busy or waited for other ranks.
        package var seconds: Double
        /// Of these, the seconds that the step waited for after its backward.
        package var exposed: Double

        package init(step: Int, end: UInt64, seconds: Double, exposed: Double) {
            self.step = step
            self.end = end
            self.seconds = seconds
            self.exposed = exposed
        }
    }

    package let capacity: Int
    private let recording = Atomic<Bool>(false)
    private let monitor = Monitor()
    private var stored: [Slice] = []
    private var reduced: [Reduction] = []
    private var lost = 0

    /// - Parameters:
    ///   - capacity: slices that there is room for.
    ///   - steps: steps whose reduction there is room for.
    package init(capacity: Int, steps: Int) {
        precondition(capacity > 0 && steps > 0, "a trace of \(capacity) slices and \(steps) steps")
        self.capacity = capacity
        stored.reserveCapacity(capacity)
        reduced.reserveCapacity(steps)
    }

    package var isRecording: Bool { recording.load(ordering: .relaxed) }

    package func start() { recording.store(true, ordering: .releasing) }
    package func stop() { recording.store(false, ordering: .releasing) }

    /// Adds a slice that has ended.
    package func add(_ slice: Slice) {
        guard isRecording else { return }
        monitor.withLock {
            if stored.count < capacity { stored.append(slice) } else { lost += 1 }
        }
    }

    package func add(_ reduction: Reduction) {
        guard isRecording else { return }
        monitor.withLock {
            if reduced.count < reduced.capacity { reduced.append(reduction) } else { lost += 1 }
        }
    }

    /// By track, then by start; what contains others comes before them.
    package var slices: [Slice] {
        monitor.withLock { stored }.sorted {
            ($0.track.rawValue, $0.start, $1.end) < ($1.track.rawValue, $1.start, $0.end)
        }
    }

    package var reductions: [Reduction] { monitor.withLock { reduced } }

    /// Slices for which there was no room.
    package var lostCount: Int { monitor.withLock { lost } }
}

extension Optional where Wrapped == TraceRecorder {
    /// Runs `body` as a slice of the trace, if there is one.
    package func slice<Result>(
        _ name: String, number: Int? = nil, on track: TraceRecorder.Track = .step, bytes: Int = 0, detail: String = "",
        _ body: () throws -> Result
    ) rethrows -> Result {
        guard let recorder = self, recorder.isRecording else { return try body() }
        let start = MonotonicClock.nanoseconds
        defer {
            recorder.add(
                TraceRecorder.Slice(
                    track: track, name: name, number: number, start: start, end: MonotonicClock.nanoseconds,
                    bytes: bytes, detail: detail))
        }
        return try body()
    }
}
