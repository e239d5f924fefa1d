package import Collectives
internal import Tensors

/// One check that every rank of a communicator runs together; it throws `CheckFailure` on the ranks that see a fault.
///
/// The same checks run on threads in the unit tests and under mpirun in `parallel-tests`.
package struct MultiRankCheck: Sendable, CustomStringConvertible {
    package let name: String
    package let body: @Sendable (any Communicator) throws -> Void

    package init(_ name: String, _ body: @escaping @Sendable (any Communicator) throws -> Void) {
        self.name = name
        self.body = body
    }

    package var description: String { name }
}

/// What a check found.
package struct CheckFailure: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}

/// Throws a `CheckFailure` unless `condition` holds.
package func check(_ condition: Bool, _ message: @autoclosure () -> String) throws {
    if !condition { throw CheckFailure(message()) }
}

extension MultiRankCheck {
    /// The operations of `Communicator`, at sizes that no number of ranks divides.
    package static let communicator: [MultiRankCheck] = [
        MultiRankCheck("barrier waits for the last rank", barrierWaits),
        MultiRankCheck("broadcast from every root", broadcastFromEveryRoot),
        MultiRankCheck("all-reduce of floats, doubles and integers", allReduceOfEveryType),
        MultiRankCheck("all-reduce gives the same bits on every rank", allReduceBits),
        MultiRankCheck("all-gather keeps the order of ranks", allGatherOrder),
        MultiRankCheck("reduce-scatter gives rank r block r", reduceScatterBlocks),
        MultiRankCheck("all-to-all transposes blocks", allToAllTransposes),
        MultiRankCheck("gather of unequal sizes to every root", gatherOfUnequalSizes),
        MultiRankCheck("split by parity, reversed by key", splitByParity),
        MultiRankCheck("empty operations", emptyOperations),
        MultiRankCheck("topology agrees with the ranks' hosts", topologyAgrees),
        MultiRankCheck("shared window is visible to the neighbours", windowIsShared),
        MultiRankCheck("the ring records what ran", ringRecords),
    ]

    private static let sizes = [1, 3, 17, 1001, 70_001]

    @Sendable private static func barrierWaits(_ communicator: any Communicator) throws {
        // Counted from before the first barrier: a rank that is slow to leave it must not seem to wait less.
        let start = MonotonicClock.seconds
        try communicator.barrier("aligned")
        if communicator.rank == communicator.size - 1 {
            let end = MonotonicClock.seconds + 0.05
            while MonotonicClock.seconds < end {}
        }
        try communicator.barrier("delayed")
        let waited = MonotonicClock.seconds - start
        try check(waited >= 0.05, "left the barrier after \(waited) s")
    }

    @Sendable private static func broadcastFromEveryRoot(_ communicator: any Communicator) throws {
        for root in 0..<communicator.size {
            for size in sizes {
                let expected = (0..<size).map { UInt8(truncatingIfNeeded: $0 * 7 + root) }
                var bytes = communicator.rank == root ? expected : [UInt8](repeating: 0xEE, count: size)
                try bytes.withUnsafeMutableBytes { try communicator.broadcast($0, root: root, "broadcast") }
                try check(bytes == expected, "broadcast of \(size) bytes from rank \(root)")
            }
            let mine = [UInt8](repeating: UInt8(communicator.rank), count: communicator.rank * 100 + 5)
            let received = try communicator.broadcast(mine, root: root, "broadcast of any size")
            try check(received == [UInt8](repeating: UInt8(root), count: root * 100 + 5), "bytes of rank \(root)")
        }
    }

    @Sendable private static func allReduceOfEveryType(_ communicator: any Communicator) throws {
        let ranks = 0..<communicator.size
        func value(_ index: Int, _ rank: Int) -> Int { (index * 31 + rank * 17) % 101 - 50 }
        for size in sizes {
            for reduction in [Reduction.sum, .max, .min] {
                let expected = (0..<size).map { index in
                    let values = ranks.map { value(index, $0) }
                    return switch reduction {
                    case .sum: values.reduce(0, +)
                    case .max: values.max()!
                    case .min: values.min()!
                    }
                }
                var floats = (0..<size).map { Float(value($0, communicator.rank)) }
                var doubles = floats.map(Double.init)
                var integers = floats.map { Int64($0) }
                try floats.withUnsafeMutableBufferPointer { try communicator.allReduce($0, reduction, "floats") }
                try doubles.withUnsafeMutableBufferPointer { try communicator.allReduce($0, reduction, "doubles") }
                try integers.withUnsafeMutableBufferPointer { try communicator.allReduce($0, reduction, "integers") }
                try check(floats == expected.map { Float($0) }, "\(reduction) of \(size) floats")
                try check(doubles == expected.map { Double($0) }, "\(reduction) of \(size) doubles")
                try check(integers == expected.map { Int64($0) }, "\(reduction) of \(size) integers")
            }
        }
        let sum = try communicator.allReduce(communicator.rank + 1, .sum, "one integer")
        try check(sum == ranks.reduce(0) { $0 + $1 + 1 }, "sum of one integer: \(sum)")
        let large = try communicator.allReduce(Double(communicator.rank) + 0.5, .max, "one double")
        try check(large == Double(communicator.size) - 0.5, "maximum of one double: \(large)")
    }

    @Sendable private static func allReduceBits(_ communicator: any Communicator) throws {
        var values = (0..<9_973).map { Float($0 % 89 + 1) / Float(communicator.rank * 3 + 7) }
        try values.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "bits") }
        try checkSameBits(values, on: communicator, "all-reduce")
    }

    /// Compares the bits of `values` with those of rank 0.
    package static func checkSameBits(_ values: [Float], on communicator: any Communicator, _ what: String) throws {
        let mine = values.withUnsafeBytes { Array($0) }
        let first = try communicator.broadcast(mine, root: 0, "bits of rank 0")
        let same = mine == first
        let all = try communicator.allReduce(same ? 1 : 0, .min, "same bits")
        try check(all == 1, "\(what): rank \(communicator.rank) has \(same ? "the same" : "other") bits as rank 0")
    }

    @Sendable private static func allGatherOrder(_ communicator: any Communicator) throws {
        for size in sizes {
            let block = (0..<size).map { Float($0) + 0.25 * Float(communicator.rank) }
            var all = [Float](repeating: -1, count: size * communicator.size)
            try block.withUnsafeBytes { block in
                try all.withUnsafeMutableBytes { try communicator.allGather(block, into: $0, "all-gather") }
            }
            for rank in 0..<communicator.size {
                let expected = (0..<size).map { Float($0) + 0.25 * Float(rank) }
                try check(Array(all[rank * size..<(rank + 1) * size]) == expected, "block \(rank) of \(size) floats")
            }
            // In place: the block already lies where it belongs.
            var inPlace = [UInt8](repeating: 0, count: 5 * communicator.size)
            for index in 0..<5 { inPlace[communicator.rank * 5 + index] = UInt8(communicator.rank * 10 + index) }
            try inPlace.withUnsafeMutableBytes { bytes in
                let own = UnsafeRawBufferPointer(rebasing: bytes[communicator.rank * 5..<communicator.rank * 5 + 5])
                try communicator.allGather(own, into: bytes, "all-gather in place")
            }
            let expected = (0..<communicator.size).flatMap { rank in (0..<5).map { UInt8(rank * 10 + $0) } }
            try check(inPlace == expected, "all-gather in place: \(inPlace)")
        }
    }

    @Sendable private static func reduceScatterBlocks(_ communicator: any Communicator) throws {
        let (rank, count) = (communicator.rank, communicator.size)
        for size in sizes {
            let values = (0..<size * count).map { Float($0 % 1013 + rank) }
            var block = [Float](repeating: -1, count: size)
            try values.withUnsafeBufferPointer { values in
                try block.withUnsafeMutableBufferPointer {
                    try communicator.reduceScatter(values, into: $0, "reduce-scatter")
                }
            }
            let expected = (0..<size).map { Float(((rank * size + $0) % 1013) * count + count * (count - 1) / 2) }
            try check(block == expected, "block of \(size) floats")
        }
    }

    @Sendable private static func allToAllTransposes(_ communicator: any Communicator) throws {
        let (rank, count) = (communicator.rank, communicator.size)
        for size in sizes {
            let blocks = (0..<count).flatMap { target in (0..<size).map { Int32($0 * 100 + target * 10 + rank) } }
            var received = [Int32](repeating: -1, count: blocks.count)
            try blocks.withUnsafeBytes { blocks in
                try received.withUnsafeMutableBytes { try communicator.allToAll(blocks, into: $0, "all-to-all") }
            }
            let expected = (0..<count).flatMap { source in (0..<size).map { Int32($0 * 100 + rank * 10 + source) } }
            try check(received == expected, "all-to-all of \(size) integers")
        }
    }

    @Sendable private static func gatherOfUnequalSizes(_ communicator: any Communicator) throws {
        func bytes(_ rank: Int) -> [UInt8] { (0..<rank * 1_237).map { UInt8(truncatingIfNeeded: $0 + rank) } }
        for root in 0..<communicator.size {
            let gathered = try communicator.gather(bytes(communicator.rank), root: root, "gather")
            if communicator.rank == root {
                try check(gathered == (0..<communicator.size).map(bytes), "gather to rank \(root)")
            } else {
                try check(gathered == nil, "rank \(communicator.rank) received what is gathered to \(root)")
            }
        }
    }

    @Sendable private static func splitByParity(_ communicator: any Communicator) throws {
        let rank = communicator.rank
        let half = try communicator.split(color: rank % 2, key: -rank, channel: "parity")
        let members = Array((0..<communicator.size).filter { $0 % 2 == rank % 2 }.reversed())
        try check(half.size == members.count, "\(half.size) ranks of parity \(rank % 2)")
        try check(members[half.rank] == rank, "rank \(rank) became rank \(half.rank)")
        let sum = try half.allReduce(rank, .sum, "sum of a parity")
        try check(sum == members.reduce(0, +), "sum \(sum) over ranks \(members)")
        let copy = try communicator.duplicate(channel: "copy")
        try check(copy.rank == rank && copy.size == communicator.size, "a duplicate keeps ranks")
        try check(copy.topology == communicator.topology, "a duplicate keeps the topology")
    }

    @Sendable private static func emptyOperations(_ communicator: any Communicator) throws {
        var none: [Float] = []
        try none.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "empty") }
        try none.withUnsafeMutableBytes { bytes in
            try communicator.broadcast(bytes, root: 0, "empty")
            try communicator.allGather(UnsafeRawBufferPointer(bytes), into: bytes, "empty")
        }
        let gathered = try communicator.gather([], root: 0, "empty")
        if communicator.rank == 0 { try check(gathered!.allSatisfy(\.isEmpty), "gathered something from nothing") }
    }

    @Sendable private static func topologyAgrees(_ communicator: any Communicator) throws {
        let topology = communicator.topology
        try check(topology.host < topology.hosts, "host \(topology.host) of \(topology.hosts)")
        try check(topology.localRank < topology.localSize, "local rank \(topology.localRank) of \(topology.localSize)")
        try check(!topology.hostName.isEmpty, "a host without a name")
        let leaders = try communicator.allReduce(topology.localRank == 0 ? 1 : 0, .sum, "leaders")
        try check(leaders == topology.hosts, "\(leaders) local ranks 0 on \(topology.hosts) hosts")
        let last = topology.localRank == topology.localSize - 1
        let ranks = try communicator.allReduce(last ? topology.localSize : 0, .sum, "local sizes")
        try check(ranks == communicator.size, "\(ranks) ranks on all hosts")
    }

    @Sendable private static func windowIsShared(_ communicator: any Communicator) throws {
        let count = 10_007
        guard let window = try communicator.makeSharedWindow(byteCount: count * 4) else {
            throw CheckFailure("no shared memory for \(count * 4) bytes per rank")
        }
        try check(window.segments.count == communicator.topology.localSize, "\(window.segments.count) segments")
        try check(window.own.base == window.segments[communicator.topology.localRank], "own segment")
        let own = window.own.base.assumingMemoryBound(to: Int32.self)
        try check((0..<count).allSatisfy { own[$0] == 0 }, "a new segment is not zero")
        for round in 1...50 {
            for index in 0..<count { own[index] = Int32(index + round * (communicator.topology.localRank + 1)) }
            try window.synchronise()
            for (local, segment) in window.segments.enumerated() {
                let values = segment.assumingMemoryBound(to: Int32.self)
                let expected = { Int32($0 + round * (local + 1)) }
                try check((0..<count).allSatisfy { values[$0] == expected($0) }, "round \(round), segment \(local)")
            }
            try window.synchronise()
        }
        try communicator.barrier("window used")
    }

    @Sendable private static func ringRecords(_ communicator: any Communicator) throws {
        let before = communicator.ring.count
        _ = try communicator.allReduce(1, .sum, "a name to look for")
        let found = communicator.ring.entries.filter { $0.sequence >= before && $0.label == "a name to look for" }
        try check(found.count == 1, "\(found.count) entries of the last collective")
        try check(found[0].state == .done && found[0].end >= found[0].start, "entry \(found[0])")
        try check(found[0].bytes == 8, "\(found[0].bytes) bytes noted for one integer")
        try check(communicator.ring.running.isEmpty, "still running: \(communicator.ring.running)")
        try check(communicator.ring.entries.count <= communicator.ring.capacity, "the ring has grown")
    }
}
