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
    /// The bytes of every rank, of any sizes, in rank order, on `root`; nil on the others.
    func gather(_ bytes: [UInt8], root: Int, _ label: String) throws -> [[UInt8]]?

    /// Memory of `byteCount` bytes for each rank of this host, readable by its neighbours, so that gradients can be
    /// summed in place; nil where the transport has none or the host's shared memory is too small.
    func makeSharedWindow(byteCount: Int) throws -> (any SharedWindow)?
}

/// One rank's segment of memory and its host neighbours' segments.
package protocol SharedWindow: AnyObject, Sendable {
    /// This rank's segment, zero at first.
    var own: AlignedBuffer { get }
    /// All segments of the host, by local rank.
    var segments: [UnsafeMutableRawPointer] { get }
    /// Waits until all ranks of the host have arrived and their writes are visible; spins briefly, then sleeps.
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
