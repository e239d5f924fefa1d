internal import Tensors

/// What a `CommunicationThread` runs. An object, so that what is run in every step is made once.
protocol CommunicationJob: AnyObject, Sendable {
    /// Called on the thread, once for each time that the job was submitted.
    func run()
}

/// A thread that runs what is submitted to it and sleeps between jobs.
///
/// One job is under way at a time, and one may wait. When the last reference goes, the thread finishes what was submitted
/// and ends.
final class CommunicationThread: Sendable {
    private final class Inbox: @unchecked Sendable {
        let monitor = Monitor()
        var job: (any CommunicationJob)?
        var stopping = false

        func run() {
            while let job = next() { job.run() }
        }

        private func next() -> (any CommunicationJob)? {
            monitor.withLock {
                while job == nil && !stopping { monitor.wait() }
                defer { job = nil }
                return job
            }
        }
    }

    private let inbox = Inbox()

    init(name: String) {
        let inbox = inbox
        SystemThread(name: name) { inbox.run() }.detach()
    }

    deinit {
        inbox.monitor.withLock {
            inbox.stopping = true
            inbox.monitor.wakeAll()
        }
    }

    func submit(_ job: any CommunicationJob) {
        inbox.monitor.withLock {
            precondition(inbox.job == nil, "a job waits already")
            inbox.job = job
            inbox.monitor.wakeAll()
        }
    }
}
