import CKernels
import Dispatch
import Glibc
import Synchronization
import Tensors
import Testing

@Suite(.serialized)
struct ThreadPoolTests {
    @Test(arguments: [1, 2, 3, 8])
    func everyPartRunsOncePerRound(threads: Int) {
        let pool = ThreadPool(threads: threads)
        var hits = [Int](repeating: 0, count: threads)
        hits.withUnsafeMutableBufferPointer { hits in
            nonisolated(unsafe) let hits = hits
            for _ in 0..<500 {
                pool.run { part, parts in
                    if parts == threads { hits[part] += 1 }
                }
            }
        }
        #expect(hits == .init(repeating: 500, count: threads))
    }

    /// Two threads of a pool on one processor, while another one idles, part at the next round: the scheduler alone may
    /// leave them together for tens of milliseconds.
    @Test(.enabled(if: ThreadPool.availableProcessors >= 2, "one processor only"))
    func workersLeaveTheCallersProcessor() {
        let pool = ThreadPool(threads: 2)
        let mask = ProcessorMask.ofThisThread
        let processor = currentProcessor()
        // The caller stays where it is, so that only the worker can part them.
        ProcessorMask(only: processor).applyToThisThread()
        defer { mask.applyToThisThread() }
        for _ in 0..<20 {
            pool.run { part, _ in
                guard part == 1 else { return }
                ProcessorMask(only: processor).applyToThisThread()
                #expect(currentProcessor() == processor)
                mask.applyToThisThread()
            }
            // A worker moves at most once in 5 ms.
            usleep(6_000)
            pool.run { part, _ in
                if part == 1 { #expect(currentProcessor() != processor) }
            }
        }
    }

    private struct ProcessorMask {
        private var bytes = [UInt8](repeating: 0, count: 128)

        static var ofThisThread: ProcessorMask {
            var mask = ProcessorMask()
            _ = getAffinity(0, mask.bytes.count, &mask.bytes)
            return mask
        }

        private init() {}

        init(only processor: Int32) { bytes[Int(processor) / 8] = 1 << (UInt8(processor) % 8) }

        func applyToThisThread() { _ = setAffinity(0, bytes.count, bytes) }
    }

    /// The closure's captures arrive whole, whatever they are and however the closure was made.
    @Test(arguments: [1, 2, 3, 4, 5])
    func closuresKeepTheirCaptures(threads: Int) {
        let pool = ThreadPool(threads: threads)
        let expected = (0..<threads).map { 1_000 * $0 + threads }
        // None.
        pool.run { part, parts in precondition(part < parts) }
        // Through two more closures, one of them generic, beside captures of several sizes.
        #expect(Self.collected(pool, Int.self) { $0 } == expected)
        #expect(Self.collected(pool, Double.self) { Double($0) } == expected.map { Double($0) })
        #expect(Self.collected(pool, String.self) { "part \($0)" } == expected.map { "part \($0)" })
        // An escaping closure, and a method.
        let counter = Counter()
        let stored: @Sendable (Int, Int) -> Void = { part, parts in counter.add(part, parts) }
        pool.run(stored)
        pool.run(counter.add)
        #expect(counter.sum == 2 * expected.reduce(0, +))
    }

    private final class Counter: Sendable {
        private let total = Atomic(0)
        func add(_ part: Int, _ parts: Int) { total.add(1_000 * part + parts, ordering: .relaxed) }
        var sum: Int { total.load(ordering: .relaxed) }
    }

    private static func collected<Value>(_ pool: ThreadPool, _ type: Value.Type, _ make: @escaping (Int) -> Value) -> [Value] {
        let slots = UnsafeMutablePointer<Value?>.allocate(capacity: pool.threads)
        slots.initialize(repeating: nil, count: pool.threads)
        defer {
            slots.deinitialize(count: pool.threads)
            slots.deallocate()
        }
        func place(_ part: Int, _ number: Int) { slots[part] = make(number) }
        pool.run { part, parts in
            let inner = { (offset: Int) in place(part, 1_000 * part + offset) }
            inner(parts)
        }
        return (0..<pool.threads).map { slots[$0]! }
    }

    @Test func rangesCoverTheCount() {
        let pool = ThreadPool(threads: 3)
        for count in [0, 1, 2, 3, 100] {
            let seen = Atomic(0)
            pool.forEachRange(count) { range in
                for i in range { seen.add(i + 1, ordering: .relaxed) }
            }
            #expect(seen.load(ordering: .relaxed) == count * (count + 1) / 2)
        }
    }

    /// Two callers take turns; neither sees the other's round.
    @Test func aSecondCallerWaits() {
        let pool = ThreadPool(threads: 2)
        let wrong = Atomic(0)
        let total = Atomic(0)
        DispatchQueue.concurrentPerform(iterations: 4) { _ in
            for _ in 0..<200 {
                let count = Atomic(0)
                pool.run { _, _ in
                    count.add(1, ordering: .relaxed)
                    total.add(1, ordering: .relaxed)
                }
                if count.load(ordering: .acquiring) != 2 { wrong.add(1, ordering: .relaxed) }
            }
        }
        #expect(wrong.load(ordering: .relaxed) == 0)
        #expect(total.load(ordering: .relaxed) == 1600)
    }

    @Test func instructionSetsAreNamedAndRefused() {
        defer { _ = ak_isa_select(ak_isa_best()) }
        #expect(ak_isa_select(AK_ISA_PORTABLE))
        #expect(ak_isa_current() == AK_ISA_PORTABLE)
        #expect(String(cString: ak_isa_name(AK_ISA_AVX2)) == "avx2")
        #expect(!ak_isa_select(ak_isa(rawValue: 17)))
        #expect(ak_isa_current() == AK_ISA_PORTABLE)
    }
}

// GNU extensions, which the module of the C library leaves out.
@_silgen_name("sched_getcpu")
private func currentProcessor() -> Int32
@_silgen_name("sched_getaffinity")
private func getAffinity(_ thread: Int32, _ size: Int, _ mask: UnsafeMutablePointer<UInt8>) -> Int32
@_silgen_name("sched_setaffinity")
private func setAffinity(_ thread: Int32, _ size: Int, _ mask: UnsafePointer<UInt8>) -> Int32
