internal import Synchronization
internal import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Sees to it that no rank waits for ever and nobody knows for whom.
///
/// Each rank's watchdog is a thread that looks at the rank's ring of collectives, without MPI, and tells rank 0 every now
/// and then where the rank is (`SideChannel`). When a collective does not return in time, or fails, or when a rank falls
/// silent while others wait for it, every rank reports where it is; rank 0 says who is behind; and the job ends.
///
/// Its thread allocates nothing while all is well, and never touches the run folder (`ReportFile` does).
package final class Watchdog: @unchecked Sendable {
    package struct Options: Sendable {
        /// Seconds that a collective of a step may take. Loading, evaluating and saving may take longer (`limit(in:)`).
        package var limit: Double
        /// Seconds that rank 0 collects reports before it concludes.
        package var gather: Double
        /// Seconds after which the others end the job by themselves, when rank 0 has not.
        package var grace: Double
        /// Where each rank's report goes, as `watchdog-rank-R.txt`; made if it is not there.
        package var folder: String?
        /// Prints one line.
        package var say: @Sendable (String) -> Void
        /// Ends the job with the exit code of a lost peer.
        package var end: @Sendable () -> Void

        package init(
            limit: Double, gather: Double = 2, grace: Double = 5, folder: String? = nil,
            say: @escaping @Sendable (String) -> Void, end: @escaping @Sendable () -> Void
        ) {
            precondition(limit > 0 && gather >= 0, "a watchdog with a limit of \(limit) s")
            self.limit = limit
            self.gather = gather
            self.grace = grace
            self.folder = folder
            self.say = say
            self.end = end
        }
    }

    private let communicator: any Communicator
    private let ring: CollectiveRing
    private let options: Options
    private let channel: SideChannel?
    private let file: ReportFile?
    private let hostName: String
    private let monitor = Monitor()
    // Guarded by the monitor.
    private var failure: String?
    private var watching = false
    private var stopping = false
    private var ended = false
    /// Processor time of the thread, nanoseconds.
    private let spent = Atomic<UInt64>(0)

    // The thread's own.
    /// Rank 0: the last datagram of each rank.
    private let datagrams: UnsafeMutableRawBufferPointer
    /// When each rank was last heard, nanoseconds; other ranks hear only rank 0.
    private var lastHeard: [UInt64]
    private var heardCount: [Int]
    /// This rank has something to complain about.
    private var isOverdue = false
    /// Some rank has.
    private var alarmed: UInt64?
    private var hasReported = false
    /// When this thread came back after it had been kept from running, with all the process (a suspended job); 0 at first.
    private var awakeSince: UInt64 = 0

    /// Seconds that the end of the job waits for what is being written to the run folder.
    private static let fileSeconds = 1.0

    /// How much longer a collective may take in each phase.
    package static func factor(_ phase: RunPhase) -> Double {
        switch phase {
        case .load: 10
        case .evaluate, .save: 3
        case .command, .step: 1
        }
    }

    /// The longest that any collective may take.
    package static func longest(limit: Double) -> Double { 10 * limit }

    /// Seconds that a collective may take now.
    package func limit(in phase: RunPhase) -> Double { options.limit * Self.factor(phase) }

    /// Seconds of silence after which a rank that others wait for counts as gone.
    private var silenceLimit: Double { min(options.limit, max(15, options.limit / 10, 5 * pause)) }

    /// Seconds between two looks.
    private var tick: Double { max(0.02, min(0.25, options.limit / 20)) }
    /// Seconds between two reports to rank 0: many ranks report less often, so that it is not kept busy.
    private var pause: Double { max(tick, min(2, options.limit / 10)) * max(1, Double(communicator.size) / 64) }

    /// Processor seconds that the watchdog of this rank has taken.
    package var seconds: Double { Double(spent.load(ordering: .relaxed)) * 1e-9 }

    /// Starts to watch: the thread runs when this returns. Collective.
    ///
    /// - Throws: `CollectiveError`.
    package init(over communicator: any Communicator, _ options: Options) throws {
        self.communicator = communicator
        self.options = options
        ring = communicator.ring
        hostName = communicator.topology.hostName
        file = options.folder.map { ReportFile(folder: $0, rank: communicator.rank) }
        channel = try SideChannel.open(over: communicator)
        let heard = communicator.rank == 0 ? communicator.size : 1
        lastHeard = Array(repeating: 0, count: heard)
        heardCount = Array(repeating: 0, count: heard)
        datagrams = .allocate(byteCount: heard * Beacon.byteCount, alignment: 16)
        datagrams.initializeMemory(as: UInt8.self, repeating: 0)
        SystemThread(name: "watchdog") { self.run() }.detach()
        monitor.withLock { while !watching { monitor.wait() } }
    }

    deinit { datagrams.deallocate() }

    /// Ends watching; the ranks stop after their last collective.
    package func stop() { monitor.withLock { stopping = true } }

    /// A collective of this rank has failed: lets all ranks report and the job end. Returns only when that takes too long,
    /// or where `end` returns.
    package func fail(_ reason: String) {
        let limit = MonotonicClock.seconds + options.gather + options.grace + 2
        monitor.withLock {
            if failure == nil { failure = reason }
            while !ended, !stopping, monitor.wait(until: limit) || MonotonicClock.seconds < limit {}
        }
    }

    // MARK: - The thread

    private func run() {
        let (tick, interval) = (tick, UInt64(pause * 1e9))
        // Longer than that nothing but a stop of the whole process keeps this thread.
        let pause = max(8 * tick, min(5, options.limit / 3))
        var next: UInt64 = 0
        var previous = MonotonicClock.nanoseconds
        // Before anybody goes on: a rank that stops at once has been heard of, and what the runtime makes at a first use
        // is made.
        sendPosition(ring.oldestRunning, previous)
        monitor.withLock {
            watching = true
            monitor.wakeAll()
        }
        while true {
            sleep(seconds: tick)
            if monitor.withLock({ stopping }) { break }
            let now = MonotonicClock.nanoseconds
            if Double(now - previous) * 1e-9 > pause { awakeSince = now }
            previous = now
            receive(now)
            var entry = ring.oldestRunning
            // A step's collectives come and go while one behind them hangs.
            if let behind = ring.oldestBehind, isTooLong(behind, now) { entry = behind }
            if !isOverdue, let complaint = complaint(entry, now) {
                isOverdue = true
                if alarmed == nil { alarmed = now }
                report(complaint, entry)
            }
            if now >= next || alarmed != nil {
                next = now + interval
                sendPosition(entry, now)
            }
            if let alarmed, act(since: Double(now - alarmed) * 1e-9, entry, now) { break }
            spent.store(Self.processorNanoseconds(), ordering: .relaxed)
        }
        monitor.withLock {
            ended = true
            monitor.wakeAll()
        }
    }

    private func sleep(seconds: Double) {
        let milliseconds = Int32(seconds * 1000)
        if let channel {
            channel.wait(milliseconds: milliseconds)
        } else {
            usleep(useconds_t(milliseconds) * 1000)
        }
    }

    private static func processorNanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    private func sendPosition(_ entry: CollectiveRing.Entry?, _ now: UInt64) {
        guard let channel, communicator.rank > 0 else { return }
        channel.sendToRoot { buffer in
            Beacon.write(
                rank: communicator.rank, host: hostName, token: channel.token, place: ring.place, started: ring.count,
                entry: entry, isInBehind: ring.isInBehind, now: now, isOverdue: isOverdue, into: buffer)
        }
    }

    private func receive(_ now: UInt64) {
        guard let channel else { return }
        channel.receive { head, bytes in
            if communicator.rank == 0 {
                UnsafeMutableRawBufferPointer(
                    rebasing: datagrams[head.rank * Beacon.byteCount..<(head.rank + 1) * Beacon.byteCount]
                ).copyMemory(from: bytes)
                channel.answer(alarmed == nil ? .heard : .alarm, rank: head.rank)
                if head.isOverdue, alarmed == nil { alarmed = now }
            } else if head.kind == .alarm, alarmed == nil {
                alarmed = now
            }
            lastHeard[head.rank] = now
            heardCount[head.rank] += 1
        }
    }

    /// What this rank has to complain about; nil while all is well.
    private func complaint(_ entry: CollectiveRing.Entry?, _ now: UInt64) -> String? {
        if let failure = monitor.withLock({ failure }) { return failure }
        guard let entry else { return nil }
        if isTooLong(entry, now) {
            return
                "'\(entry.label)' has not returned within \(tenths(limit(of: entry))) s (compute.collective_timeout)"
        }
        guard waited(entry, now) > silenceLimit else { return nil }
        for rank in lastHeard.indices where heardCount[rank] >= 3 {
            let silence = Double(now - max(lastHeard[rank], awakeSince)) * 1e-9
            guard silence > silenceLimit else { continue }
            return "'\(entry.label)' waits, and there is no word from rank \(rank) on \(host(of: rank)) for "
                + "\(tenths(silence)) s"
        }
        return nil
    }

    /// Seconds that a collective takes already, without the time for which the process was stopped.
    private func waited(_ entry: CollectiveRing.Entry, _ now: UInt64) -> Double {
        min(entry.seconds(now: now), Double(now - awakeSince) * 1e-9)
    }

    /// What goes on behind the steps may take as long as where they wait for it.
    private func limit(of entry: CollectiveRing.Entry) -> Double {
        limit(in: entry.isBehind ? .save : ring.place.phase)
    }

    private func isTooLong(_ entry: CollectiveRing.Entry, _ now: UInt64) -> Bool { waited(entry, now) > limit(of: entry) }

    /// Some rank complains: reports, then ends the job. True when that is done.
    private func act(since seconds: Double, _ entry: CollectiveRing.Entry?, _ now: UInt64) -> Bool {
        if !hasReported { report("another rank waits", entry) }
        if communicator.rank > 0 {
            guard seconds > options.gather + options.grace else { return false }
        } else {
            if let channel {
                for rank in 1..<max(1, communicator.size) { channel.answer(.alarm, rank: rank) }
            }
            guard seconds > options.gather else { return false }
            let lines = Verdict.lines(standings(entry, now), silentAfter: max(3 * pause, options.gather))
            for line in lines { options.say(line) }
            file?.append(lines)
        }
        file?.wait(seconds: Self.fileSeconds)
        options.end()
        return true
    }

    /// The host of a rank that has been heard.
    private func host(of rank: Int) -> String {
        communicator.rank == 0 ? Beacon.position(datagram(of: rank)).host : channel?.rootHost ?? "?"
    }

    private func datagram(of rank: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            rebasing: UnsafeRawBufferPointer(datagrams)[rank * Beacon.byteCount..<(rank + 1) * Beacon.byteCount])
    }

    private func standings(_ entry: CollectiveRing.Entry?, _ now: UInt64) -> [Verdict.Standing] {
        (0..<communicator.size).map { rank in
            if rank == 0 {
                return Verdict.Standing(position: Position(of: communicator, in: entry, now: now), silence: 0)
            }
            guard heardCount[rank] > 0 else { return Verdict.Standing(position: nil, silence: .infinity) }
            return Verdict.Standing(
                position: Beacon.position(datagram(of: rank)), silence: Double(now - lastHeard[rank]) * 1e-9)
        }
    }

    // MARK: - Reports

    private func report(_ complaint: String, _ entry: CollectiveRing.Entry?) {
        hasReported = true
        let position = Position(of: communicator, in: entry).description
        options.say("\(position): \(complaint)")
        var lines = ["\(position): \(complaint)", "the last collectives of this rank:"]
        let entries = ring.entries
        // What still runs may be older than the last ones.
        for entry in entries.dropLast(32).filter({ $0.state == .running }) + entries.suffix(32) {
            lines.append(
                "  \(entry.sequence) \(entry.channel): '\(entry.label)' (\(entry.operation), \(entry.bytes) bytes) "
                    + "\(entry.state.rawValue), \(tenths(entry.seconds() * 1000)) ms")
        }
        file?.append(lines)
    }
}
