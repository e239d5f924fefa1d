internal import Tensors

/// Messages: the ranks exchange blocks of a bucket, each sums its block over the ranks in their order, and the sums are
/// gathered.
///
/// Every rank sends and receives 2(P − 1)/P of the bucket, the least that an all-reduce can do with (Thakur, Rabenseifner
/// and Gropp, 2005). OpenMPI's own non-blocking one sends 2·log2 P times the bucket when it works in place, and promises
/// no order of sums.
struct BucketMessages: BucketReduction {
    private let communicator: any Communicator
    private let gradients: UnsafeMutableBufferPointer<Float>
    private let precision: GradientReducer.MessagePrecision
    private let sent: AlignedBuffer
    private let received: AlignedBuffer

    /// - Parameter largest: elements of the largest range that `reduce` will see.
    init(
        _ communicator: any Communicator, _ gradients: UnsafeMutableBufferPointer<Float>, largest: Int,
        precision: GradientReducer.MessagePrecision
    ) {
        self.communicator = communicator
        self.gradients = gradients
        self.precision = precision
        let bytes = communicator.size > 1 ? (largest + communicator.size) * MemoryLayout<Float>.stride + 128 : 0
        sent = AlignedBuffer(byteCount: bytes)
        received = AlignedBuffer(byteCount: bytes)
    }

    func reduce(_ range: Range<Int>, _ label: String) throws {
        guard communicator.size > 1, let values = UnsafeMutableBufferPointer(rebasing: gradients[range]).baseAddress
        else { return }
        switch precision {
        case .fp32: try exchange(values, range.count, label)
        case .bf16: try exchangeRounded(values, range.count, label)
        }
    }

    func finish(_ label: String) {}

    private func block(_ count: Int) -> Int { (count + communicator.size - 1) / communicator.size }

    private func exchange(_ values: UnsafeMutablePointer<Float>, _ count: Int, _ label: String) throws {
        let block = block(count)
        let sent = sent.base.assumingMemoryBound(to: Float.self)
        let received = received.base.assumingMemoryBound(to: Float.self)
        sent.update(from: values, count: count)
        (sent + count).update(repeating: 0, count: block * communicator.size - count)
        try swapBlocks(of: block * MemoryLayout<Float>.stride, label)
        let own = sent + communicator.rank * block
        own.update(from: received, count: block)
        for rank in 1..<communicator.size { accumulate(received + rank * block, into: own, block) }
        try gatherBlocks(of: block * MemoryLayout<Float>.stride, label)
        values.update(from: sent, count: count)
    }

    /// The same with values that travel as bf16; they are summed in fp32, and the sum is rounded for everybody.
    private func exchangeRounded(_ values: UnsafeMutablePointer<Float>, _ count: Int, _ label: String) throws {
        let block = block(count)
        let sent = sent.base.assumingMemoryBound(to: BFloat16.self)
        let received = received.base.assumingMemoryBound(to: BFloat16.self)
        round(values, into: sent, count)
        (sent + count).update(repeating: .init(bits: 0), count: block * communicator.size - count)
        try swapBlocks(of: block * MemoryLayout<BFloat16>.stride, label)
        // The blocks fill half of the memory; the sum has the other half.
        let sum = (self.received.base + (self.received.byteCount / 2 + 63) / 64 * 64).assumingMemoryBound(to: Float.self)
        expand(received, into: sum, block)
        for rank in 1..<communicator.size { accumulate(received + rank * block, into: sum, block) }
        round(sum, into: sent + communicator.rank * block, block)
        try gatherBlocks(of: block * MemoryLayout<BFloat16>.stride, label)
        expand(sent, into: values, count)
    }

    private func swapBlocks(of byteCount: Int, _ label: String) throws {
        let bytes = byteCount * communicator.size
        try communicator.allToAll(
            UnsafeRawBufferPointer(start: sent.base, count: bytes),
            into: UnsafeMutableRawBufferPointer(start: received.base, count: bytes), label)
    }

    private func gatherBlocks(of byteCount: Int, _ label: String) throws {
        try communicator.allGather(
            UnsafeRawBufferPointer(start: sent.base + communicator.rank * byteCount, count: byteCount),
            into: UnsafeMutableRawBufferPointer(start: sent.base, count: byteCount * communicator.size), label)
    }
}

/// The upper half of a Float's bits.
private struct BFloat16 {
    var bits: UInt16

    var value: Float { Float(bitPattern: UInt32(bits) << 16) }
}

/// To the nearest, ties to even. A NaN must stay one: the guard against bad updates looks for it in the sum.
private func round(_ values: UnsafePointer<Float>, into target: UnsafeMutablePointer<BFloat16>, _ count: Int) {
    var index = 0
    while index < count {
        let bits = values[index].bitPattern
        let rounded = (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16
        let isNaN = bits & 0x7FFF_FFFF > 0x7F80_0000
        target[index] = BFloat16(bits: UInt16(truncatingIfNeeded: isNaN ? bits >> 16 | 0x40 : rounded))
        index &+= 1
    }
}

private func expand(_ values: UnsafePointer<BFloat16>, into target: UnsafeMutablePointer<Float>, _ count: Int) {
    var index = 0
    while index < count {
        target[index] = values[index].value
        index &+= 1
    }
}

private func accumulate(_ values: UnsafePointer<BFloat16>, into target: UnsafeMutablePointer<Float>, _ count: Int) {
    var index = 0
    while index < count {
        target[index] += values[index].value
        index &+= 1
    }
}
