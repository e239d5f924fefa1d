internal import COpenMPI
internal import Collectives
internal import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// The thread that owns MPI: it initialises MPI, makes every call, and finalises it.
///
/// A thread blocked inside MPI spins on a core that computes, and nothing can interrupt it. So collectives are started
/// without blocking and tested: while they move, at once; while they wait, after short sleeps. Several may be under way
/// when they belong to different communicators. Handing one over allocates nothing.
final class MPIEngine: @unchecked Sendable {
    private let monitor = Monitor()
    private var queue: [MPIOperation] = []
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
    /// Operations that fit without another allocation: more than there are communicators.
    private static let roomFor = 64

    init() {
        queue.reserveCapacity(Self.roomFor)
        SystemThread(name: "MPI") { self.run() }.detach()
    }

    /// Starts `call` on the MPI thread and waits until its request is complete.
    ///
    /// After `CollectiveError.timedOut` the memory may still belong to MPI: the job has to end. Every later call throws.
    ///
    /// - Parameter operation: carries the call; one that no other thread uses meanwhile.
    func perform(
        _ call: MPICall, _ label: String, deadline: Double, on operation: MPIOperation = MPIOperation()
    ) throws {
        let limit = MonotonicClock.seconds + deadline
        try monitor.withLock {
            if let broken { throw Self.consequence(of: broken, label) }
            if stopping { throw CollectiveError.unavailable("'\(label)' after MPI was finalised") }
            operation.label = label
            operation.call = call
            operation.outcome = nil
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
        var active: [MPIOperation] = []
        active.reserveCapacity(Self.roomFor)
        // Trades places with the queue, so that both keep their memory.
        var started: [MPIOperation] = []
        started.reserveCapacity(Self.roomFor)
        var lastProgress = MonotonicClock.nanoseconds
        var wasLong = false
        while true {
            let idle = wasLong ? 0 : MonotonicClock.nanoseconds &- lastProgress
            let (failure, end) = take(&started, waiting: active.isEmpty ? nil : idle)
            if end { break }
            if let failure {
                for operation in active + started { complete(operation, .failure(failure)) }
                active.removeAll()
                started.removeAll()
                continue
            }
            for operation in started {
                begin(operation, &active)
                lastProgress = MonotonicClock.nanoseconds
            }
            started.removeAll(keepingCapacity: true)
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

    /// Exchanges the empty `started` for new operations; sleeps when there is nothing to do, or when what is under way has
    /// not moved for `waiting` nanoseconds.
    private func take(_ started: inout [MPIOperation], waiting: UInt64?) -> (failure: CollectiveError?, end: Bool) {
        monitor.withLock {
            if let waiting {
                if queue.isEmpty, broken == nil, waiting > Self.spinNanoseconds {
                    let pause = waiting < 2_000_000 ? 20e-6 : waiting < 50_000_000 ? 100e-6 : 500e-6
                    _ = monitor.wait(until: MonotonicClock.seconds + pause)
                }
            } else {
                while queue.isEmpty && !stopping { monitor.wait() }
            }
            swap(&queue, &started)
            return (broken, stopping && started.isEmpty && waiting == nil)
        }
    }

    private func begin(_ operation: MPIOperation, _ active: inout [MPIOperation]) {
        guard let call = operation.call else { preconditionFailure("an operation without a call") }
        let code = call.start(&operation.request)
        if code != MPI_SUCCESS {
            fail(operation, code)
        } else if operation.request == acuity_mpi_request_null() {
            complete(operation, .success(()))
        } else {
            active.append(operation)
        }
    }

    /// Tests all operations under way: whether one has ended, and whether that took long.
    private func test(_ active: inout [MPIOperation]) -> (ended: Bool, isLong: Bool) {
        if active.isEmpty { return (false, false) }
        let start = MonotonicClock.nanoseconds
        var ended = false
        active.removeAll { operation in
            var done: Int32 = 0
            let code = acuity_mpi_test(&operation.request, &done)
            if code != MPI_SUCCESS {
                fail(operation, code)
            } else if done != 0 {
                complete(operation, .success(()))
            } else {
                return false
            }
            ended = true
            return true
        }
        return (ended, MonotonicClock.nanoseconds - start > Self.movedNanoseconds)
    }

    private func fail(_ operation: MPIOperation, _ code: Int32) {
        let error = CollectiveError.peerLost(label: operation.label, detail: Self.message(code))
        monitor.withLock { broken = broken ?? error }
        complete(operation, .failure(error))
    }

    private func complete(_ operation: MPIOperation, _ outcome: Result<Void, CollectiveError>) {
        monitor.withLock {
            operation.call = nil
            operation.outcome = outcome
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
            // Some lengths count the byte of zero at the end.
            let text = buffer.prefix(min(capacity, max(0, Int(length)))).prefix { $0 != 0 }
            let bytes = text.map { UInt8(bitPattern: $0) }
            return String(decoding: bytes, as: UTF8.self)
        }
    }
}
