import Artifacts

extension FaultyFileSystem {
    /// The collectives of a process that may end: an ended one takes part in none.
    func guarding(_ ranks: CheckpointCoordination) -> CheckpointCoordination {
        func alive() throws {
            if crashed { throw Crash() }
        }
        return CheckpointCoordination(
            rank: ranks.rank, worldSize: ranks.worldSize,
            confirm: {
                try alive()
                return try ranks.confirm($0)
            },
            gather: {
                try alive()
                return try ranks.gather($0)
            },
            broadcast: {
                try alive()
                return try ranks.broadcast($0)
            })
    }
}
