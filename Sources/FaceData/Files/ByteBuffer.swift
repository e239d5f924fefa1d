/// Bytes in memory that is used again and again and only ever grows. One thread at a time.
final class ByteBuffer {
    private var base: UnsafeMutableRawPointer
    private(set) var capacity: Int

    init(capacity: Int = 1 << 15) {
        self.capacity = capacity
        base = .allocate(byteCount: capacity, alignment: 64)
    }

    deinit { base.deallocate() }

    /// Makes room for `count` bytes; the first `kept` of those that are there stay.
    func reserve(_ count: Int, keeping kept: Int = 0) {
        guard count > capacity else { return }
        let larger = max(count, 2 * capacity)
        let fresh = UnsafeMutableRawPointer.allocate(byteCount: larger, alignment: 64)
        fresh.copyMemory(from: base, byteCount: min(kept, capacity))
        base.deallocate()
        base = fresh
        capacity = larger
    }

    /// The bytes as they are now: valid until the next `reserve`.
    subscript(_ range: Range<Int>) -> UnsafeMutableRawBufferPointer {
        precondition(range.lowerBound >= 0 && range.upperBound <= capacity, "bytes outside the buffer")
        return UnsafeMutableRawBufferPointer(start: base + range.lowerBound, count: range.count)
    }
}
