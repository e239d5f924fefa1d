import Artifacts
import Foundation

/// Ranks as threads of this process, with the collectives of a checkpoint. When a rank ends with an error, those who
/// wait for it get `PeerLost`, as `mpirun` would end them.
final class RankGroup: @unchecked Sendable {
    struct PeerLost: Error {}

    private let size: Int
    private let condition = NSCondition()
    private var given: [[UInt8]?]
    private var round = 0
    private var taken: [[UInt8]] = []
    private var lost = false

    private init(size: Int) {
        self.size = size
        given = Array(repeating: nil, count: size)
    }

    /// Runs `body` on `size` ranks; their results by rank.
    static func run<T: Sendable>(
        _ size: Int, _ body: @escaping @Sendable (CheckpointCoordination) throws -> T
    ) -> [Result<T, any Error>] {
        let group = RankGroup(size: size)
        let results = Results<T>()
        let done = DispatchGroup()
        for rank in 0..<size {
            done.enter()
            let thread = Thread {
                let result = Result { try body(group.coordination(rank)) }
                if case .failure = result { group.lose() }
                results.set(rank, result)
                done.leave()
            }
            thread.start()
        }
        done.wait()
        return results.all(size)
    }

    private final class Results<T: Sendable>: @unchecked Sendable {
        private let lock = NSLock()
        private var results: [Int: Result<T, any Error>] = [:]
        func set(_ rank: Int, _ result: Result<T, any Error>) { lock.withLock { results[rank] = result } }
        func all(_ size: Int) -> [Result<T, any Error>] { lock.withLock { (0..<size).map { results[$0]! } } }
    }

    private func lose() {
        condition.withLock {
            lost = true
            condition.broadcast()
        }
    }

    /// Everybody's bytes, by rank.
    private func exchange(_ rank: Int, _ bytes: [UInt8]) throws -> [[UInt8]] {
        try condition.withLock {
            if lost { throw PeerLost() }
            given[rank] = bytes
            let own = round
            if given.allSatisfy({ $0 != nil }) {
                taken = given.map { $0! }
                given = Array(repeating: nil, count: size)
                round += 1
                condition.broadcast()
            }
            let deadline = Date(timeIntervalSinceNow: 20)
            while round == own {
                if lost || !condition.wait(until: deadline) { throw PeerLost() }
            }
            return taken
        }
    }

    private func coordination(_ rank: Int) -> CheckpointCoordination {
        CheckpointCoordination(
            rank: rank, worldSize: size,
            confirm: { try self.exchange(rank, [$0 ? 1 : 0]).allSatisfy { $0 == [1] } },
            gather: { bytes in
                let all = try self.exchange(rank, bytes)
                return rank == 0 ? all : nil
            },
            broadcast: { try self.exchange(rank, $0)[0] })
    }
}
