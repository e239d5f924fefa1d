internal import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// What a rank reports, appended to a file of the run folder by a thread of its own: a shared file system that does not answer
/// may be what the ranks wait for, and must not keep them from ending.
final class ReportFile: @unchecked Sendable {
    private let folder: String
    private let path: String
    private let monitor = Monitor()
    // Guarded by the monitor.
    private var pending: [String] = []
    private var isWriting = false

    /// - Parameter folder: made if it is not there.
    init(folder: String, rank: Int) {
        self.folder = folder
        path = "\(folder)/watchdog-rank-\(rank).txt"
    }

    /// Hands lines over and returns at once.
    func append(_ lines: [String]) {
        let begins = monitor.withLock { () -> Bool in
            pending += lines
            defer { isWriting = true }
            return !isWriting
        }
        if begins { SystemThread(name: "watchdog file") { self.run() }.detach() }
    }

    /// Waits until everything is written, but no longer than `seconds`: a thread that hangs ends with the process.
    func wait(seconds: Double) {
        let limit = MonotonicClock.seconds + seconds
        monitor.withLock { while isWriting, monitor.wait(until: limit) || MonotonicClock.seconds < limit {} }
    }

    private func run() {
        while let lines = next() { store(lines) }
    }

    /// nil when there is nothing left to write.
    private func next() -> [String]? {
        monitor.withLock { () -> [String]? in
            guard !pending.isEmpty else {
                isWriting = false
                monitor.wakeAll()
                return nil
            }
            defer { pending = [] }
            return pending
        }
    }

    /// As far as that works: the job is about to end.
    private func store(_ lines: [String]) {
        mkdir(folder, 0o777)
        let descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
        guard descriptor >= 0 else { return }
        let bytes = Array((lines.joined(separator: "\n") + "\n").utf8)
        _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        close(descriptor)
    }
}
