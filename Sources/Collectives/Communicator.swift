package import Tensors

/// The reductions that collectives offer.
package enum Reduction: Sendable { case sum, max, min }

/// Where the ranks run.
package struct Topology: Sendable, Equatable {
    package var hostName: String
    /// Which host this is, 0..<hosts, in the order of their first rank.
    package var host: Int
    package var hosts: Int
    /// This rank's place among the ranks of its host.
    package var localRank: Int
    package var localSize: Int

    package init(hostName: String, host: Int, hosts: Int, localRank: Int, localSize: Int) {
        self.hostName = hostName
        self.host = host
        self.hosts = hosts
        self.localRank = localRank
        self.localSize = localSize
    }
}

/// What every rank of a job shares: a fixed group of ranks and its collective operations.
///
/// All ranks call the same operations in the same order; `label` names the operation in error messages, in the ring of
/// recent collectives and in traces. Calls block until the local result is ready. A call throws `CollectiveError` when
/// a peer is lost, the deadline passes, or the ranks disagree about the operation (debug mode).
package protocol Communicator: AnyObject, Sendable {
    var rank: Int { get }
    var size: Int { get }
    var topology: Topology { get }
    /// The recent collectives of this rank, for a watchdog; shared by all communicators split from one another.
    var ring: CollectiveRing { get }

    func barrier(_ label: String) throws
    /// Copies `bytes` of `root` to all ranks.
    func broadcast(_ bytes: UnsafeMutableRawBufferPointer, root: Int, _ label: String) throws
    /// In place; the same bits on every rank.
    func allReduce(_ values: UnsafeMutableBufferPointer<Float>, _ reduction: Reduction, _ label: String) throws
    func allReduce(_ values: UnsafeMutableBufferPointer<Double>, _ reduction: Reduction, _ label: String) throws
    func allReduce(_ values: UnsafeMutableBufferPointer<Int64>, _ reduction: Reduction, _ label: String) throws
    /// Gathers the equal-sized `block` of every rank into `all`, in rank order.
    func allGather(_ block: UnsafeRawBufferPointer, into all: UnsafeMutableRawBufferPointer, _ label: String) throws
    /// `values` holds `size` equal blocks; rank r receives the sum over ranks of block r.
    func reduceScatter(
        _ values: UnsafeBufferPointer<Float>, into block: UnsafeMutableBufferPointer<Float>, _ label: String) throws
    /// `blocks` holds `size` equal blocks; block r goes to rank r, which receives the blocks in rank order. The two
    /// memories do not overlap.
    func allToAll(
        _ blocks: UnsafeRawBufferPointer, into received: UnsafeMutableRawBufferPointer, _ label: String) throws
    /// The bytes of every rank, of any sizes, in rank order, on `root`; nil on the others.
    func gather(_ bytes: [UInt8], root: Int, _ label: String) throws -> [[UInt8]]?

    /// Memory of `byteCount` bytes for each rank of this host, readable by its neighbours, so that gradients can be
    /// summed in place; nil where the transport has none or the host's shared memory is too small.
    func makeSharedWindow(byteCount: Int) throws -> (any SharedWindow)?

    /// The ranks that gave the same `color` as a communicator of their own, ordered by `key`, then by rank.
    ///
    /// Collectives on different communicators do not wait for one another, so each thread that calls collectives needs
    /// a communicator of its own. `channel` names it in the ring of recent collectives.
    func split(color: Int, key: Int, channel: String) throws -> any Communicator
}

extension Communicator {
    /// The same ranks in the same order, independent of the operations on `self`.
    package func duplicate(channel: String) throws -> any Communicator {
        try split(color: 0, key: rank, channel: channel)
    }

    /// One value, combined over all ranks.
    package func allReduce(_ value: Double, _ reduction: Reduction, _ label: String) throws -> Double {
        var value = value
        try withUnsafeMutablePointer(to: &value) {
            try allReduce(UnsafeMutableBufferPointer(start: $0, count: 1), reduction, label)
        }
        return value
    }

    /// One value, combined over all ranks.
    package func allReduce(_ value: Int, _ reduction: Reduction, _ label: String) throws -> Int {
        var value = Int64(value)
        try withUnsafeMutablePointer(to: &value) {
            try allReduce(UnsafeMutableBufferPointer(start: $0, count: 1), reduction, label)
        }
        return Int(value)
    }

    /// The bytes of `root`, of any size, on every rank; what the others pass is ignored.
    package func broadcast(_ bytes: [UInt8], root: Int, _ label: String) throws -> [UInt8] {
        var count = Int64(rank == root ? bytes.count : 0)
        try withUnsafeMutableBytes(of: &count) { try broadcast($0, root: root, label) }
        var result = rank == root ? bytes : [UInt8](repeating: 0, count: Int(count))
        try result.withUnsafeMutableBytes { try broadcast($0, root: root, label) }
        return result
    }
}

/// One rank's segment of memory and its host neighbours' segments.
package protocol SharedWindow: AnyObject, Sendable {
    /// This rank's segment, zero at first.
    var own: AlignedBuffer { get }
    /// All segments of the host, by local rank.
    var segments: [UnsafeMutableRawPointer] { get }
    /// Waits until all ranks of the host have arrived and their writes are visible; spins briefly, then sleeps.
    /// Throws `CollectiveError.timedOut` when a neighbour does not arrive before the deadline.
    func synchronise() throws
}

/// Why a collective did not return.
package enum CollectiveError: Error, Equatable, CustomStringConvertible {
    case peerLost(label: String, detail: String)
    case timedOut(label: String, seconds: Double)
    case mismatch(label: String, detail: String)
    case unavailable(String)

    package var description: String {
        switch self {
        case .peerLost(let label, let detail): "lost a rank in '\(label)': \(detail)"
        case .timedOut(let label, let seconds): "'\(label)' did not return within \(seconds) s"
        case .mismatch(let label, let detail): "the ranks disagree about '\(label)': \(detail)"
        case .unavailable(let detail): "MPI is unavailable: \(detail)"
        }
    }
}
