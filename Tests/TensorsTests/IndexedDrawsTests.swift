import CKernels
import Tensors
import Testing

@Suite(.serialized) struct IndexedDrawsTests {
    private static func word(_ index: UInt64, step: UInt64) -> UInt32 {
        var stream = RandomStream(seed: 77, purpose: .negativeSampling, index: index / 4, step: step)
        return (0...index % 4).map { _ in stream.nextWord() }.last!
    }

    /// Any stretch of indices, whole groups or not, also beyond 32 bits.
    @Test(arguments: [0, 1, 63, 64, 1000, 1 << 34 - 30, 5 << 40 + 3] as [UInt64])
    func wordsAreThoseOfTheStreams(first: UInt64) {
        for step in [0, 3, 1 << 33 + 7] as [UInt64] {
            let draws = IndexedDraws(seed: 77, purpose: .negativeSampling, step: step)
            for count in [0, 1, 5, 64, 130] {
                let expected = (0..<UInt64(count)).map { Self.word(first + $0, step: step) }
                onEachSet(threads: [1]) { _, setting in
                    var words = [UInt32](repeating: 0, count: count + 1)
                    words.withUnsafeMutableBufferPointer {
                        draws.words(from: first, into: UnsafeMutableBufferPointer(rebasing: $0[..<count]))
                    }
                    #expect(Array(words[..<count]) == expected && words[count] == 0, "\(setting)")
                }
            }
        }
    }

    @Test func indicesBelowAThreshold() {
        let draws = IndexedDraws(seed: 77, purpose: .negativeSampling, step: 9)
        for threshold in [0, 1 << 20, 1 << 31, UInt32.max] {
            let count = 5000
            let expected = (0..<count).filter { Self.word(UInt64($0 + 13), step: 9) < threshold }.map(Int32.init)
            onEachSet(threads: [1]) { _, setting in
                var chosen = [Int32](repeating: -1, count: count)
                let found = chosen.withUnsafeMutableBufferPointer {
                    draws.indices(below: threshold, from: 13, count: count, into: $0)
                }
                #expect(Array(chosen[..<found]) == expected, "\(setting)")
            }
        }
    }
}
