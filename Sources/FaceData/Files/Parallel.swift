internal import Synchronization
internal import Tensors

/// Work that waits for a disk: more threads than processors, because each of them mostly waits.
enum Parallel {
    /// Reads in flight at once: a file system on the network answers each of them after a millisecond or more.
    static let readers = 16

    /// Calls `body` with ranges that together cover 0..<count, from several threads.
    static func forEachBlock(
        _ count: Int, of size: Int = 512, threads: Int = readers, _ body: @escaping @Sendable (Range<Int>) -> Void
    ) {
        let blocks = (count + size - 1) / size
        let next = NextBlock()
        let work: @Sendable () -> Void = {
            while true {
                let block = next.take()
                if block >= blocks { return }
                body(block * size..<min(count, (block + 1) * size))
            }
        }
        if blocks < 2 { return work() }
        let others = (1..<min(threads, blocks)).map { _ in SystemThread(name: "reader", work) }
        work()
        for thread in others { thread.join() }
    }

    private final class NextBlock: Sendable {
        private let value = Atomic(0)
        func take() -> Int { value.wrappingAdd(1, ordering: .relaxed).oldValue }
    }
}
