/// Where the ranks of a planned run would be.
package struct Placement: Sendable, Equatable {
    package var ranks: Int
    package var ranksPerHost: Int
    /// Of each rank.
    package var threads: Int
    /// Images per rank and pass.
    package var batch: Int

    /// - Parameters:
    ///   - ranks: P ≥ 1.
    ///   - ranksPerHost: at most this many; the last host may have fewer.
    package init(ranks: Int, ranksPerHost: Int, threads: Int, batch: Int) {
        precondition(ranks > 0 && ranksPerHost > 0 && threads > 0 && batch > 0, "an empty placement")
        self.ranks = ranks
        self.ranksPerHost = min(ranks, ranksPerHost)
        self.threads = threads
        self.batch = batch
    }

    package var hosts: Int { (ranks + ranksPerHost - 1) / ranksPerHost }
    /// N, images of all ranks and one pass.
    package var globalBatch: Int { batch * ranks }
}
