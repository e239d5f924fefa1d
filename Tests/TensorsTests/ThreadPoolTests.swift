import CKernels
import Dispatch
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
