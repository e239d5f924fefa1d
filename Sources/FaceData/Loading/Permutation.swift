internal import Tensors

/// A random permutation of 0..<count in constant memory, computed element by element in either direction: a generalised
/// Feistel network over Z_a x Z_b, a·b >= count, walking cycles to stay below count (Black and Rogaway, "Ciphers with
/// arbitrary finite domains", CT-RSA 2002).
struct Permutation: Sendable {
    private let count: UInt64
    private let left: UInt64
    private let right: UInt64
    private let keys: SIMD8<UInt64>

    /// - Parameter stream: its first eight numbers are the keys.
    init(count: Int, _ stream: RandomStream) {
        precondition(count > 0, "a permutation of \(count)")
        self.count = UInt64(count)
        // a = ceil(sqrt(count)), b = ceil(count / a).
        var a = Int(Double(count).squareRoot())
        while a * a < count { a += 1 }
        left = UInt64(a)
        right = UInt64((count + a - 1) / a)
        var stream = stream
        var keys = SIMD8<UInt64>()
        for round in 0..<8 { keys[round] = stream.next() }
        self.keys = keys
    }

    /// What stands at a place.
    subscript(place: Int) -> Int {
        var value = UInt64(place)
        repeat { value = forward(value) } while value >= count
        return Int(value)
    }

    /// Where a value stands: the inverse of the subscript.
    func place(of element: Int) -> Int {
        var value = UInt64(element)
        repeat { value = backward(value) } while value >= count
        return Int(value)
    }

    /// A permutation of 0..<left·right.
    private func forward(_ value: UInt64) -> UInt64 {
        var x = value / right
        var y = value % right
        for round in stride(from: 0, to: 8, by: 2) {
            x = (x + Self.mix(y ^ keys[round]) % left) % left
            y = (y + Self.mix(x ^ keys[round + 1]) % right) % right
        }
        return x * right + y
    }

    private func backward(_ value: UInt64) -> UInt64 {
        var x = value / right
        var y = value % right
        for round in stride(from: 6, through: 0, by: -2) {
            y = (y + right - Self.mix(x ^ keys[round + 1]) % right) % right
            x = (x + left - Self.mix(y ^ keys[round]) % left) % left
        }
        return x * right + y
    }

    /// MurmurHash3's 64-bit finaliser.
    private static func mix(_ value: UInt64) -> UInt64 {
        var z = value
        z = (z ^ (z >> 33)) &* 0xFF51_AFD7_ED55_8CCD
        z = (z ^ (z >> 33)) &* 0xC4CE_B9FE_1A85_EC53
        return z ^ (z >> 33)
    }
}

/// A random order of 0..<count that can be read in long stretches, in constant memory: chunks of consecutive elements in
/// random order, and, inside windows of some chunks that follow each other in that order, the elements in random order.
struct ChunkOrder: Sendable {
    /// The keys of everything random in an order, told apart by index.
    struct Key: Sendable {
        let seed: UInt64
        /// Of the order of the chunks; those of the windows follow it.
        let index: UInt64
        let step: UInt64

        func stream(_ number: Int = 0) -> RandomStream {
            RandomStream(seed: seed, purpose: .epochOrder, index: index + UInt64(number), step: step)
        }
    }

    private let count: Int
    private let size: Int
    private let open: Int
    private let chunks: Int
    private let order: Permutation
    private let key: Key
    /// Where in the order the last chunk stands, and what it lacks to a whole one.
    private let shortPlace: Int
    private let missing: Int

    /// - Parameters:
    ///   - size: elements of a chunk.
    ///   - open: chunks of a window; 0: the elements of a chunk stay in order.
    init(count: Int, size: Int, open: Int, _ key: Key) {
        precondition(count > 0 && size > 0 && open >= 0, "chunks of \(size), \(open) open, of \(count)")
        self.count = count
        self.size = size
        self.open = open
        self.key = key
        chunks = (count + size - 1) / size
        missing = chunks * size - count
        order = Permutation(count: chunks, key.stream())
        shortPlace = order.place(of: chunks - 1)
    }

    private var span: Int { max(1, open) }
    var windows: Int { (chunks + span - 1) / span }

    private func start(ofWindow window: Int) -> Int {
        min(count, window * span * size - (shortPlace < window * span ? missing : 0))
    }

    /// The window that a place of the order lies in.
    func window(of place: Int) -> Int {
        (place < start(ofWindow: shortPlace / span + 1) ? place : place + missing) / (span * size)
    }

    subscript(place: Int) -> Int {
        let window = window(of: place)
        let first = start(ofWindow: window)
        var inside = place - first
        if open > 0 {
            let length = start(ofWindow: window + 1) - first
            inside = Permutation(count: length, key.stream(window + 1))[inside]
        }
        let short = shortPlace - window * span
        if short >= 0, short < span, inside >= (short + 1) * size - missing { inside += missing }
        return order[window * span + inside / size] * size + inside % size
    }

    /// The elements of a window, chunk by chunk.
    func elements(ofWindow window: Int) -> [Range<Int>] {
        (window * span..<min(chunks, (window + 1) * span)).map { place in
            let first = order[place] * size
            return first..<min(count, first + size)
        }
    }
}
