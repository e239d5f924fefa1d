internal import Tensors

/// Applies a function to a range on threads of its own and hands the results over in order, on the caller's thread.
///
/// Memory is bounded: no more than `ahead` results, and no more than `budget` bytes of them but for those in the making,
/// wait to be taken.
enum OrderedWork {
    /// - Parameters:
    ///   - make: called from several threads; gives the result and the bytes that it holds while it waits.
    ///   - take: called in order; an error ends the work.
    static func run<Product: Sendable>(
        _ range: Range<Int>, threads: Int, budget: Int = 256 << 20,
        make: @escaping @Sendable (Int) -> (product: Product, bytes: Int),
        take: (Int, Product) throws(FaceDataError) -> Void
    ) throws(FaceDataError) {
        precondition(threads > 0, "work without a thread")
        if range.isEmpty { return }
        let line = OrderedLine(range, ahead: 32 * threads, budget: budget, make: make)
        let workers = (0..<min(threads, range.count)).map { _ in SystemThread(name: "dataset") { line.work() } }
        defer {
            line.stop()
            for worker in workers { worker.join() }
        }
        for index in range { try take(index, line.next()) }
    }
}

private final class OrderedLine<Product: Sendable>: @unchecked Sendable {
    private let monitor = Monitor()
    private let range: Range<Int>
    private let ahead: Int
    private let budget: Int
    private let make: @Sendable (Int) -> (product: Product, bytes: Int)
    private var ready: [Int: (product: Product, bytes: Int)] = [:]
    private var readyBytes = 0
    private var claimed: Int
    private var taken: Int
    private var stopped = false

    init(
        _ range: Range<Int>, ahead: Int, budget: Int, make: @escaping @Sendable (Int) -> (product: Product, bytes: Int)
    ) {
        self.range = range
        self.ahead = ahead
        self.budget = budget
        self.make = make
        claimed = range.lowerBound
        taken = range.lowerBound
    }

    func work() {
        while let index = claim() {
            let made = make(index)
            monitor.withLock {
                ready[index] = made
                readyBytes += made.bytes
                if index == taken { monitor.wakeAll() }
            }
        }
    }

    /// The one that is taken next is never held back, so that somebody always has something to do.
    private func claim() -> Int? {
        monitor.withLock { () -> Int? in
            while !stopped, claimed < range.upperBound, claimed > taken,
                claimed - taken >= ahead || readyBytes > budget
            {
                monitor.wait()
            }
            guard !stopped, claimed < range.upperBound else { return nil }
            defer { claimed += 1 }
            return claimed
        }
    }

    func next() -> Product {
        monitor.withLock { () -> Product in
            while ready[taken] == nil { monitor.wait() }
            let made = ready.removeValue(forKey: taken)!
            readyBytes -= made.bytes
            taken += 1
            monitor.wakeAll()
            return made.product
        }
    }

    func stop() {
        monitor.withLock {
            stopped = true
            monitor.wakeAll()
        }
    }
}
