/// Offsets for buffers whose lifetimes are known beforehand, so that those that never live together share memory.
///
/// Greedy by size: the largest buffer first, each at the lowest offset where it meets no buffer alive at the same time.
package struct MemoryPlan {
    package struct Request {
        package var byteCount: Int
        /// First and last moment at which the buffer holds something.
        package var lifetime: ClosedRange<Int>

        package init(byteCount: Int, lifetime: ClosedRange<Int>) {
            self.byteCount = byteCount
            self.lifetime = lifetime
        }
    }

    /// By request, in bytes.
    package let offsets: [Int]
    package let byteCount: Int

    /// Every offset is a multiple of this: a cache line.
    private static let alignment = 64

    package init(_ requests: [Request]) {
        var offsets = [Int](repeating: 0, count: requests.count)
        var placed: [Int] = []
        var end = 0
        let order = requests.indices.sorted {
            (requests[$0].byteCount, -$0) > (requests[$1].byteCount, -$1)
        }
        for index in order {
            let request = requests[index]
            let neighbours =
                placed.filter { requests[$0].lifetime.overlaps(request.lifetime) }
                .sorted { offsets[$0] < offsets[$1] }
            var offset = 0
            for other in neighbours {
                if offset + request.byteCount <= offsets[other] { break }
                let after = offsets[other] + requests[other].byteCount
                offset = max(offset, (after + Self.alignment - 1) / Self.alignment * Self.alignment)
            }
            offsets[index] = offset
            placed.append(index)
            end = max(end, offset + request.byteCount)
        }
        self.offsets = offsets
        byteCount = end
    }
}
