import Tensors
import Testing

struct RandomTests {
    private struct KnownAnswer: Sendable {
        let counter: (UInt32, UInt32, UInt32, UInt32)
        let key: (UInt32, UInt32)
        let words: (UInt32, UInt32, UInt32, UInt32)
    }

    /// The known answers for Philox 4x32-10 that its authors publish with Random123.
    @Test func philoxKnownAnswers() {
        let ones = UInt32.max
        let answers = [
            KnownAnswer(
                counter: (0, 0, 0, 0), key: (0, 0), words: (0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8)),
            KnownAnswer(
                counter: (ones, ones, ones, ones), key: (ones, ones),
                words: (0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd)),
            KnownAnswer(
                counter: (0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344), key: (0xa409_3822, 0x299f_31d0),
                words: (0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1)),
        ]
        for answer in answers {
            #expect(RandomStream.philox(counter: answer.counter, key: answer.key) == answer.words)
        }
    }

    @Test func uniformMoments() {
        var stream = RandomStream(seed: 1, purpose: .test, index: 0)
        let count = 200_000
        let values = (0..<count).map { _ in Double(stream.uniform()) }
        #expect(values.allSatisfy { $0 >= 0 && $0 < 1 })
        let mean = values.reduce(0, +) / Double(count)
        let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(count)
        #expect(abs(mean - 0.5) < 6 * (1.0 / 12 / Double(count)).squareRoot())
        #expect(abs(variance - 1.0 / 12) < 1e-3)
        let bounded = (0..<1000).map { _ in stream.uniform(-3, 5) }
        #expect(bounded.allSatisfy { $0 >= -3 && $0 < 5 })
        #expect(bounded.min()! < -2.5 && bounded.max()! > 4.5)
    }

    @Test func normalMoments() {
        var stream = RandomStream(seed: 2, purpose: .test, index: 0)
        let count = 200_000
        let values = (0..<count).map { _ in stream.normal() }
        func moment(_ power: Int) -> Double {
            values.reduce(0) { sum, x in sum + (0..<power).reduce(1) { product, _ in product * x } } / Double(count)
        }
        // Six standard errors: the k-th moment's variance is E[x^2k] - E[x^k]^2, that is 1, 2, 15 and 96.
        let unit = 6 / Double(count).squareRoot()
        #expect(abs(moment(1)) < unit)
        #expect(abs(moment(2) - 1) < unit * 2.0.squareRoot())
        #expect(abs(moment(3)) < unit * 15.0.squareRoot())
        #expect(abs(moment(4) - 3) < unit * 96.0.squareRoot())
    }

    @Test func boundedIntegersAreEven() {
        var stream = RandomStream(seed: 3, purpose: .test, index: 0)
        var counts = [Int](repeating: 0, count: 7)
        for _ in 0..<70_000 { counts[stream.below(7)] += 1 }
        // Chi-squared with 6 degrees of freedom: above 35 with probability 4e-6.
        let chi = counts.reduce(0) { $0 + Double(($1 - 10_000) * ($1 - 10_000)) / 10_000 }
        #expect(chi < 35)
    }

    @Test func streamsAreFunctionsOfTheirNames() {
        func words(seed: UInt64 = 5, _ purpose: RandomPurpose = .test, index: UInt64 = 9, step: UInt64 = 3) -> [UInt32] {
            var stream = RandomStream(seed: seed, purpose: purpose, index: index, step: step)
            return (0..<9).map { _ in stream.nextWord() }
        }
        #expect(words() == words())
        let others = [
            words(seed: 6), words(.dropout), words(index: 10), words(index: 9 | 1 << 40), words(step: 4),
            words(step: 3 | 1 << 40),
        ]
        for (i, other) in others.enumerated() {
            #expect(other != words())
            #expect(!others[(i + 1)...].contains(other))
        }
        // Blocks of four words, none repeated.
        #expect(Set(words()).count == 9)
    }

    /// Bit for bit what one call after the other gives, with every instruction set.
    @Test(arguments: [0.01, 1, 0.73, 3e-5]) func manyNormalsAreThoseOfTheStream(deviation: Double) {
        for (index, count) in [(0, 1), (7, 16), (12, 517), (1 << 33 + 5, 300), (1_000_003, 60_001)] {
            let fresh = RandomStream(seed: 9, purpose: .classCentres, index: UInt64(index), step: 4)
            var stream = fresh
            let expected = (0..<count).map { _ in Float(deviation * stream.normal()) }
            onEachSet(threads: [1]) { _, setting in
                var values = [Float](repeating: .nan, count: count)
                values.withUnsafeMutableBufferPointer { fresh.normals(times: deviation, into: $0) }
                #expect(values == expected, "\(setting)")
            }
        }
    }
}
