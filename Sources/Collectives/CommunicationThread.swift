/// A thread that runs what is submitted to it, one after the other.
///
/// It sleeps between jobs. When the last reference goes, it finishes what was submitted and ends.
final class CommunicationThread: Sendable {
    private final class Queue: @unchecked Sendable {
        let monitor = Monitor()
        var jobs: [@Sendable () -> Void] = []
        var stopping = false

        func run() {
            while true {
                let batch: [@Sendable () -> Void]? = monitor.withLock {
                    while jobs.isEmpty && !stopping { monitor.wait() }
                    if jobs.isEmpty { return nil }
                    defer { jobs.removeAll(keepingCapacity: true) }
                    return jobs
                }
                guard let batch else { return }
                for job in batch { job() }
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

    func submit(_ job: @escaping @Sendable () -> Void) {
        queue.monitor.withLock {
            queue.jobs.append(job)
            queue.monitor.wakeAll()
        }
    }
}
