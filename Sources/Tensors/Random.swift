internal import CKernels

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// What a random number is drawn for. Each purpose has streams of its own, so that adding a draw for one never moves
/// another. The raw values are part of every result's identity: never renumber them.
package enum RandomPurpose: UInt32, Sendable {
    case backboneWeights = 1
    case classCentres = 2
    case epochOrder = 3
    case flip = 4
    case dropout = 5
    case degradation = 6
    case syntheticIdentity = 7
    case syntheticImage = 8
    case pairs = 9
    case bootstrap = 10
    case negativeSampling = 11
    case partnerImage = 12
    case marginNoise = 13
    case annotation = 14
    case test = 15
    case augmentation = 16
}

/// A counter-based generator: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
///
/// A stream is a pure function of (seed, purpose, index, step), where `index` is a global class, record or parameter
/// index: what is drawn depends neither on the rank nor on the order of the calls for other indices.
package struct RandomStream: RandomNumberGenerator, Sendable {
    private let key: (UInt32, UInt32)
    private let index: UInt64
    private let step: UInt32
    private var block: UInt32 = 0
    private var words: (UInt32, UInt32, UInt32, UInt32) = (0, 0, 0, 0)
    private var used = 4

    package init(seed: UInt64, purpose: RandomPurpose, index: UInt64, step: UInt64 = 0) {
        key = Self.key(seed: seed, purpose: purpose, step: step)
        self.index = index
        self.step = UInt32(truncatingIfNeeded: step)
    }

    /// The purpose and the high word of the step are mixed into the key by SplitMix64's finaliser.
    static func key(seed: UInt64, purpose: RandomPurpose, step: UInt64) -> (UInt32, UInt32) {
        let mixed = mix(seed ^ mix(UInt64(purpose.rawValue) << 32 | step >> 32))
        return (UInt32(truncatingIfNeeded: mixed), UInt32(truncatingIfNeeded: mixed >> 32))
    }

    private static func mix(_ value: UInt64) -> UInt64 {
        var z = value &+ 0x9E37_79B9_7F4A_7C15
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// The Philox 4x32-10 block function.
    package static func philox(
        counter: (UInt32, UInt32, UInt32, UInt32), key: (UInt32, UInt32)
    ) -> (UInt32, UInt32, UInt32, UInt32) {
        var c = counter
        var k = key
        for _ in 0..<10 {
            let a = UInt64(0xD251_1F53) * UInt64(c.0)
            let b = UInt64(0xCD9E_8D57) * UInt64(c.2)
            c = (
                UInt32(truncatingIfNeeded: b >> 32) ^ c.1 ^ k.0, UInt32(truncatingIfNeeded: b),
                UInt32(truncatingIfNeeded: a >> 32) ^ c.3 ^ k.1, UInt32(truncatingIfNeeded: a)
            )
            k = (k.0 &+ 0x9E37_79B9, k.1 &+ 0xBB67_AE85)
        }
        return c
    }

    package mutating func nextWord() -> UInt32 {
        if used == 4 {
            words = Self.philox(
                counter: (
                    block, step, UInt32(truncatingIfNeeded: index), UInt32(truncatingIfNeeded: index >> 32)
                ), key: key)
            block &+= 1
            used = 0
        }
        defer { used += 1 }
        switch used {
        case 0: return words.0
        case 1: return words.1
        case 2: return words.2
        default: return words.3
        }
    }

    package mutating func next() -> UInt64 {
        let low = UInt64(nextWord())
        return low | UInt64(nextWord()) << 32
    }

    /// Uniform in [0, 1), 24 bits.
    package mutating func uniform() -> Float { Float(nextWord() >> 8) * 0x1p-24 }

    /// Uniform in [low, high).
    package mutating func uniform(_ low: Double, _ high: Double) -> Double {
        low + (high - low) * (Double(next() >> 11) * 0x1p-53)
    }

    /// Uniform in 0..<bound, without bias (Lemire's method).
    package mutating func below(_ bound: Int) -> Int {
        precondition(bound > 0, "empty range")
        return Int(next(upperBound: UInt64(bound)))
    }

    /// Standard normal (Box and Muller's transform; one value per pair, so that no state is carried).
    package mutating func normal() -> Double {
        let u = 1 - Double(next() >> 11) * 0x1p-53
        let v = Double(next() >> 11) * 0x1p-53
        return (-2 * log(u)).squareRoot() * cos(2 * Double.pi * v)
    }

    /// Fills `values` with deviation · `normal()`, rounded, as that many calls on this stream would give; nothing may
    /// have been drawn from it before.
    package func normals(times deviation: Double, into values: UnsafeMutableBufferPointer<Float>) {
        precondition(block == 0 && used == 4, "numbers were drawn from the stream before")
        guard let base = values.baseAddress else { return }
        withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 2) { pair in
            pair[0] = key.0
            pair[1] = key.1
            ak_keyed_normals(pair.baseAddress!, step, index, values.count, deviation, base)
        }
    }
}
