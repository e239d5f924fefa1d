import Collectives
import Tensors
import TestSupport
import Testing

@Suite struct GradientReducerTests {
    private struct OwnError: Error, Equatable {}

    @Test(arguments: MultiRankCheck.reducer, [1, 2, 3, 4])
    func reducer(_ check: MultiRankCheck, ranks: Int) throws {
        _ = try InProcessGroup.run(ranks: ranks) { try check.body($0) }
    }

    @Test(arguments: MultiRankCheck.reducer, [[1, 1], [2, 1], [1, 2, 1], [2, 2]])
    func onSeveralHosts(_ check: MultiRankCheck, ranksPerHost: [Int]) throws {
        let ranks = ranksPerHost.reduce(0, +)
        _ = try InProcessGroup.run(ranks: ranks, ranksPerHost: ranksPerHost) { try check.body($0) }
    }

    @Test func withoutEnoughSharedMemorySendsMessages() throws {
        let sums = try InProcessGroup.run(ranks: 3, windowLimit: 3 * 39) { communicator in
            let reducer = try GradientReducer(communicator: communicator, elementCount: 10, bucketRanges: [0..<10])
            #expect(reducer.route == .messages)
            reducer.gradients.update(repeating: Float(communicator.rank + 1))
            reducer.begin()
            reducer.bucketReady(0)
            try reducer.finish()
            return Array(reducer.gradients)
        }
        #expect(sums.allSatisfy { $0 == [Float](repeating: 6, count: 10) })
    }

    @Test(arguments: [true, false])
    func aLostRankEndsTheStepOfTheOthers(_ sharesMemory: Bool) throws {
        let errors = Box<[String]>([])
        #expect(throws: OwnError()) {
            try InProcessGroup.run(ranks: 3) { communicator in
                let reducer = try GradientReducer(
                    communicator: communicator, elementCount: 100, bucketRanges: [50..<100, 0..<50],
                    sharesMemory: sharesMemory)
                reducer.begin()
                reducer.bucketReady(0)
                if communicator.rank == 1 {
                    reducer.cancel(OwnError())
                    throw OwnError()
                }
                reducer.bucketReady(1)
                for _ in 0..<2 {
                    do {
                        try reducer.finish()
                    } catch let error as CollectiveError {
                        guard case .peerLost = error else { throw error }
                        errors.update { $0.append("\(error)") }
                    }
                    // A failed reducer stays failed, and still hangs nowhere.
                    reducer.begin()
                    reducer.bucketReady(0)
                    reducer.bucketReady(1)
                }
            }
        }
        #expect(errors.value.count == 4)
    }

    @Test func aCancelledStepThrowsItsError() throws {
        #expect(throws: OwnError()) {
            try InProcessGroup.run(ranks: 2) { communicator in
                let reducer = try GradientReducer(communicator: communicator, elementCount: 4, bucketRanges: [0..<4])
                reducer.begin()
                reducer.cancel(OwnError())
                try reducer.finish()
            }
        }
    }

    @Test func communicationHidesBehindBackward() throws {
        _ = try InProcessGroup.run(ranks: 2) { communicator in
            let reducer = try GradientReducer(
                communicator: communicator, elementCount: 64, bucketRanges: [32..<64, 0..<32])
            reducer.begin()
            reducer.bucketReady(0)
            // Backward goes on; the first bucket has to be summed without its help.
            let end = MonotonicClock.seconds + 20
            var reduced = false
            while !reduced && MonotonicClock.seconds < end {
                reduced = communicator.ring.entries.contains {
                    $0.label == "gradients, bucket 0" && $0.channel == "gradients" && $0.state == .done
                }
            }
            #expect(reduced)
            reducer.bucketReady(1)
            let timing = try reducer.finish()
            #expect(timing.communication > 0)
            #expect(communicator.ring.waitSeconds(channel: "gradients") > 0)
        }
    }
}

@Suite struct SharedMemoryWindowTests {
    /// Ranks that are threads map the same file several times, as processes would.
    @Test(arguments: [1, 2, 3, 4])
    func isVisibleThroughEveryMapping(_ ranks: Int) throws {
        _ = try InProcessGroup.run(ranks: ranks) { communicator in
            let count = 1_001
            let made = try SharedMemoryWindow.make(byteCount: count * 8, host: communicator, deadline: 20)
            let window = try #require(made)
            let own = window.own.base.assumingMemoryBound(to: Int.self)
            #expect((0..<count).allSatisfy { own[$0] == 0 })
            for round in 1...200 {
                for index in 0..<count { own[index] = index * round + communicator.rank }
                try window.synchronise()
                for (rank, segment) in window.segments.enumerated() {
                    let values = segment.assumingMemoryBound(to: Int.self)
                    #expect((0..<count).allSatisfy { values[$0] == $0 * round + rank })
                }
                try window.synchronise()
            }
        }
    }

    @Test func isRefusedWhenTheFileSystemIsTooSmall() throws {
        let free = try #require(SharedMemoryWindow.freeBytes)
        let made = try InProcessGroup.run(ranks: 2) { communicator in
            try SharedMemoryWindow.make(byteCount: free, host: communicator, deadline: 20) != nil
        }
        #expect(made == [false, false])
        let after = try #require(SharedMemoryWindow.freeBytes)
        #expect(after > free / 2)
    }

    @Test func aMissingNeighbourTimesOut() throws {
        let errors = Box<[CollectiveError]>([])
        _ = try InProcessGroup.run(ranks: 3) { communicator in
            let window = try SharedMemoryWindow.make(byteCount: 64, host: communicator, deadline: 0.1)
            if communicator.rank == 2 { return }
            do {
                try #require(window).synchronise()
            } catch let error as CollectiveError {
                errors.update { $0.append(error) }
            }
        }
        #expect(errors.value.count == 2)
        #expect(errors.value.contains(.timedOut(label: "window", seconds: 0.1)))
    }
}
