import Layers
import Tensors
import Testing

@Suite struct MemoryPlanTests {
    @Test(arguments: 0..<200)
    func buffersThatLiveTogetherDoNotOverlap(_ seed: Int) {
        var stream = RandomStream(seed: UInt64(seed), purpose: .test, index: 0)
        let requests = (0..<1 + stream.below(60)).map { _ in
            let first = stream.below(40)
            // Sizes of every kind: nothing, odd, equal, large.
            let size = [0, 1 + stream.below(200), 64, 4096, stream.below(100_000)][stream.below(5)]
            return MemoryPlan.Request(byteCount: size, lifetime: first...first + stream.below(15))
        }
        let plan = MemoryPlan(requests)
        #expect(plan.offsets.count == requests.count)
        for (i, a) in requests.enumerated() {
            #expect(plan.offsets[i] >= 0 && plan.offsets[i] % 64 == 0)
            #expect(plan.offsets[i] + a.byteCount <= plan.byteCount)
            for (j, b) in requests.enumerated().dropFirst(i + 1) where a.lifetime.overlaps(b.lifetime) {
                let apart =
                    plan.offsets[i] + a.byteCount <= plan.offsets[j] || plan.offsets[j] + b.byteCount <= plan.offsets[i]
                #expect(apart, "requests \(i) and \(j)")
            }
        }
        // Never more than without sharing, never less than what is alive at one moment.
        #expect(plan.byteCount <= requests.reduce(0) { $0 + ($1.byteCount + 63) / 64 * 64 })
        for moment in 0..<55 {
            let alive = requests.filter { $0.lifetime.contains(moment) }.reduce(0) { $0 + $1.byteCount }
            #expect(plan.byteCount >= alive)
        }
    }

    @Test func buffersThatFollowOneAnotherShareMemory() {
        let plan = MemoryPlan((0..<100).map { .init(byteCount: 1000, lifetime: $0...$0 + 1) })
        #expect(plan.byteCount < 2100)
    }
}
