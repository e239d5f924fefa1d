/// Which rank owns which classes: contiguous ranges by global class index whose sizes differ by at most one,
/// the larger ones first (An et al., "Partial FC", ICCVW 2021).
package struct ShardMap: Sendable, Equatable {
    package let classes: Int
    package let ranks: Int

    /// - Parameters:
    ///   - classes: C ≥ 1.
    ///   - ranks: P ≥ 1; shards are empty where P > C.
    package init(classes: Int, ranks: Int) {
        precondition(classes >= 1 && ranks >= 1, "\(classes) classes over \(ranks) ranks")
        self.classes = classes
        self.ranks = ranks
    }

    /// The global class indices that `rank` owns.
    package func range(ofRank rank: Int) -> Range<Int> {
        precondition(rank >= 0 && rank < ranks, "rank \(rank) of \(ranks)")
        let (base, extra) = classes.quotientAndRemainder(dividingBy: ranks)
        let start = base * rank + min(rank, extra)
        return start..<start + base + (rank < extra ? 1 : 0)
    }

    /// The rank that owns a class.
    package func owner(ofClass index: Int) -> Int {
        precondition(index >= 0 && index < classes, "class \(index) of \(classes)")
        let (base, extra) = classes.quotientAndRemainder(dividingBy: ranks)
        let large = (base + 1) * extra
        return index < large ? index / (base + 1) : extra + (index - large) / base
    }
}
