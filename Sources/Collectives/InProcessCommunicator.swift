internal import Tensors

/// One rank of an `InProcessGroup`.
package final class InProcessCommunicator: Communicator {
    package let rank: Int
    package let topology: Topology
    package let ring: CollectiveRing
    private let meeting: RankMeeting
    private let channel: String

    init(rank: Int, meeting: RankMeeting, channel: String, ring: CollectiveRing) {
        self.rank = rank
        self.meeting = meeting
        self.channel = channel
        self.ring = ring
        topology = Topology(rank: rank, hosts: meeting.hosts) { "host-\($0)" }
    }

    package var size: Int { meeting.size }

    /// One collective: the ranks meet, look at each other's slots, and meet again.
    private func collective<Result>(
        _ operation: String, _ label: String, bytes: Int, signature: String = "", _ slot: RankMeeting.Slot,
        _ body: ([RankMeeting.Slot]) throws -> Result
    ) throws -> Result {
        var slot = slot
        slot.signature = "\(operation)(\(signature)) '\(label)'"
        return try ring.record(channel: channel, operation: operation, label: label, bytes: bytes) {
            try meeting.exchange(rank, label, slot, body)
        }
    }

    package func barrier(_ label: String) throws {
        try collective("barrier", label, bytes: 0, .init()) { _ in }
    }

    package func broadcast(_ bytes: UnsafeMutableRawBufferPointer, root: Int, _ label: String) throws {
        let slot = RankMeeting.Slot(memory: bytes.baseAddress)
        try collective("broadcast", label, bytes: bytes.count, signature: "\(bytes.count) bytes from \(root)", slot) {
            if rank != root, bytes.count > 0 {
                bytes.copyMemory(from: UnsafeRawBufferPointer(start: $0[root].memory, count: bytes.count))
            }
        }
    }

    package func allReduce(_ values: UnsafeMutableBufferPointer<Float>, _ reduction: Reduction, _ label: String) throws {
        try allReduceAny(values, reduction, label, add: +)
    }

    package func allReduce(_ values: UnsafeMutableBufferPointer<Double>, _ reduction: Reduction, _ label: String) throws {
        try allReduceAny(values, reduction, label, add: +)
    }

    package func allReduce(_ values: UnsafeMutableBufferPointer<Int64>, _ reduction: Reduction, _ label: String) throws {
        try allReduceAny(values, reduction, label, add: &+)
    }

    /// Each rank combines its share of the elements over all ranks and writes the result to all of them.
    private func allReduceAny<Value: Comparable>(
        _ values: UnsafeMutableBufferPointer<Value>, _ reduction: Reduction, _ label: String,
        add: @escaping (Value, Value) -> Value
    ) throws {
        let combine: (Value, Value) -> Value =
            switch reduction {
            case .sum: add
            case .max: { Swift.max($0, $1) }
            case .min: { Swift.min($0, $1) }
            }
        let bytes = values.count * MemoryLayout<Value>.stride
        let signature = "\(reduction) of \(values.count) \(Value.self)"
        let slot = RankMeeting.Slot(memory: UnsafeMutableRawPointer(values.baseAddress))
        try collective("allReduce", label, bytes: bytes, signature: signature, slot) { slots in
            let share = values.count * rank / size..<values.count * (rank + 1) / size
            if share.isEmpty { return }
            let pointers = slots.map { $0.memory!.assumingMemoryBound(to: Value.self) }
            for index in share {
                var result = pointers[0][index]
                for pointer in pointers.dropFirst() { result = combine(result, pointer[index]) }
                for pointer in pointers { pointer[index] = result }
            }
        }
    }

    package func allGather(
        _ block: UnsafeRawBufferPointer, into all: UnsafeMutableRawBufferPointer, _ label: String
    ) throws {
        precondition(all.count == block.count * size, "allGather of \(block.count) bytes into \(all.count)")
        let slot = RankMeeting.Slot(memory: UnsafeMutableRawPointer(mutating: block.baseAddress))
        try collective("allGather", label, bytes: all.count, signature: "\(block.count) bytes", slot) { slots in
            guard block.count > 0, let base = all.baseAddress else { return }
            for (source, slot) in slots.enumerated() {
                let target = base + source * block.count
                if target != slot.memory { target.copyMemory(from: slot.memory!, byteCount: block.count) }
            }
        }
    }

    package func reduceScatter(
        _ values: UnsafeBufferPointer<Float>, into block: UnsafeMutableBufferPointer<Float>, _ label: String
    ) throws {
        precondition(values.count == block.count * size, "reduceScatter of \(values.count) into \(block.count) values")
        let slot = RankMeeting.Slot(memory: UnsafeMutableRawPointer(mutating: UnsafeRawPointer(values.baseAddress)))
        let signature = "\(values.count) values"
        try collective("reduceScatter", label, bytes: values.count * 4, signature: signature, slot) { slots in
            if block.isEmpty { return }
            let pointers = slots.map { $0.memory!.assumingMemoryBound(to: Float.self) + rank * block.count }
            for index in block.indices {
                var sum = pointers[0][index]
                for pointer in pointers.dropFirst() { sum += pointer[index] }
                block[index] = sum
            }
        }
    }

    package func allToAll(
        _ blocks: UnsafeRawBufferPointer, into received: UnsafeMutableRawBufferPointer, _ label: String
    ) throws {
        precondition(
            blocks.count == received.count && blocks.count % size == 0,
            "allToAll of \(blocks.count) bytes into \(received.count) on \(size) ranks")
        let count = blocks.count / size
        let slot = RankMeeting.Slot(memory: UnsafeMutableRawPointer(mutating: blocks.baseAddress))
        try collective("allToAll", label, bytes: blocks.count, signature: "\(count) bytes", slot) { slots in
            guard count > 0, let base = received.baseAddress else { return }
            for (source, slot) in slots.enumerated() {
                (base + source * count).copyMemory(from: slot.memory! + rank * count, byteCount: count)
            }
        }
    }

    package func gather(_ bytes: [UInt8], root: Int, _ label: String) throws -> [[UInt8]]? {
        try bytes.withUnsafeBytes { raw in
            let slot = RankMeeting.Slot(
                memory: UnsafeMutableRawPointer(mutating: raw.baseAddress), count: raw.count)
            return try collective("gather", label, bytes: raw.count, signature: "to \(root)", slot) { slots in
                guard rank == root else { return nil }
                return slots.map { Array(UnsafeRawBufferPointer(start: $0.memory, count: $0.count)) }
            }
        }
    }

    package func split(color: Int, key: Int, channel: String) throws -> any Communicator {
        let label = "split for \(channel)"
        let members = try collective("split", label, bytes: 0, .init(count: color, key: key)) { slots in
            slots.indices.filter { slots[$0].count == color }.sorted { (slots[$0].key, $0) < (slots[$1].key, $1) }
        }
        let first = members[0]
        let made = rank == first ? meeting.makeChild(members) : nil
        let child = try collective("split", label, bytes: 0, .init(object: made)) { $0[first].object as! RankMeeting }
        return InProcessCommunicator(
            rank: members.firstIndex(of: rank)!, meeting: child, channel: channel, ring: ring)
    }

    package func makeSharedWindow(byteCount: Int) throws -> (any SharedWindow)? {
        precondition(byteCount > 0, "a window of \(byteCount) bytes")
        let host = try split(color: topology.host, key: rank, channel: "window") as! InProcessCommunicator
        guard byteCount <= meeting.windowLimit / host.size else { return nil }
        return try InProcessWindow(own: AlignedBuffer(byteCount: byteCount), host: host)
    }

    /// Shows `object` to all ranks and returns what they show, in rank order.
    fileprivate func show(_ object: AnyObject, _ label: String) throws -> [AnyObject] {
        try collective("show", label, bytes: 0, .init(object: object)) { slots in slots.map { $0.object! } }
    }
}

/// Segments in one address space.
final class InProcessWindow: SharedWindow {
    let own: AlignedBuffer
    var segments: [UnsafeMutableRawPointer] { buffers.map(\.base) }
    private let buffers: [AlignedBuffer]
    private let host: InProcessCommunicator

    init(own: AlignedBuffer, host: InProcessCommunicator) throws {
        self.own = own
        self.host = host
        buffers = try host.show(own, "window").map { $0 as! AlignedBuffer }
    }

    func synchronise() throws { try host.barrier("window") }
}

extension Topology {
    /// The place of `rank` where `hosts` gives the host of each rank, in any numbering.
    package init(rank: Int, hosts: [Int], name: (Int) -> String) {
        var order: [Int] = []
        for host in hosts where !order.contains(host) { order.append(host) }
        let neighbours = hosts.indices.filter { hosts[$0] == hosts[rank] }
        self.init(
            hostName: name(hosts[rank]), host: order.firstIndex(of: hosts[rank])!, hosts: order.count,
            localRank: neighbours.firstIndex(of: rank)!, localSize: neighbours.count)
    }
}
