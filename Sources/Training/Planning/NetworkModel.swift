#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// A way for messages, by latency and bandwidth (Hockney, 1994): a message of n bytes takes α + n/β.
package struct Link: Sendable, Equatable, Codable {
    /// α, in seconds, with the software at both ends.
    package var latency: Double
    /// β, in bytes per second and direction.
    package var bandwidth: Double

    package init(latency: Double, bandwidth: Double) {
        self.latency = latency
        self.bandwidth = bandwidth
    }

    /// TCP's share of what an Ethernet link sends: 1448 bytes of a frame's 1538.
    package static let payload = 0.94

    /// Messages between two processes of one host through MPI's shared memory, with the hand-over between threads at both
    /// ends; of the order that `acuity bench collectives` shows.
    package static let sharedMemory = Link(latency: 40e-6, bandwidth: 4e9)
}

/// What computing and messages between hosts do to one another while both go on: how many times as long each takes as
/// alone.
package struct Contention: Sendable, Equatable, Codable {
    package var computing: Double
    package var messages: Double

    package init(computing: Double, messages: Double) {
        self.computing = max(1, computing)
        self.messages = max(1, messages)
    }

    package static let none = Contention(computing: 1, messages: 1)

    /// From what the system's TCP takes: a link that is busy in both directions takes processor time from the threads
    /// that compute.
    /// - Parameters:
    ///   - secondsPerByte: of a processor, for a byte sent or received; 0 where processors are to spare.
    ///   - threads: that compute.
    package init(_ link: Link, secondsPerByte: Double, threads: Int) {
        self.init(computing: 1 + 2 * link.bandwidth * secondsPerByte / Double(threads), messages: 1)
    }
}

/// What collectives cost over the links between and within hosts (after Thakur, Rabenseifner and Gropp, "Optimization
/// of Collective Communication Operations in MPICH", 2005). A host's ranks share its link.
package struct NetworkModel: Sendable, Equatable, Codable {
    /// Between the ranks of one host, by messages.
    package var local: Link
    /// Between hosts.
    package var remote: Link
    /// Bytes per second that all ranks of a host together move through memory.
    package var memoryBandwidth: Double
    /// While gradients travel between hosts and backward goes on.
    package var contention: Contention

    package init(local: Link, remote: Link, memoryBandwidth: Double, contention: Contention = .none) {
        self.local = local
        self.remote = remote
        self.memoryBandwidth = memoryBandwidth
        self.contention = contention
    }

    private func link(_ placement: Placement) -> Link { placement.hosts > 1 ? remote : local }
    private func rounds(_ count: Int) -> Double { count < 2 ? 0 : ceil(log2(Double(count))) }

    /// All-reduce of `bytes`, the smaller of recursive doubling and reduce-scatter with all-gather.
    package func allReduce(_ bytes: Double, _ placement: Placement) -> Double {
        guard placement.ranks > 1 else { return 0 }
        let link = link(placement)
        let rounds = rounds(placement.ranks)
        let share = Double(placement.ranks - 1) / Double(placement.ranks)
        return min(
            rounds * (link.latency + bytes / link.bandwidth),
            2 * rounds * link.latency + 2 * share * bytes / link.bandwidth)
    }

    /// All-gather, or reduce-scatter, of `bytes` over all ranks: each byte crosses every host's link once.
    package func allGather(_ bytes: Double, _ placement: Placement) -> Double {
        guard placement.ranks > 1 else { return 0 }
        let link = link(placement)
        return rounds(placement.ranks) * link.latency
            + Double(placement.ranks - 1) / Double(placement.ranks) * bytes / link.bandwidth
    }

    /// One bucket of gradients by `GradientReducer`'s route: in the window of each host every segment is read and written
    /// once; between hosts each local rank exchanges its slice.
    package func bucket(_ bytes: Double, _ placement: Placement) -> Double {
        guard placement.ranks > 1 else { return 0 }
        var seconds = 0.0
        if placement.ranksPerHost > 1 {
            seconds += windowLatency + 2 * bytes * Double(placement.ranksPerHost) / memoryBandwidth
        }
        if placement.hosts > 1 {
            let hosts = Double(placement.hosts)
            seconds += 2 * (hosts - 1) / hosts * bytes / remote.bandwidth + 2 * rounds(placement.hosts) * remote.latency
            // Into the messages' memory, summed there, and back: each a read and a write.
            seconds += 6 * bytes / memoryBandwidth
        }
        return seconds
    }

    /// Of a barrier in shared memory.
    private var windowLatency: Double { 5e-6 }
}
