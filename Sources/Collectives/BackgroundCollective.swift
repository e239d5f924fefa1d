internal import Tensors

/// Collectives that run behind the computation, the same in every step: start them, compute, then wait.
///
/// They run on a thread and a communicator of their own, so they neither delay nor reorder the collectives that other
/// threads call meanwhile. All ranks start what they have made together equally often. `start` and `wait` take turns and
/// allocate nothing.
package final class BackgroundCollective<Input: Sendable>: CommunicationJob, @unchecked Sendable {
    private let communicator: any Communicator
    private let thread: CommunicationThread
    private let body: @Sendable (Input, any Communicator) throws -> Void
    private let monitor = Monitor()
    /// What was started and has not ended.
    private var input: Input?
    private var failure: (any Error)?

    /// Collective over `communicator`: every rank makes its own at the same place.
    ///
    /// - Parameters:
    ///   - channel: names the communicator in the ring of recent collectives.
    ///   - body: runs once for each `start`, with what `start` was given and the communicator of this channel.
    package init(
        over communicator: any Communicator, channel: String,
        _ body: @escaping @Sendable (_ input: Input, _ channel: any Communicator) throws -> Void
    ) throws {
        self.communicator = try communicator.duplicate(channel: channel)
        self.body = body
        thread = CommunicationThread(name: channel)
    }

    /// Runs the body on `input`, which belongs to it until `wait` has returned.
    package func start(_ input: Input) {
        monitor.withLock {
            precondition(self.input == nil, "started twice without waiting")
            self.input = input
            failure = nil
        }
        thread.submit(self)
    }

    /// Waits until what was started has ended; throws what it threw.
    package func wait() throws {
        try monitor.withLock {
            while input != nil { monitor.wait() }
            if let failure { throw failure }
        }
    }

    func run() {
        guard let input = monitor.withLock({ input }) else { return }
        var thrown: (any Error)?
        do { try body(input, communicator) } catch { thrown = error }
        monitor.withLock {
            failure = thrown
            self.input = nil
            monitor.wakeAll()
        }
    }
}
