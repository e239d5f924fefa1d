internal import Tensors

/// Draws the sample of one rank's classes, in memory that is allocated once.
final class ClassSampler {
    let sampling: ClassSampling
    /// Global indices of the rank's classes.
    private let classes: Range<Int>
    private let rank: Int
    private let seed: UInt64
    /// Local indices in rising order: `count` of the sample, or those drawn on the way to it.
    private let list: AlignedBuffer
    /// One bit per local class: in the sample.
    private let marks: AlignedBuffer
    private let markWords: Int
    /// The random words of all local classes and a histogram of half a word, in the reference mode.
    private let words: AlignedBuffer
    private let histogram: AlignedBuffer
    private(set) var count = 0

    init(_ sampling: ClassSampling, classes: Range<Int>, rank: Int, seed: UInt64) {
        precondition(classes.count < Int(Int32.max), "\(classes.count) classes on one rank")
        self.sampling = sampling
        self.classes = classes
        self.rank = rank
        self.seed = seed
        let isReference = sampling.mode == .reference
        markWords = (classes.count + 63) / 64
        list = AlignedBuffer(byteCount: 4 * classes.count)
        marks = AlignedBuffer(byteCount: 8 * markWords)
        words = AlignedBuffer(byteCount: isReference ? 4 * classes.count : 0)
        histogram = AlignedBuffer(byteCount: isReference ? 4 << 16 : 0)
    }

    /// Local indices of the sample, rising.
    var indices: UnsafeBufferPointer<Int32> {
        UnsafeBufferPointer(start: UnsafePointer(listed), count: count)
    }

    private var listed: UnsafeMutablePointer<Int32> { list.base.assumingMemoryBound(to: Int32.self) }
    private var marked: UnsafeMutablePointer<UInt64> { marks.base.assumingMemoryBound(to: UInt64.self) }

    /// Draws the sample of `step`.
    ///
    /// - Parameter targets: for every row of the global batch the local index of its class, or −1.
    func draw(step: Int, targets: UnsafeBufferPointer<Int>) {
        marked.update(repeating: 0, count: markWords)
        var positives = 0
        for target in targets where target >= 0 && mark(target) { positives += 1 }
        switch sampling.mode {
        case .keyed: drawKeyed(step: step)
        case .reference: drawReference(step: step, positives: positives)
        }
        collect()
    }

    /// The column of a local class in the sample, by binary search; it must be there.
    func column(of index: Int) -> Int {
        let listed = listed
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if Int(listed[middle]) < index { low = middle + 1 } else { high = middle }
        }
        precondition(low < count && Int(listed[low]) == index, "class \(index) of the batch is not in the sample")
        return low
    }

    private func isMarked(_ index: Int) -> Bool { marked[index >> 6] >> UInt64(index & 63) & 1 == 1 }

    /// Whether it was not marked before.
    @discardableResult
    private func mark(_ index: Int) -> Bool {
        let bit: UInt64 = 1 << UInt64(index & 63)
        defer { marked[index >> 6] |= bit }
        return marked[index >> 6] & bit == 0
    }

    /// Lists what is marked.
    private func collect() {
        let (listed, marked) = (listed, marked)
        count = 0
        for word in 0..<markWords {
            var bits = marked[word]
            while bits != 0 {
                listed[count] = Int32(truncatingIfNeeded: word << 6 | bits.trailingZeroBitCount)
                count += 1
                bits &= bits &- 1
            }
        }
    }

    private func draws(_ step: Int) -> IndexedDraws {
        IndexedDraws(seed: seed, purpose: .negativeSampling, step: UInt64(step))
    }

    private func drawKeyed(step: Int) {
        let found = draws(step).indices(
            below: UInt32(min((sampling.rate * 0x1p32).rounded(.up), 0x1p32 - 1)), from: UInt64(classes.lowerBound),
            count: classes.count, into: UnsafeMutableBufferPointer(start: listed, count: classes.count))
        for i in 0..<found { mark(Int(listed[i])) }
    }

    /// Fills the sample up to k with the classes of the smallest words; of equal ones the first. The words are keyed by
    /// the rank and the local index.
    private func drawReference(step: Int, positives: Int) {
        let wanted = sampling.fixedCount(classes: classes.count) - positives
        guard wanted > 0 else { return }
        let words = UnsafeMutableBufferPointer(
            start: words.base.assumingMemoryBound(to: UInt32.self), count: classes.count)
        draws(step).words(from: UInt64(rank) << 32, into: words)
        let limit = threshold(words, wanted)
        var ties = limit.ties
        var found = 0
        for i in 0..<classes.count where words[i] <= limit.word && !isMarked(i) {
            if words[i] == limit.word {
                if ties == 0 { continue }
                ties -= 1
            }
            listed[found] = Int32(i)
            found += 1
        }
        for i in 0..<found { mark(Int(listed[i])) }
    }

    /// The word below which fewer than `wanted` words lie, and how many equal to it complete them; what is marked does
    /// not count. Two counting passes, over half a word each.
    private func threshold(
        _ words: UnsafeMutableBufferPointer<UInt32>, _ wanted: Int
    ) -> (word: UInt32, ties: Int) {
        let counts = histogram.base.assumingMemoryBound(to: Int32.self)
        func bucket(_ left: inout Int) -> UInt32 {
            var bucket = 0
            while left > Int(counts[bucket]) {
                left -= Int(counts[bucket])
                bucket += 1
            }
            return UInt32(bucket)
        }
        var left = wanted
        counts.update(repeating: 0, count: 1 << 16)
        for i in 0..<words.count where !isMarked(i) { counts[Int(words[i] >> 16)] += 1 }
        let high = bucket(&left)
        counts.update(repeating: 0, count: 1 << 16)
        for i in 0..<words.count where words[i] >> 16 == high && !isMarked(i) { counts[Int(words[i] & 0xFFFF)] += 1 }
        let low = bucket(&left)
        return (high << 16 | low, left)
    }
}
