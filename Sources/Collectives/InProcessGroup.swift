internal import Tensors

/// Ranks on the threads of one process: the double of MPI that tests run on.
///
/// Sums run in rank order. A rank that leaves (its closure returned or threw) makes every collective that still needs
/// it throw `CollectiveError.peerLost` on the others; none of them hangs.
package final class InProcessGroup: Sendable {
    package let communicators: [any Communicator]
    private let meeting: RankMeeting

    /// - Parameters:
    ///   - ranks: the number of ranks.
    ///   - ranksPerHost: pretends that the ranks run on several hosts, in blocks; one host by default.
    ///   - deadline: seconds after which a collective throws `CollectiveError.timedOut`.
    ///   - windowLimit: bytes of "shared memory" per host; a larger window is refused.
    package init(ranks: Int, ranksPerHost: [Int]? = nil, deadline: Double = 60, windowLimit: Int = .max) {
        let layout = ranksPerHost ?? [ranks]
        precondition(ranks > 0 && layout.reduce(0, +) == ranks, "\(ranks) ranks do not fit on hosts of \(layout)")
        let hosts = layout.enumerated().flatMap { host, count in [Int](repeating: host, count: count) }
        let meeting = RankMeeting(hosts: hosts, deadline: deadline, windowLimit: windowLimit)
        self.meeting = meeting
        communicators = (0..<ranks).map {
            InProcessCommunicator(rank: $0, meeting: meeting, channel: "world", ring: CollectiveRing())
        }
    }

    /// Tells the others that `rank` takes part no more.
    package func leave(rank: Int, reason: String) {
        meeting.leave(rank, reason: reason)
    }

    /// Runs `body` once per rank, each on a thread of its own, and returns the results in rank order.
    ///
    /// When ranks throw, rethrows the first error in time; the ranks that wait for the lost one are released.
    package static func run<Result>(
        ranks: Int, ranksPerHost: [Int]? = nil, deadline: Double = 60, windowLimit: Int = .max,
        _ body: @escaping @Sendable (any Communicator) throws -> Result
    ) throws -> [Result] {
        let group = InProcessGroup(
            ranks: ranks, ranksPerHost: ranksPerHost, deadline: deadline, windowLimit: windowLimit)
        let outcome = Outcome<Result>(ranks: ranks)
        let threads = (0..<ranks).map { rank in
            SystemThread(name: "rank \(rank)") {
                do {
                    outcome.succeed(rank, try body(group.communicators[rank]))
                    group.leave(rank: rank, reason: "rank \(rank) has ended")
                } catch {
                    outcome.fail(error)
                    group.leave(rank: rank, reason: "rank \(rank) threw: \(error)")
                }
            }
        }
        for thread in threads { thread.join() }
        return try outcome.get()
    }

    private final class Outcome<Result>: @unchecked Sendable {
        private let monitor = Monitor()
        private var results: [Result?]
        private var error: (any Error)?

        init(ranks: Int) { results = Array(repeating: nil, count: ranks) }

        func succeed(_ rank: Int, _ result: Result) { monitor.withLock { results[rank] = result } }

        func fail(_ error: any Error) { monitor.withLock { if self.error == nil { self.error = error } } }

        func get() throws -> [Result] {
            if let error { throw error }
            return results.map { $0! }
        }
    }
}

/// Where the ranks of an in-process group meet: a barrier, and a slot per rank to show the others something.
final class RankMeeting: @unchecked Sendable {
    /// What a rank shows the others during one operation.
    struct Slot {
        /// Operation, sizes and label: equal on all ranks, or the ranks disagree.
        var signature = ""
        var memory: UnsafeMutableRawPointer?
        var count = 0
        var key = 0
        var object: AnyObject?
    }

    let size: Int
    /// The host of each rank, as the outermost group numbers hosts.
    let hosts: [Int]
    let deadline: Double
    let windowLimit: Int

    private let monitor = Monitor()
    private var slots: [Slot]
    private var arrived = 0
    private var generation: UInt64 = 0
    private var lost: String?
    private var children: [(meeting: RankMeeting, members: [Int])] = []

    init(hosts: [Int], deadline: Double, windowLimit: Int) {
        size = hosts.count
        self.hosts = hosts
        self.deadline = deadline
        self.windowLimit = windowLimit
        slots = Array(repeating: Slot(), count: size)
    }

    /// Shows `slot` to the others, waits for all, and calls `body` with the slots of all ranks; returns when every rank
    /// has left its `body`, so that memory shown to the others may be used again.
    func exchange<Result>(_ rank: Int, _ label: String, _ slot: Slot, _ body: ([Slot]) throws -> Result) throws
        -> Result
    {
        monitor.withLock { slots[rank] = slot }
        try meet(label)
        let all = monitor.withLock { slots }
        if let other = all.firstIndex(where: { $0.signature != all[0].signature }) {
            try meet(label)
            throw CollectiveError.mismatch(
                label: label,
                detail: "rank 0 calls \(all[0].signature), rank \(other) calls \(all[other].signature)")
        }
        let result = try body(all)
        try meet(label)
        monitor.withLock { slots[rank] = Slot() }
        return result
    }

    /// Waits for all ranks.
    func meet(_ label: String) throws {
        let limit = MonotonicClock.seconds + deadline
        try monitor.withLock {
            if let lost { throw CollectiveError.peerLost(label: label, detail: lost) }
            let mine = generation
            arrived += 1
            if arrived == size {
                arrived = 0
                generation += 1
                monitor.wakeAll()
                return
            }
            while generation == mine {
                if let lost { throw CollectiveError.peerLost(label: label, detail: lost) }
                if !monitor.wait(until: limit), generation == mine, lost == nil {
                    lost = "a collective, '\(label)', has timed out"
                    monitor.wakeAll()
                    throw CollectiveError.timedOut(label: label, seconds: deadline)
                }
            }
        }
    }

    /// Rank `rank` takes part no more, here and in the groups split from this one.
    func leave(_ rank: Int, reason: String) {
        let children = monitor.withLock {
            if lost == nil { lost = reason }
            monitor.wakeAll()
            return self.children
        }
        for child in children {
            if let member = child.members.firstIndex(of: rank) { child.meeting.leave(member, reason: reason) }
        }
    }

    /// The meeting of `members`, ranks of this one.
    func makeChild(_ members: [Int]) -> RankMeeting {
        let child = RankMeeting(hosts: members.map { hosts[$0] }, deadline: deadline, windowLimit: windowLimit)
        monitor.withLock { children.append((child, members)) }
        return child
    }
}
