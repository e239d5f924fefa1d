internal import COpenMPI
internal import Collectives

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// The thread that owns MPI: it initialises MPI, makes every call, and finalises it.
///
/// A thread blocked inside MPI spins on a core that computes, and nothing can interrupt it. So collectives are started
/// without blocking and tested: while they move, at once; while they wait, after short sleeps. Several may be under way
/// when they belong to different communicators.
final class MPIEngine: @unchecked Sendable {
    /// An operation handed to the thread.
    final class Operation: @unchecked Sendable {
        fileprivate let label: String
        fileprivate let start: (UnsafeMutablePointer<MPI_Request?>) -> Int32
        fileprivate var request: MPI_Request? = acuity_mpi_request_null()
        fileprivate var outcome: Result<Void, CollectiveError>?

        init(_ label: String, _ start: @escaping (UnsafeMutablePointer<MPI_Request?>) -> Int32) {
            self.label = label
            self.start = start
        }
    }

    private let monitor = Monitor()
    private var queue: [Operation] = []
    private var stopping = false
    private var ended = false
    /// Why no operation can succeed any more.
    private var broken: CollectiveError?

    /// How long to test without a pause after MPI has last moved something.
    private static let spinNanoseconds: UInt64 = 100_000
    /// A test that takes longer has moved data, if the next one does too: the first one after a pause also pays for cold
    /// caches, and on a busy machine for more.
    private static let movedNanoseconds: UInt64 = 10_000
    /// How long a caller whose deadline has passed waits for the thread to let go of its memory.
    private static let releaseSeconds = 1.0

    init() {
        SystemThread(name: "MPI") { self.run() }.detach()
    }

    /// Starts `start` on the MPI thread and waits until its request is complete. A call that blocks leaves its request
    /// null.
    ///
    /// After `CollectiveError.timedOut` the memory may still belong to MPI: the job has to end. Every later call throws.
    func perform(
        _ label: String, deadline: Double, _ start: @escaping (UnsafeMutablePointer<MPI_Request?>) -> Int32
    ) throws {
        let operation = Operation(label, start)
        let limit = MonotonicClock.seconds + deadline
        try monitor.withLock {
            if let broken { throw Self.consequence(of: broken, label) }
            if stopping { throw CollectiveError.unavailable("'\(label)' after MPI was finalised") }
            queue.append(operation)
            monitor.wakeAll()
            while operation.outcome == nil {
                if monitor.wait(until: limit) || MonotonicClock.seconds < limit { continue }
                let timeout = CollectiveError.timedOut(label: label, seconds: deadline)
                broken = broken ?? timeout
                monitor.wakeAll()
                let release = MonotonicClock.seconds + Self.releaseSeconds
                while operation.outcome == nil, MonotonicClock.seconds < release { _ = monitor.wait(until: release) }
                throw timeout
            }
            try operation.outcome!.get()
        }
    }

    /// Ends MPI on its thread. Throws when it does not return within `deadline` seconds.
    func finalize(deadline: Double) throws {
        let limit = MonotonicClock.seconds + deadline
        try monitor.withLock {
            if let broken { throw Self.consequence(of: broken, "finalize") }
            stopping = true
            monitor.wakeAll()
            while !ended {
                if !monitor.wait(until: limit), !ended, MonotonicClock.seconds >= limit {
                    throw CollectiveError.timedOut(label: "finalize", seconds: deadline)
                }
            }
        }
    }

    /// After one operation has failed, the ranks no longer agree on what comes next.
    private static func consequence(of error: CollectiveError, _ label: String) -> CollectiveError {
        .peerLost(label: label, detail: "an earlier collective has failed: \(error)")
    }

    private func run() {
        var active: [Operation] = []
        var lastProgress = MonotonicClock.nanoseconds
        var wasLong = false
        while true {
            let idle = wasLong ? 0 : MonotonicClock.nanoseconds &- lastProgress
            let (started, failure, end) = take(waiting: active.isEmpty ? nil : idle)
            if end { break }
            if let failure {
                complete(active + started, .failure(failure))
                active.removeAll()
                continue
            }
            for operation in started {
                begin(operation, &active)
                lastProgress = MonotonicClock.nanoseconds
            }
            let (ended, isLong) = test(&active)
            if ended || (isLong && wasLong) { lastProgress = MonotonicClock.nanoseconds }
            wasLong = isLong && !ended
        }
        var initialized: Int32 = 0
        if MPI_Initialized(&initialized) == MPI_SUCCESS, initialized != 0 { MPI_Finalize() }
        monitor.withLock {
            ended = true
            monitor.wakeAll()
        }
    }

    /// New operations; sleeps when there is nothing to do, or when what is under way has not moved for `waiting`
    /// nanoseconds.
    private func take(waiting: UInt64?) -> (started: [Operation], failure: CollectiveError?, end: Bool) {
        monitor.withLock {
            if let waiting {
                if queue.isEmpty, broken == nil, waiting > Self.spinNanoseconds {
                    let pause = waiting < 2_000_000 ? 20e-6 : waiting < 50_000_000 ? 100e-6 : 500e-6
                    _ = monitor.wait(until: MonotonicClock.seconds + pause)
                }
            } else {
                while queue.isEmpty && !stopping { monitor.wait() }
            }
            defer { queue.removeAll(keepingCapacity: true) }
            return (queue, broken, stopping && queue.isEmpty && waiting == nil)
        }
    }

    private func begin(_ operation: Operation, _ active: inout [Operation]) {
        let code = operation.start(&operation.request)
        if code != MPI_SUCCESS {
            fail(operation, code)
        } else if operation.request == acuity_mpi_request_null() {
            complete([operation], .success(()))
        } else {
            active.append(operation)
        }
    }

    /// Tests all operations under way: whether one has ended, and whether that took long.
    private func test(_ active: inout [Operation]) -> (ended: Bool, isLong: Bool) {
        if active.isEmpty { return (false, false) }
        let start = MonotonicClock.nanoseconds
        var ended = false
        active.removeAll { operation in
            var done: Int32 = 0
            let code = acuity_mpi_test(&operation.request, &done)
            if code != MPI_SUCCESS {
                fail(operation, code)
            } else if done != 0 {
                complete([operation], .success(()))
            } else {
                return false
            }
            ended = true
            return true
        }
        return (ended, MonotonicClock.nanoseconds - start > Self.movedNanoseconds)
    }

    private func fail(_ operation: Operation, _ code: Int32) {
        let error = CollectiveError.peerLost(label: operation.label, detail: Self.message(code))
        monitor.withLock { broken = broken ?? error }
        complete([operation], .failure(error))
    }

    private func complete(_ operations: [Operation], _ outcome: Result<Void, CollectiveError>) {
        monitor.withLock {
            for operation in operations { operation.outcome = outcome }
            monitor.wakeAll()
        }
    }

    /// MPI's text for an error code.
    static func message(_ code: Int32) -> String {
        mpiString(Int(MPI_MAX_ERROR_STRING)) { MPI_Error_string(code, $0, $1) } ?? "MPI error \(code)"
    }

    /// A text that MPI writes into a buffer of `capacity` bytes; nil when the call fails.
    static func mpiString(
        _ capacity: Int, _ call: (UnsafeMutablePointer<CChar>, UnsafeMutablePointer<Int32>) -> Int32
    ) -> String? {
        var length: Int32 = 0
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: capacity + 1) { buffer in
            guard call(buffer.baseAddress!, &length) == MPI_SUCCESS else { return nil }
            let bytes = buffer.prefix(min(capacity, max(0, Int(length)))).map { UInt8(bitPattern: $0) }
            return String(decoding: bytes, as: UTF8.self)
        }
    }
}
