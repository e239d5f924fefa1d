/// Which view of each pair teaches the other: the one of higher quality, where the gap is neither small nor extreme for its
/// batch (QSD, Ou et al., 2022; authors' code).
///
/// With Δ̄ the mean gap |q₁ − q₂| of the global batch, a pair counts where 0.3·Δ̄ ≤ |q₁ − q₂| ≤ 100 − 0.3·(100 − Δ̄).
package struct TeachingPairs {
    package enum Teacher: UInt8, Sendable {
        case none, first, second
    }

    /// By pair of the global batch.
    package let teachers: UnsafeMutableBufferPointer<Teacher>
    /// Pairs with a teacher.
    package private(set) var count = 0
    package private(set) var meanGap = 0.0

    /// Pairs that may be of no use: memory for `capacity` of them, which the caller releases.
    package init(capacity: Int) {
        teachers = .allocate(capacity: capacity)
        teachers.initialize(repeating: .none)
    }

    package func deallocate() { teachers.deallocate() }

    /// - Parameters:
    ///   - qualities: of both views of every pair of the global batch, in [0, 100]; where one is not a number the pair has
    ///     no gap.
    ///   - threshold: 0.3 as published.
    package mutating func select(
        first: UnsafeBufferPointer<Double>, second: UnsafeBufferPointer<Double>, threshold: Double = 0.3
    ) {
        precondition(first.count == teachers.count && second.count == teachers.count, "qualities of other pairs")
        func gap(_ pair: Int) -> Double {
            let gap = abs(first[pair] - second[pair])
            return gap.isNaN ? 0 : gap
        }
        var sum = 0.0
        for pair in teachers.indices { sum += gap(pair) }
        meanGap = teachers.isEmpty ? 0 : sum / Double(teachers.count)
        let lower = threshold * meanGap
        let upper = 100 - threshold * (100 - meanGap)
        count = 0
        for pair in teachers.indices {
            let size = gap(pair)
            guard size > 0, size >= lower, size <= upper else {
                teachers[pair] = .none
                continue
            }
            teachers[pair] = first[pair] > second[pair] ? .first : .second
            count += 1
        }
    }
}
