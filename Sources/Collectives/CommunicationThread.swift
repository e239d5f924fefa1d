/// What a `CommunicationThread` runs. An object, so that one that is submitted again and again is made once.
protocol CommunicationJob: AnyObject, Sendable {
    /// Called on the thread, once for each time that the job was submitted.
    func run()
}

/// A thread that runs what is submitted to it, one after the other.
///
/// It sleeps between jobs. When the last reference goes, it finishes what was submitted and ends. Submitting allocates
/// nothing once the queue has been as long before.
final class CommunicationThread: Sendable {
    private final class Queue: @unchecked Sendable {
        let monitor = Monitor()
        var jobs: [any CommunicationJob] = []
        var stopping = false

        func run() {
            // Trades places with `jobs`, so that both keep their memory.
            var batch: [any CommunicationJob] = []
            while true {
                monitor.withLock {
                    while jobs.isEmpty && !stopping { monitor.wait() }
                    swap(&jobs, &batch)
                }
                if batch.isEmpty { return }
                for job in batch { job.run() }
                batch.removeAll(keepingCapacity: true)
            }
        }
    }

    private let queue = Queue()

    init(name: String) {
        let queue = queue
        SystemThread(name: name) { queue.run() }.detach()
    }

    deinit {
        queue.monitor.withLock {
            queue.stopping = true
            queue.monitor.wakeAll()
        }
    }

    func submit(_ job: any CommunicationJob) {
        queue.monitor.withLock {
            queue.jobs.append(job)
            queue.monitor.wakeAll()
        }
    }
}
