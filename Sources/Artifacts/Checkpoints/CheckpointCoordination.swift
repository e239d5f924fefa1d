/// What a checkpoint needs from the ranks of a job. All ranks call the same functions in the same order.
package struct CheckpointCoordination {
    package let rank: Int
    package let worldSize: Int
    /// True on every rank when the argument was true on every rank.
    package let confirm: (Bool) throws -> Bool
    /// The bytes of all ranks in rank order on rank 0; nil on the others.
    package let gather: ([UInt8]) throws -> [[UInt8]]?
    /// Rank 0's bytes on every rank; the others' argument is ignored.
    package let broadcast: ([UInt8]) throws -> [UInt8]

    package init(
        rank: Int, worldSize: Int, confirm: @escaping (Bool) throws -> Bool,
        gather: @escaping ([UInt8]) throws -> [[UInt8]]?, broadcast: @escaping ([UInt8]) throws -> [UInt8]
    ) {
        precondition(worldSize > 0 && (0..<worldSize).contains(rank), "rank \(rank) of \(worldSize)")
        self.rank = rank
        self.worldSize = worldSize
        self.confirm = confirm
        self.gather = gather
        self.broadcast = broadcast
    }

    /// One rank without others.
    package static var alone: CheckpointCoordination {
        CheckpointCoordination(rank: 0, worldSize: 1, confirm: { $0 }, gather: { [$0] }, broadcast: { $0 })
    }

    /// Does this rank's part, then learns whether all ranks did theirs.
    ///
    /// - Throws: this rank's error, or `failure` when only others failed, or the error of the collective.
    func together<T>(otherwise failure: @autoclosure () -> ArtifactError, _ body: () throws -> T) throws -> T {
        let result = Result { try body() }
        switch result {
        case .success(let value):
            guard try confirm(true) else { throw failure() }
            return value
        case .failure(let error):
            // The own error says more than the loss of a peer that may follow from it.
            _ = try? confirm(false)
            throw error
        }
    }
}
