internal import CKernels

/// One random word for every index of a step, cheap where many indices lie side by side: the word of index i is word
/// i mod 4 of the stream (seed, purpose, i / 4, step).
package struct IndexedDraws: Sendable {
    private let key: (UInt32, UInt32)
    private let step: UInt32

    package init(seed: UInt64, purpose: RandomPurpose, step: UInt64) {
        key = RandomStream.key(seed: seed, purpose: purpose, step: step)
        self.step = UInt32(truncatingIfNeeded: step)
    }

    /// The words of the indices from `first` on.
    package func words(from first: UInt64, into words: UnsafeMutableBufferPointer<UInt32>) {
        guard let base = words.baseAddress else { return }
        withKey { ak_indexed_words($0, step, first, words.count, base) }
    }

    /// Writes every i in 0..<count, rising, for which the word of index `first` + i is below `threshold`.
    ///
    /// - Parameter chosen: room for `count` indices.
    /// - Returns: how many there are.
    package func indices(
        below threshold: UInt32, from first: UInt64, count: Int, into chosen: UnsafeMutableBufferPointer<Int32>
    ) -> Int {
        precondition(count >= 0 && chosen.count >= count, "room for \(chosen.count) of \(count) indices")
        guard count > 0, let base = chosen.baseAddress else { return 0 }
        return withKey { ak_indices_below($0, step, first, count, threshold, base) }
    }

    private func withKey<Result>(_ body: (UnsafePointer<UInt32>) -> Result) -> Result {
        withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 2) { pair in
            pair[0] = key.0
            pair[1] = key.1
            return body(pair.baseAddress!)
        }
    }
}
