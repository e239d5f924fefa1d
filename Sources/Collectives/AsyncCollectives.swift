/// Collectives that run behind the computation: submit one, compute, then wait for its ticket.
///
/// They run on a thread and a communicator of their own, in the order they were submitted, so they neither delay nor
/// reorder the collectives that other threads call meanwhile. **All ranks submit the same operations in the same
/// order** to the AsyncCollectives they made together.
package final class AsyncCollectives: Sendable {
    private let communicator: any Communicator
    private let thread = CommunicationThread(name: "collectives")

    /// Collective over `communicator`: every rank makes its own at the same place.
    package init(over communicator: any Communicator, channel: String = "background") throws {
        self.communicator = try communicator.duplicate(channel: channel)
    }

    /// Runs `body` with the communicator of this channel after what was submitted before.
    package func submit<Result: Sendable>(
        _ body: @escaping @Sendable (any Communicator) throws -> Result
    ) -> CollectiveTicket<Result> {
        let ticket = CollectiveTicket<Result>()
        let communicator = communicator
        thread.submit(SingleJob { ticket.complete { try body(communicator) } })
        return ticket
    }

    /// The same for work that is done again and again, e.g. once in every step: each `start` of the result runs `body`
    /// once.
    package func recurring(_ body: @escaping @Sendable (any Communicator) throws -> Void) -> RecurringCollective {
        RecurringCollective(thread, communicator, body)
    }

    /// `Communicator.allGather` in the background. Both memories belong to the operation until the ticket was waited for.
    package func allGather(
        _ block: UnsafeRawBufferPointer, into all: UnsafeMutableRawBufferPointer, _ label: String
    ) -> CollectiveTicket<Void> {
        nonisolated(unsafe) let (block, all) = (block, all)
        return submit { try $0.allGather(block, into: all, label) }
    }

    /// `Communicator.allReduce` in the background. The memory belongs to the operation until the ticket was waited for.
    package func allReduce(
        _ values: UnsafeMutableBufferPointer<Float>, _ reduction: Reduction, _ label: String
    ) -> CollectiveTicket<Void> {
        nonisolated(unsafe) let values = values
        return submit { try $0.allReduce(values, reduction, label) }
    }
}

/// The result of a collective that runs in the background.
package final class CollectiveTicket<Value: Sendable>: @unchecked Sendable {
    private let monitor = Monitor()
    private var result: Result<Value, any Error>?
    private var seconds = 0.0

    /// Whether the operation has ended, well or not.
    package var isComplete: Bool { monitor.withLock { result != nil } }

    /// Seconds that `wait` has blocked: the part of the communication that nothing hid.
    package var waitedSeconds: Double { monitor.withLock { seconds } }

    /// Waits for the operation; throws what it threw.
    package func wait() throws -> Value {
        try monitor.withLock {
            let start = MonotonicClock.seconds
            while result == nil { monitor.wait() }
            seconds += MonotonicClock.seconds - start
            return try result!.get()
        }
    }

    func complete(_ body: () throws -> Value) {
        let outcome = Result { try body() }
        monitor.withLock {
            result = outcome
            monitor.wakeAll()
        }
    }
}

/// A closure as a job.
private final class SingleJob: CommunicationJob {
    private let body: @Sendable () -> Void

    init(_ body: @escaping @Sendable () -> Void) { self.body = body }

    func run() { body() }
}

/// Work in the background that is the same every time, so that a step allocates nothing for it. `start` and `wait` take
/// turns.
package final class RecurringCollective: CommunicationJob, @unchecked Sendable {
    private let thread: CommunicationThread
    private let communicator: any Communicator
    private let body: @Sendable (any Communicator) throws -> Void
    private let monitor = Monitor()
    private var isUnderWay = false
    private var failure: (any Error)?

    fileprivate init(
        _ thread: CommunicationThread, _ communicator: any Communicator,
        _ body: @escaping @Sendable (any Communicator) throws -> Void
    ) {
        self.thread = thread
        self.communicator = communicator
        self.body = body
    }

    /// Runs the body once, after what was submitted before. What it uses belongs to it until `wait` has returned.
    package func start() {
        monitor.withLock {
            precondition(!isUnderWay, "started twice without waiting")
            isUnderWay = true
            failure = nil
        }
        thread.submit(self)
    }

    /// Waits until the last start has ended; throws what it threw.
    package func wait() throws {
        try monitor.withLock {
            while isUnderWay { monitor.wait() }
            if let failure { throw failure }
        }
    }

    func run() {
        var thrown: (any Error)?
        do { try body(communicator) } catch { thrown = error }
        monitor.withLock {
            failure = thrown
            isUnderWay = false
            monitor.wakeAll()
        }
    }
}
