internal import Tensors

/// Sums the gradients of all ranks while backward still computes.
///
/// The reducer owns this rank's gradients. Backward writes them bucket by bucket and calls `bucketReady`; a thread of
/// the reducer sums each bucket over the ranks as soon as all of them have it. After `finish` every rank holds the same
/// bits. A rank may write its gradients again as soon as `finish` has returned: no neighbour reads them any more.
///
/// Where ranks share a host, the gradients live in a window of shared memory and are summed in place, in rank order;
/// several hosts exchange the hosts' sums by messages. Without a window all of it goes by messages. Sums run in rank order on every route.
///
/// One step is `begin`, `bucketReady` for each bucket, `finish`, called by the same ranks in the same order. Buckets are
/// reduced in the order of `bucketRanges` on every rank.
package final class GradientReducer: CommunicationJob, @unchecked Sendable {
    /// What a step's communication has cost.
    package struct Timing: Sendable, Equatable {
        /// Seconds that `finish` blocked: what was not hidden behind backward.
        package var waited = 0.0
        /// Seconds that the reducer's thread spent on buckets, waiting for the other ranks included.
        package var communication = 0.0
    }

    /// The type in which gradients travel between hosts. Sums are fp32 in either.
    package enum MessagePrecision: Sendable {
        case fp32
        /// Half the bytes, for slow networks; values and sums are rounded to 8 bits of mantissa.
        case bf16
    }

    /// How the ranks exchange gradients.
    package enum Route: String, Sendable {
        /// One rank: nothing to sum.
        case none
        /// All ranks on one host, in shared memory.
        case window
        /// In shared memory on each host, then each local rank its slice between the hosts.
        case windowAndSlices
        /// In shared memory on each host, then one leader per host: the hosts have unequal numbers of ranks.
        case windowAndLeaders
        /// Each bucket by messages.
        case messages
    }

    /// This rank's gradients, then their sum over all ranks. Zero at first.
    package let gradients: UnsafeMutableBufferPointer<Float>
    package let bucketRanges: [Range<Int>]
    package let route: Route
    /// Where the buckets' reductions are noted; nil for nowhere. Not to be changed between `begin` and `finish`.
    package var trace: TraceRecorder?

    private let reduction: any BucketReduction
    private let buffer: AlignedBuffer
    private let labels: [String]
    private let thread: CommunicationThread?
    private let monitor = Monitor()
    private var ready: [Bool]
    private var stepIsOpen = false
    private var reduced = false
    private var failure: (any Error)?
    private var communicationSeconds = 0.0

    /// Collective over `communicator`.
    ///
    /// - Parameters:
    ///   - elementCount: gradients of one rank, the same on all ranks.
    ///   - bucketRanges: disjoint ranges of 0..<elementCount, in the order in which backward completes them, the same
    ///     on all ranks. Between hosts, 1 to 16 MiB each work best.
    ///   - messages: what gradients are rounded to where they travel as messages.
    ///   - sharesMemory: false never uses a window.
    package init(
        communicator: any Communicator, elementCount: Int, bucketRanges: [Range<Int>],
        messages precision: MessagePrecision = .fp32, sharesMemory: Bool = true
    ) throws {
        precondition(elementCount > 0, "no gradients to reduce")
        let sorted = bucketRanges.sorted { $0.lowerBound < $1.lowerBound }
        precondition(
            zip(sorted, sorted.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound }
                && sorted.allSatisfy { $0.lowerBound >= 0 && $0.upperBound <= elementCount },
            "buckets overlap or leave 0..<\(elementCount)")
        let own = try communicator.duplicate(channel: "gradients")
        let window = sharesMemory ? try Self.makeWindow(own, byteCount: elementCount * 4) : nil
        buffer = window?.own ?? AlignedBuffer(byteCount: elementCount * 4)
        gradients = UnsafeMutableBufferPointer(
            start: buffer.base.assumingMemoryBound(to: Float.self), count: elementCount)
        let largest = bucketRanges.map(\.count).max() ?? 0
        (route, reduction) = try Self.makeReduction(
            own, window: window, gradients: gradients, largestBucket: largest, precision: precision)
        self.bucketRanges = bucketRanges
        labels = bucketRanges.indices.map { "gradients, bucket \($0)" }
        ready = Array(repeating: false, count: bucketRanges.count)
        thread = route == .none ? nil : CommunicationThread(name: "gradients")
    }

    /// Starts a step: from now on backward may call `bucketReady`.
    package func begin() {
        monitor.withLock {
            precondition(!stepIsOpen, "begin() before finish() of the step before")
            stepIsOpen = true
            reduced = false
            communicationSeconds = 0
            for index in ready.indices { ready[index] = false }
        }
        thread?.submit(self)
    }

    /// Gives the step up, when backward cannot complete it: this rank's steps throw `error` from now on. The other ranks
    /// learn of it as of any lost rank.
    package func cancel(_ error: any Error) {
        monitor.withLock {
            if failure == nil { failure = error }
            for index in ready.indices { ready[index] = true }
            monitor.wakeAll()
        }
    }

    /// Backward has written all gradients of bucket `index`. Returns at once; from any thread.
    package func bucketReady(_ index: Int) {
        monitor.withLock {
            if failure != nil { return }
            precondition(stepIsOpen && !ready[index], "bucket \(index) is ready twice, or outside of a step")
            ready[index] = true
            monitor.wakeAll()
        }
    }

    /// Waits until every bucket holds its sum over all ranks. All buckets must have been ready.
    ///
    /// Throws the first `CollectiveError` of the step, and again in every later step.
    @discardableResult
    package func finish() throws -> Timing {
        let start = MonotonicClock.seconds
        return try monitor.withLock {
            precondition(stepIsOpen, "finish() without begin()")
            precondition(
                failure != nil || ready.allSatisfy { $0 },
                "finish() before bucket \(ready.firstIndex(of: false) ?? 0) is ready")
            for index in ready.indices { ready[index] = true }
            monitor.wakeAll()
            while thread != nil && !reduced { monitor.wait() }
            stepIsOpen = false
            if let failure { throw failure }
            return Timing(waited: MonotonicClock.seconds - start, communication: communicationSeconds)
        }
    }

    /// On the reducer's thread: all buckets of one step.
    func run() {
        var seconds = 0.0
        var failure = monitor.withLock { self.failure }
        for index in bucketRanges.indices {
            monitor.withLock {
                while !ready[index] { monitor.wait() }
                failure = failure ?? self.failure
            }
            if failure != nil { continue }
            let start = MonotonicClock.seconds
            do {
                try trace.slice(
                    "bucket", number: index, on: .communication,
                    bytes: bucketRanges[index].count * MemoryLayout<Float>.stride, detail: route.rawValue
                ) { try reduction.reduce(bucketRanges[index], labels[index]) }
            } catch { failure = error }
            seconds += MonotonicClock.seconds - start
        }
        let start = MonotonicClock.seconds
        if failure == nil {
            do { try reduction.finish("gradients, end of step") } catch { failure = error }
        }
        seconds += MonotonicClock.seconds - start
        monitor.withLock {
            self.failure = self.failure ?? failure
            communicationSeconds = seconds
            reduced = true
            monitor.wakeAll()
        }
    }

    /// A window on every host, or none on any.
    private static func makeWindow(_ communicator: any Communicator, byteCount: Int) throws -> (any SharedWindow)? {
        let most = try communicator.allReduce(communicator.topology.localSize, .max, "ranks per host")
        guard most > 1 else { return nil }
        let window = try communicator.makeSharedWindow(byteCount: byteCount)
        let everywhere = try communicator.allReduce(window == nil ? 0 : 1, .min, "window everywhere")
        return everywhere == 1 ? window : nil
    }

    private static func makeReduction(
        _ communicator: any Communicator, window: (any SharedWindow)?, gradients: UnsafeMutableBufferPointer<Float>,
        largestBucket: Int, precision: MessagePrecision
    ) throws -> (Route, any BucketReduction) {
        func messages(_ communicator: any Communicator, largest: Int) -> BucketMessages {
            BucketMessages(communicator, gradients, largest: largest, precision: precision)
        }
        if communicator.size == 1 { return (.none, messages(communicator, largest: 0)) }
        guard let window else { return (.messages, messages(communicator, largest: largestBucket)) }
        let topology = communicator.topology
        let slices = WindowSlices(window, localRank: topology.localRank, ring: communicator.ring)
        if topology.hosts == 1 { return (.window, WindowReduction(slices)) }
        let fewest = try communicator.allReduce(topology.localSize, .min, "fewest ranks per host")
        let most = try communicator.allReduce(topology.localSize, .max, "most ranks per host")
        if fewest == most {
            let across = try communicator.split(
                color: topology.localRank, key: communicator.rank, channel: "gradients between hosts")
            return (.windowAndSlices, SlicedHostReduction(slices, messages(across, largest: largestBucket)))
        }
        let leaders = try communicator.split(
            color: topology.localRank == 0 ? 0 : 1, key: communicator.rank, channel: "gradients between hosts")
        let leader = topology.localRank == 0 ? messages(leaders, largest: largestBucket) : nil
        return (.windowAndLeaders, LeaderReduction(slices, leader))
    }
}
