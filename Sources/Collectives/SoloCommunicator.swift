internal import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// A job of one rank: every collective returns at once.
package final class SoloCommunicator: Communicator {
    package let rank = 0
    package let size = 1
    package let topology: Topology
    package let ring: CollectiveRing

    package init(ring: CollectiveRing = CollectiveRing()) {
        self.ring = ring
        var name = [CChar](repeating: 0, count: 256)
        let known = gethostname(&name, name.count - 1) == 0
        let host = known ? String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) : ""
        topology = Topology(hostName: host.isEmpty ? "localhost" : host, host: 0, hosts: 1, localRank: 0, localSize: 1)
    }

    package func barrier(_ label: String) {}

    package func broadcast(_ bytes: UnsafeMutableRawBufferPointer, root: Int, _ label: String) { check(root) }

    package func allReduce(_ values: UnsafeMutableBufferPointer<Float>, _ reduction: Reduction, _ label: String) {}
    package func allReduce(_ values: UnsafeMutableBufferPointer<Double>, _ reduction: Reduction, _ label: String) {}
    package func allReduce(_ values: UnsafeMutableBufferPointer<Int64>, _ reduction: Reduction, _ label: String) {}

    package func allGather(
        _ block: UnsafeRawBufferPointer, into all: UnsafeMutableRawBufferPointer, _ label: String
    ) {
        precondition(all.count == block.count, "allGather of \(block.count) bytes into \(all.count)")
        if block.count > 0, all.baseAddress! != block.baseAddress! { all.copyMemory(from: block) }
    }

    package func reduceScatter(
        _ values: UnsafeBufferPointer<Float>, into block: UnsafeMutableBufferPointer<Float>, _ label: String
    ) {
        precondition(values.count == block.count, "reduceScatter of \(values.count) into \(block.count) values")
        UnsafeMutableRawBufferPointer(block).copyMemory(from: UnsafeRawBufferPointer(values))
    }

    package func allToAll(
        _ blocks: UnsafeRawBufferPointer, into received: UnsafeMutableRawBufferPointer, _ label: String
    ) {
        precondition(blocks.count == received.count, "allToAll of \(blocks.count) bytes into \(received.count)")
        received.copyMemory(from: blocks)
    }

    package func gather(_ bytes: [UInt8], root: Int, _ label: String) -> [[UInt8]]? {
        check(root)
        return [bytes]
    }

    package func makeSharedWindow(byteCount: Int) -> (any SharedWindow)? {
        SoloWindow(own: AlignedBuffer(byteCount: byteCount))
    }

    package func split(color: Int, key: Int, channel: String) -> any Communicator { SoloCommunicator(ring: ring) }

    private func check(_ root: Int) { precondition(root == 0, "rank \(root) of a job of one rank") }
}

/// Memory of a rank without neighbours.
private final class SoloWindow: SharedWindow {
    let own: AlignedBuffer
    var segments: [UnsafeMutableRawPointer] { [own.base] }

    init(own: AlignedBuffer) { self.own = own }

    func synchronise() {}
}
