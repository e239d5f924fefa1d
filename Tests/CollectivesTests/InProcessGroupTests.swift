import Collectives
import Tensors
import TestSupport
import Testing

@Suite struct InProcessGroupTests {
    private struct OwnError: Error, Equatable {}

    @Test(arguments: MultiRankCheck.communicator, [1, 2, 3, 4])
    func operation(_ check: MultiRankCheck, ranks: Int) throws {
        _ = try InProcessGroup.run(ranks: ranks) { try check.body($0) }
    }

    @Test(arguments: MultiRankCheck.communicator, [[1, 1], [2, 1], [1, 2, 1], [2, 2]])
    func operationOnSeveralHosts(_ check: MultiRankCheck, ranksPerHost: [Int]) throws {
        let ranks = ranksPerHost.reduce(0, +)
        _ = try InProcessGroup.run(ranks: ranks, ranksPerHost: ranksPerHost) { try check.body($0) }
    }

    @Test(arguments: MultiRankCheck.communicator)
    func solo(_ check: MultiRankCheck) throws {
        if check.name == "the ring records what ran" { return }
        try check.body(SoloCommunicator())
    }

    @Test func resultsAreInRankOrder() throws {
        let results = try InProcessGroup.run(ranks: 4) { communicator in
            try communicator.barrier("start")
            return communicator.rank * 10
        }
        #expect(results == [0, 10, 20, 30])
    }

    @Test func topologyOfSeveralHosts() throws {
        let topologies = try InProcessGroup.run(ranks: 3, ranksPerHost: [2, 1]) { $0.topology }
        #expect(topologies.map(\.host) == [0, 0, 1])
        #expect(topologies.map(\.localRank) == [0, 1, 0])
        #expect(topologies.map(\.localSize) == [2, 2, 1])
        #expect(topologies.allSatisfy { $0.hosts == 2 })
        #expect(Set(topologies.map(\.hostName)).count == 2)
    }

    @Test(arguments: 0..<3)
    func aThrowingRankReleasesTheOthers(_ culprit: Int) throws {
        let seen = Box<[Int: CollectiveError]>([:])
        #expect(throws: OwnError()) {
            try InProcessGroup.run(ranks: 3) { communicator in
                if communicator.rank == culprit { throw OwnError() }
                do {
                    try communicator.barrier("needs all")
                } catch let error as CollectiveError {
                    seen.update { $0[communicator.rank] = error }
                    throw error
                }
            }
        }
        #expect(seen.value.count == 2)
        for error in seen.value.values {
            guard case .peerLost("needs all", let detail) = error else {
                Issue.record("threw \(error)")
                continue
            }
            #expect(detail.contains("rank \(culprit)"))
        }
    }

    @Test func aRankThatReturnsEarlyReleasesTheOthers() throws {
        #expect(throws: CollectiveError.peerLost(label: "second", detail: "rank 1 has ended")) {
            try InProcessGroup.run(ranks: 2) { communicator in
                try communicator.barrier("first")
                if communicator.rank == 1 { return }
                try communicator.barrier("second")
            }
        }
    }

    @Test func aLostRankReleasesSplitGroups() throws {
        #expect(throws: OwnError()) {
            try InProcessGroup.run(ranks: 3) { communicator in
                let half = try communicator.split(color: communicator.rank / 2, key: 0, channel: "half")
                if communicator.rank == 1 { throw OwnError() }
                // Rank 2 is alone in its half and is not concerned.
                try half.barrier("half")
                #expect(communicator.rank == 2)
            }
        }
    }

    @Test func timesOut() throws {
        #expect(throws: CollectiveError.timedOut(label: "late", seconds: 0.05)) {
            try InProcessGroup.run(ranks: 2, deadline: 0.05) { communicator in
                if communicator.rank == 1 {
                    let end = MonotonicClock.seconds + 0.3
                    while MonotonicClock.seconds < end {}
                }
                try communicator.barrier("late")
            }
        }
    }

    @Test func disagreementIsNamed() throws {
        let errors = Box<[CollectiveError]>([])
        #expect(throws: CollectiveError.self) {
            try InProcessGroup.run(ranks: 2) { communicator in
                var values = [Float](repeating: 1, count: 4 + communicator.rank)
                do {
                    try values.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "norm") }
                } catch let error as CollectiveError {
                    errors.update { $0.append(error) }
                    throw error
                }
            }
        }
        #expect(errors.value.count == 2)
        for error in errors.value {
            #expect("\(error)".contains("sum of 4 Float") && "\(error)".contains("sum of 5 Float"))
        }
    }

    @Test func aWindowBeyondTheLimitIsRefused() throws {
        let made = try InProcessGroup.run(ranks: 2, windowLimit: 1000) { communicator in
            [
                try communicator.makeSharedWindow(byteCount: 500) != nil,
                try communicator.makeSharedWindow(byteCount: 501) != nil,
            ]
        }
        #expect(made == [[true, false], [true, false]])
    }
}

@Suite struct CollectiveRingTests {
    @Test func keepsTheNewestEntries() throws {
        let ring = CollectiveRing(capacity: 4)
        for index in 0..<10 {
            try ring.record(channel: "world", operation: "barrier", label: "\(index)", bytes: index) {}
        }
        #expect(ring.entries.map(\.label) == ["6", "7", "8", "9"])
        #expect(ring.count == 10)
        #expect(ring.running.isEmpty)
    }

    @Test func showsWhatIsRunningAndWhatFailed() {
        struct Failure: Error {}
        let ring = CollectiveRing(capacity: 4)
        let pending = ring.begin(channel: "gradients", operation: "allReduce", label: "bucket 3", bytes: 64)
        #expect(throws: Failure.self) {
            try ring.record(channel: "world", operation: "barrier", label: "b", bytes: 0) { throw Failure() }
        }
        #expect(ring.running.map(\.label) == ["bucket 3"])
        #expect(ring.running[0].seconds(now: ring.running[0].start + 2_000_000_000) == 2)
        #expect(ring.entries.map(\.state) == [.running, .failed])
        ring.end(pending, .done)
        #expect(ring.running.isEmpty)
        #expect(ring.waitSeconds(channel: "gradients") > 0)
        #expect(ring.waitSeconds() >= ring.waitSeconds(channel: "gradients"))
    }
}
