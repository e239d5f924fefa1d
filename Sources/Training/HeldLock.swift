import Artifacts

/// A run folder's lock that goes with its holder: a run that fails while it is set up must not leave the folder locked
/// for its next attempt, on another host perhaps.
final class HeldLock {
    private var lock: RunLock?

    init(_ lock: RunLock) { self.lock = lock }

    deinit { release() }

    /// Gives the lock back, once.
    func release() {
        try? lock?.release()
        lock = nil
    }
}
