import Collectives
import Foundation
import Tensors
import TestSupport
import Testing

/// Who waits for whom, and how long.
@Suite(.serialized) struct WatchdogTests {
    private static func position(
        _ rank: Int, step: Int = 7, waitingFor label: String? = "norm", host: String = "one"
    ) -> Position {
        Position(
            rank: rank, host: host, phase: .step, step: step, started: 40,
            waiting: label.map {
                Position.Waiting(sequence: 39, operation: "allReduce", label: $0, bytes: 8, seconds: Double(rank) + 1)
            })
    }

    private static func heard(_ positions: Position?...) -> [Verdict.Standing] {
        positions.map { Verdict.Standing(position: $0, silence: $0 == nil ? .infinity : 0.1) }
    }

    @Test func theRankInNoCollectiveIsBehind() {
        let lines = Verdict.lines(
            Self.heard(Self.position(0), Self.position(1, waitingFor: nil, host: "two"), Self.position(2)),
            silentAfter: 3)
        #expect(lines[0].hasPrefix("rank 1 on two is behind"))
        #expect(lines[0].contains("rank(s) 0, 2 wait for it in 'norm'"))
        // Then where each rank is.
        #expect(lines.count == 4 && lines[2].contains("in no collective"))
        #expect(lines[3].contains("in 'norm' (allReduce, 8 bytes, number 39) for 3.0 s"))
    }

    @Test func aSilentRankIsNamedWithItsHost() {
        var standings = Self.heard(Self.position(0), Self.position(1, host: "two"), Self.position(2))
        standings[1].silence = 31
        let lines = Verdict.lines(standings, silentAfter: 3)
        #expect(lines[0].hasPrefix("no word from rank 1 on two for 31.0 s"))
        #expect(!lines.contains { $0.contains("is behind") })
    }

    @Test func ranksAtDifferentPlacesAreToldApart() {
        let late = Verdict.lines(Self.heard(Self.position(0), Self.position(1, step: 6)), silentAfter: 3)
        #expect(late[0].hasPrefix("rank 1 on one is behind: at step 6"))
        let apart = Verdict.lines(
            Self.heard(Self.position(0), Self.position(1), Self.position(2, waitingFor: "labels")), silentAfter: 3)
        #expect(apart[0] == "the ranks are in different collectives: rank(s) 2 in 'labels', rank(s) 0, 1 in 'norm'")
        let together = Verdict.lines(Self.heard(Self.position(0), Self.position(1)), silentAfter: 3)
        #expect(together[0].hasPrefix("all ranks are in 'norm'") && together[0].contains("network"))
        let unheard = Verdict.lines(Self.heard(Self.position(0), nil), silentAfter: 3)
        #expect(unheard.contains { $0.hasPrefix("never heard of rank(s) 1") })
    }

    /// Steps go on beside a checkpoint that hangs, and positions are of different moments.
    @Test func behindTheStepsOnlyAbsenceCounts() {
        func saving(_ rank: Int, step: Int, in label: String = "checkpoint", seconds: Double = 900) -> Position {
            Position(
                rank: rank, host: "one", phase: .step, step: step, started: 40,
                waiting: .init(
                    sequence: 3, operation: "allReduce", label: label, bytes: 8, seconds: seconds, isBehind: true),
                isInBehind: true)
        }
        let absent = Verdict.lines(
            Self.heard(saving(0, step: 9), Self.position(1, step: 8, host: "two"), saving(2, step: 8)), silentAfter: 3)
        #expect(absent[0].hasPrefix("rank 1 on two is behind with the checkpoint: rank(s) 0, 2 wait for it in 'checkpoint'"))
        #expect(!absent[1].contains("behind with"))
        // One that is in it, though a step's collective is what it would name.
        var busy = Self.position(1, step: 8)
        busy.isInBehind = true
        let together = Verdict.lines(Self.heard(saving(0, step: 9), busy, saving(2, step: 8)), silentAfter: 3)
        #expect(together[0].hasPrefix("all ranks are in 'checkpoint'"))
        let apart = Verdict.lines(Self.heard(saving(0, step: 9), saving(1, step: 9, in: "files")), silentAfter: 3)
        #expect(apart[0].hasPrefix("the ranks are in different collectives"))
    }

    // MARK: - Datagrams

    private static func datagram(token: UInt64 = 77, label: String = "norm") -> [UInt8] {
        let ring = CollectiveRing()
        ring.place.enter(.evaluate, step: 12)
        _ = ring.begin(channel: "world", operation: "allReduce", label: label, bytes: 4096)
        var bytes = [UInt8](repeating: 0xFF, count: Beacon.byteCount)
        bytes.withUnsafeMutableBytes {
            Beacon.write(
                rank: 3, host: "a-host", token: token, place: ring.place, started: ring.count,
                entry: ring.oldestRunning,
                now: MonotonicClock.nanoseconds, isOverdue: true, into: $0)
        }
        return bytes
    }

    @Test func aDatagramReadsBack() {
        Self.datagram().withUnsafeBytes { raw in
            #expect(
                Beacon.head(raw, token: 77, ranks: 4) == Beacon.Head(kind: .position, rank: 3, isOverdue: true))
            // Another job's, a rank that is none of ours, a cut one.
            #expect(Beacon.head(raw, token: 78, ranks: 4) == nil)
            #expect(Beacon.head(raw, token: 77, ranks: 3) == nil)
            #expect(Beacon.head(UnsafeRawBufferPointer(rebasing: raw.dropLast()), token: 77, ranks: 4) == nil)
            let position = Beacon.position(raw)
            #expect(
                position.rank == 3 && position.host == "a-host" && position.phase == .evaluate && position.step == 12)
            #expect(position.waiting?.label == "norm" && position.waiting?.bytes == 4096 && position.started == 1)
        }
        // A long label is cut, and nothing that steers a terminal gets through.
        Self.datagram(label: "\u{1B}[2J" + String(repeating: "ä", count: 100)).withUnsafeBytes { raw in
            let label = Beacon.position(raw).waiting?.label ?? ""
            #expect(label.utf8.count <= 84 && !label.contains("\u{1B}"))
        }
    }

    /// Every byte of a datagram may be anything.
    @Test func noDatagramCrashesTheReader() {
        var accepted = 0
        Fuzzer.run(seed: 4, [Self.datagram()], seconds: 0.5, fewest: 2_000) { bytes in
            bytes.withUnsafeBytes { raw in
                guard Beacon.head(raw, token: 77, ranks: 4) != nil else { return }
                accepted += 1
                #expect(!Beacon.position(raw).description.isEmpty)
            }
        }
        #expect(accepted > 100)
    }

    // MARK: - Groups

    private struct Outcome: Sendable {
        var said: [String] = []
        var ended = 0
    }

    /// Ranks with watchdogs that run `body`.
    private func watch(
        ranks: Int, folder: String? = nil, _ body: @escaping @Sendable (any Communicator, Watchdog) throws -> Void
    ) throws -> Outcome {
        let outcome = Box(Outcome())
        _ = try? InProcessGroup.run(ranks: ranks) { communicator in
            let watchdog = try Watchdog(
                over: communicator,
                .init(
                    limit: 0.6, gather: 0.3, grace: 0.3, folder: folder,
                    say: { line in outcome.update { $0.said.append(line) } },
                    end: { outcome.update { $0.ended += 1 } }))
            defer { watchdog.stop() }
            communicator.ring.place.enter(.step, step: 5)
            try communicator.barrier("everybody is here")
            try body(communicator, watchdog)
        }
        return outcome.value
    }

    /// Ranks with watchdogs; `late` runs on the last rank while the others wait for it.
    private func waitForTheLast(
        ranks: Int, folder: String? = nil, _ late: @escaping @Sendable (any Communicator, Watchdog) throws -> Void
    ) throws -> Outcome {
        try watch(ranks: ranks, folder: folder) { communicator, watchdog in
            if communicator.rank == communicator.size - 1 {
                try late(communicator, watchdog)
            } else {
                try communicator.barrier("the last rank is late")
            }
        }
    }

    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "acuity-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder)
    }

    private func sleep(_ seconds: Double) {
        let monitor = Monitor()
        let limit = MonotonicClock.seconds + seconds
        monitor.withLock { while monitor.wait(until: limit) || MonotonicClock.seconds < limit {} }
    }

    @Test func aLateRankIsNamedAndTheJobEnds() throws {
        let outcome = try waitForTheLast(ranks: 3) { _, _ in sleep(3) }
        let text = outcome.said.joined(separator: "\n")
        #expect(outcome.ended >= 1, "\(text)")
        #expect(text.contains("rank 2 on host-0 is behind: at step 5, phase step, it is in no collective"), "\(text)")
        // Each rank says where it is, the late one because it was asked to.
        for rank in 0..<3 { #expect(text.contains("rank \(rank) on host-0: step 5"), "\(text)") }
        #expect(text.contains("'the last rank is late' has not returned within 0.6 s"), "\(text)")
    }

    @Test func aRankThatHasGoneIsNamed() throws {
        let outcome = try waitForTheLast(ranks: 2) { _, watchdog in
            // It has been heard a few times.
            sleep(0.2)
            watchdog.stop()
            sleep(3)
        }
        #expect(outcome.ended >= 1)
        #expect(outcome.said.contains { $0.hasPrefix("no word from rank 1 on host-0") }, "\(outcome.said)")
    }

    @Test func aFailedCollectiveEndsTheJobWithAWordFromAll() throws {
        let outcome = try waitForTheLast(ranks: 2) { _, watchdog in watchdog.fail("the connection was reset") }
        #expect(outcome.ended >= 1)
        #expect(outcome.said.contains { $0.contains("rank 1 on host-0") && $0.contains("the connection was reset") })
        #expect(outcome.said.contains { $0.contains("rank 0 on host-0: step 5") }, "\(outcome.said)")
    }

    @Test func everyRankLeavesAReport() throws {
        try withFolder { folder in
            let run = folder + "/run"
            let outcome = try waitForTheLast(ranks: 2, folder: run) { _, _ in sleep(3) }
            #expect(outcome.ended >= 1)
            for rank in 0..<2 {
                let text = try String(contentsOfFile: "\(run)/watchdog-rank-\(rank).txt", encoding: .utf8)
                #expect(text.hasPrefix("rank \(rank) on host-0: step 5"), "\(text)")
                #expect(text.contains("the last collectives of this rank:\n") && text.hasSuffix("\n"), "\(text)")
                #expect(text.contains("'everybody is here'"), "\(text)")
                #expect(text.contains("rank 1 on host-0 is behind") == (rank == 0), "\(text)")
            }
        }
    }

    /// What the ranks wait for may be the file system of the run folder: opening a pipe waits for a reader, as opening a file
    /// waits for a server that is gone.
    @Test func aFolderThatDoesNotAnswerKeepsNobody() throws {
        try withFolder { folder in
            let files = (0..<2).map { "\(folder)/watchdog-rank-\($0).txt" }
            for file in files { #expect(mkfifo(file, 0o600) == 0) }
            let begin = MonotonicClock.seconds
            let end = Box(0.0)
            let outcome = try waitForTheLast(ranks: 2, folder: folder) { _, _ in
                sleep(4.5)
                end.update { $0 = MonotonicClock.seconds - begin }
            }
            #expect(outcome.ended >= 1, "nobody has ended the job within \(end.value) s")
            let text = outcome.said.joined(separator: "\n")
            #expect(text.contains("rank 1 on host-0 is behind"), "\(text)")
            #expect(text.contains("'the last rank is late' has not returned within 0.6 s"), "\(text)")
            // Lets the threads go that still write; a reader that left would end them with a signal.
            for file in files { #expect(open(file, O_RDONLY | O_NONBLOCK | O_CLOEXEC) >= 0) }
        }
    }

    /// A checkpoint's confirmation hangs while more collectives come and go than the ring holds.
    @Test func aHangBehindTheStepsIsNoticed() throws {
        let outcome = try watch(ranks: 2) { communicator, _ in
            _ = communicator.ring.begin(
                channel: CollectiveRing.behindChannel, operation: "allReduce", label: "confirmation", bytes: 8)
            // Longer than a save may take, three times the limit.
            for _ in 0..<160 {
                for _ in 0..<4 { try communicator.barrier("step") }
                sleep(0.025)
            }
        }
        let text = outcome.said.joined(separator: "\n")
        #expect(outcome.ended >= 1, "\(text)")
        #expect(text.contains("in 'confirmation' (allReduce, 8 bytes"), "\(text)")
        #expect(text.contains("'confirmation' has not returned within 1.8 s"), "\(text)")
    }

    @Test func longerPhasesHaveMoreTime() throws {
        let watchdog = try Watchdog(over: SoloCommunicator(), .init(limit: 20, say: { _ in }, end: {}))
        defer { watchdog.stop() }
        #expect(watchdog.limit(in: .step) == 20 && watchdog.limit(in: .load) == 200 && watchdog.limit(in: .save) == 60)
        #expect(RunPhase.allCases.allSatisfy { watchdog.limit(in: $0) <= Watchdog.longest(limit: 20) })
    }

    @Test func theRingKnowsTheOldestThatRuns() {
        let ring = CollectiveRing(capacity: 4)
        #expect(ring.oldestRunning == nil)
        let first = ring.begin(channel: "world", operation: "barrier", label: "first", bytes: 0)
        let second = ring.begin(channel: "labels", operation: "barrier", label: "second", bytes: 0)
        #expect(ring.oldestRunning?.label == "first")
        ring.end(first, .done)
        #expect(ring.oldestRunning?.label == "second")
        // What no step waits for comes last, however old.
        let behind = ring.begin(
            channel: CollectiveRing.behindChannel, operation: "barrier", label: "behind", bytes: 0)
        let third = ring.begin(channel: "world", operation: "barrier", label: "third", bytes: 0)
        ring.end(second, .done)
        #expect(ring.oldestRunning?.label == "third")
        ring.end(third, .done)
        #expect(ring.oldestRunning?.label == "behind")
        ring.end(behind, .done)
        #expect(ring.oldestRunning == nil)
    }

    @Test func theRingKeepsWhatStillRuns() {
        let ring = CollectiveRing(capacity: 4)
        let hanging = ring.begin(
            channel: CollectiveRing.behindChannel, operation: "allReduce", label: "behind", bytes: 8)
        for round in 0..<10 {
            let step = ring.begin(channel: "world", operation: "barrier", label: "step \(round)", bytes: 0)
            #expect(ring.oldestRunning?.sequence == step)
            #expect(ring.oldestBehind?.sequence == hanging)
            ring.end(step, .done)
        }
        #expect(ring.running.map(\.label) == ["behind"] && ring.oldestRunning?.label == "behind")
        #expect(ring.entries.map(\.sequence) == [0, 7, 8, 9, 10])
        ring.end(hanging, .done)
        #expect(ring.oldestBehind == nil && ring.running.isEmpty && ring.count == 11)
        #expect(ring.waitSeconds(channel: CollectiveRing.behindChannel) > 0)
        // What has ended is forgotten in its turn, which is over.
        #expect(ring.entries.map(\.sequence) == [7, 8, 9, 10])
        ring.end(hanging, .failed)
        #expect(ring.entries.allSatisfy { $0.state == .done })
    }
}
