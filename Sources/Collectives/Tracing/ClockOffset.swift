internal import Tensors

/// How far a rank's monotonic clock is ahead of rank 0's. The ranks of one host read one clock.
package struct ClockOffset: Sendable, Equatable {
    package var nanoseconds: Int64
    /// The offset lies within ± this many nanoseconds.
    package var uncertainty: Int64

    package init(nanoseconds: Int64 = 0, uncertainty: Int64 = 0) {
        self.nanoseconds = nanoseconds
        self.uncertainty = uncertainty
    }

    private static let rounds = 64

    /// The offsets of all ranks, the same on every rank. Collective.
    ///
    /// No message arrives before it was sent. In each of some all-gathers every rank sends its clock; the clock of rank 0
    /// at the sending and that of rank r at the arrival bound r's offset from above, the same the other way round from
    /// below (Cristian, "Probabilistic clock synchronization", 1989). Of all rounds the narrowest bounds count.
    package static func measure(_ communicator: any Communicator) throws -> [ClockOffset] {
        let size = communicator.size
        guard communicator.topology.hosts > 1 else { return [ClockOffset](repeating: ClockOffset(), count: size) }
        let rank = communicator.rank
        var sent = [Int64](repeating: 0, count: size)
        var upper = Int64.max
        var lower = [Int64](repeating: .min, count: size)
        for _ in 0..<rounds {
            var own = Int64(MonotonicClock.nanoseconds)
            try withUnsafeBytes(of: &own) { own in
                try sent.withUnsafeMutableBytes { try communicator.allGather(own, into: $0, "clocks") }
            }
            let arrival = Int64(MonotonicClock.nanoseconds)
            upper = min(upper, arrival - sent[0])
            for other in 0..<size { lower[other] = max(lower[other], sent[other] - arrival) }
        }
        // Each rank knows its own upper bound, rank 0 everybody's lower one.
        var uppers = [Int64](repeating: 0, count: size)
        var hosts = uppers
        uppers[rank] = upper
        hosts[rank] = Int64(communicator.topology.host)
        if rank != 0 { lower = [Int64](repeating: 0, count: size) }
        func sum(_ values: inout [Int64]) throws {
            try values.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "clocks") }
        }
        try sum(&uppers)
        try sum(&lower)
        try sum(&hosts)
        return (0..<size).map { other in
            let ofHost = (0..<size).filter { hosts[$0] == hosts[other] }
            if hosts[other] == hosts[0] { return ClockOffset() }
            let low = ofHost.map { lower[$0] }.max() ?? 0
            let high = ofHost.map { uppers[$0] }.min() ?? 0
            return ClockOffset(nanoseconds: low + (high - low) / 2, uncertainty: abs(high - low) / 2)
        }
    }
}
