import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Changes valid bytes in the ways that break readers, and calls a reader with them: a crash or a hang is the finding.
///
/// The same seed gives the same variants on every machine. `ACUITY_FUZZ_SECONDS` says how long each target is worked on;
/// with `ACUITY_FUZZ_KEEP` every variant is written to that file before it is read, so that the last one is the culprit.
package struct Fuzzer: Sendable {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    /// Seconds for each target; `usual` where the environment says nothing.
    package static func seconds(usual: Double) -> Double {
        variable("ACUITY_FUZZ_SECONDS").flatMap { Double($0) } ?? usual
    }

    private static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

    /// Reads variants of `seeds` until the time is over.
    ///
    /// - Parameters:
    ///   - words: what the format's texts are made of.
    ///   - fewest: variants that are read however long that takes.
    /// - Returns: the number of variants.
    @discardableResult
    package static func run(
        seed: UInt64, _ seeds: [[UInt8]], words: [String] = [], seconds usual: Double = 1, fewest: Int = 50,
        _ read: ([UInt8]) throws -> Void
    ) rethrows -> Int {
        var fuzzer = Fuzzer(seed: seed)
        let keep = variable("ACUITY_FUZZ_KEEP")
        let words = words.map { Array($0.utf8) }
        let limit = MonotonicClock.seconds + seconds(usual: usual)
        var rounds = 0
        while rounds < fewest || MonotonicClock.seconds < limit {
            var bytes = fuzzer.mutated(seeds[rounds % seeds.count], with: seeds, words: words)
            // A change may hide behind another one.
            if fuzzer.below(4) == 0 { bytes = fuzzer.mutated(bytes, with: seeds, words: words) }
            if let keep { write(bytes, to: keep) }
            try read(bytes)
            rounds += 1
        }
        return rounds
    }

    private static func write(_ bytes: [UInt8], to path: String) {
        guard let file = fopen(path, "wb") else { return }
        fwrite(bytes, 1, bytes.count, file)
        fclose(file)
    }

    // MARK: - Numbers

    /// SplitMix64 (Steele, Lea, Flood 2014).
    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }

    /// In 0..<bound.
    package mutating func below(_ bound: Int) -> Int { bound <= 1 ? 0 : Int(next() % UInt64(bound)) }

    // MARK: - Changes

    /// A variant of `bytes`: one to four changes.
    package mutating func mutated(
        _ bytes: [UInt8], with others: [[UInt8]] = [], words: [[UInt8]] = []
    ) -> [UInt8] {
        var result = bytes
        for _ in 0...below(4) { change(&result, others, words) }
        return result
    }

    private mutating func change(_ bytes: inout [UInt8], _ others: [[UInt8]], _ words: [[UInt8]]) {
        switch below(10) {
        case 0, 1: flip(&bytes)
        case 2: replace(&bytes)
        case 3: bytes.removeLast(below(bytes.count + 1))
        case 4: bytes.removeSubrange(stretch(bytes))
        case 5: repeatStretch(&bytes)
        case 6: splice(&bytes, others)
        case 7: insert(&bytes, words)
        default: putNumber(&bytes)
        }
    }

    private mutating func stretch(_ bytes: [UInt8]) -> Range<Int> {
        let start = below(bytes.count + 1)
        // Mostly short ones.
        let most = below(4) == 0 ? bytes.count - start : min(16, bytes.count - start)
        return start..<start + below(most + 1)
    }

    private mutating func flip(_ bytes: inout [UInt8]) {
        guard !bytes.isEmpty else { return }
        for _ in 0...below(3) { bytes[below(bytes.count)] ^= 1 << UInt8(below(8)) }
    }

    private mutating func replace(_ bytes: inout [UInt8]) {
        guard !bytes.isEmpty else { return }
        let values: [UInt8] = [0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x20, 0x22, 0x2D, 0x30, UInt8(truncatingIfNeeded: next())]
        bytes[below(bytes.count)] = values[below(values.count)]
    }

    private mutating func repeatStretch(_ bytes: inout [UInt8]) {
        let part = Array(bytes[stretch(bytes)])
        let place = below(bytes.count + 1)
        let times = below(8) == 0 ? 40 : 1
        guard part.count * times < 1 << 20 else { return }
        bytes.insert(contentsOf: Array(repeating: part, count: times).joined(), at: place)
    }

    /// The beginning of this one and the end of another.
    private mutating func splice(_ bytes: inout [UInt8], _ others: [[UInt8]]) {
        guard !others.isEmpty else { return }
        let other = others[below(others.count)]
        bytes = Array(bytes.prefix(below(bytes.count + 1))) + other.suffix(below(other.count + 1))
    }

    private mutating func insert(_ bytes: inout [UInt8], _ words: [[UInt8]]) {
        let place = below(bytes.count + 1)
        if !words.isEmpty, below(4) != 0 {
            bytes.insert(contentsOf: words[below(words.count)], at: place)
        } else {
            bytes.insert(contentsOf: (0...below(8)).map { _ in UInt8(truncatingIfNeeded: next()) }, at: place)
        }
    }

    /// A number as it may stand for a length: the limits of types, what the bytes really hold, and a little more or less.
    private mutating func putNumber(_ bytes: inout [UInt8]) {
        let count = UInt64(bytes.count)
        let values: [UInt64] = [
            0, 1, 2, 3, 0xFF, 0x7FFF, 0xFFFF, 0x1FFF_FFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x1_0000_0000,
            1 << 40,
            0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, .max, .max - 7, count, count &- 1, count + 1, count / 2,
            next(),
        ]
        var value = values[below(values.count)]
        let width = [1, 2, 4, 8][below(4)]
        guard bytes.count >= width else { return }
        if below(2) == 0 { value = value.byteSwapped >> UInt64(64 - 8 * width) }
        // Fields lie mostly at multiples of four, and mostly at the beginning.
        var place = below(below(2) == 0 ? min(64, bytes.count - width + 1) : bytes.count - width + 1)
        if below(3) != 0 { place -= place % 4 }
        for index in 0..<width { bytes[place + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index)) }
    }
}
