/// The gathered rows of a global batch whose records come in two views: of each rank its B first views, then its B second ones.
///
/// Pairs count over all ranks in the sampler's order, so that what goes by pair is the same on any number of ranks.
package struct PairRows: Sendable, Equatable {
    /// B, records of a rank.
    package let batch: Int

    package init(batch: Int) { self.batch = batch }

    /// Whether a row is of a second view: the degraded copy.
    package func isSecond(_ row: Int) -> Bool { row / batch % 2 == 1 }

    /// The row of a pair's first view (0) or second (1).
    package func row(view: Int, pair: Int) -> Int {
        let (rank, place) = pair.quotientAndRemainder(dividingBy: batch)
        return (2 * rank + view) * batch + place
    }

    /// The pair that a row is of.
    package func pair(_ row: Int) -> Int { row / (2 * batch) * batch + row % batch }
}
