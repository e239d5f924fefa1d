internal import Tensors

/// Tells a source which records come next, a window of the order ahead, from a thread of its own: announcing takes as long
/// as the disk wants.
final class ReadAhead: Sendable {
    private let core: Core
    private let thread: SystemThread

    init(_ source: any FaceSource, _ sampler: EpochSampler) {
        let core = Core(source, sampler)
        self.core = core
        thread = SystemThread(name: "read-ahead") { core.work() }
    }

    deinit {
        core.stop()
        thread.join()
    }

    /// Called with every row that is loaded.
    func entering(epoch: Int, window: Int, of windows: Int) {
        core.reach(epoch * windows + window + 1, windows: windows)
    }

    private final class Core: @unchecked Sendable {
        private let source: any FaceSource
        private let sampler: EpochSampler
        private let monitor = Monitor()
        private var stopped = false
        /// Windows counted over all epochs: the last one wanted, and the last one announced.
        private var wanted = -1
        private var announced = -1
        private var windows = 1

        init(_ source: any FaceSource, _ sampler: EpochSampler) {
            self.source = source
            self.sampler = sampler
        }

        func stop() {
            monitor.withLock {
                stopped = true
                monitor.wakeAll()
            }
        }

        func reach(_ window: Int, windows: Int) {
            monitor.withLock {
                self.windows = windows
                guard window > wanted else { return }
                wanted = window
                // A run that starts here needs this window and the one after it.
                announced = max(announced, window - 2)
                monitor.wakeAll()
            }
        }

        func work() {
            while true {
                let next: (epoch: Int, window: Int)? = monitor.withLock {
                    while !stopped, announced >= wanted { monitor.wait() }
                    if stopped { return nil }
                    announced += 1
                    return (announced / windows, announced % windows)
                }
                guard let next else { return }
                for records in sampler.order(of: next.epoch).records(ofWindow: next.window) {
                    if monitor.withLock({ stopped }) { return }
                    source.willNeed(records)
                }
            }
        }
    }
}
