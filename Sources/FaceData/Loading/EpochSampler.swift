internal import Tensors

/// The order in which records are trained on: a pure function of (seed, epoch), in constant memory.
///
/// The order of an epoch is a permutation of the records, computed element by element with a generalised Feistel network
/// over Z_a x Z_b, a·b >= count, walking cycles to stay below count (Black and Rogaway, "Ciphers with arbitrary finite
/// domains", CT-RSA 2002). The last count mod N records of an epoch's order are dropped. The position in a run is one
/// integer: how many images all ranks together have consumed.
package struct EpochSampler: Sendable, Equatable {
    package let recordCount: Int
    /// N: images of one step over all ranks.
    package let globalBatch: Int
    package let seed: UInt64
    /// false: every epoch in the source's order.
    package let shuffles: Bool

    private static let rounds = 8
    private let left: UInt64
    private let right: UInt64

    /// - Throws: when there are fewer records than one global batch takes.
    package init(recordCount: Int, globalBatch: Int, seed: UInt64, shuffles: Bool = true) throws(SamplerError) {
        precondition(globalBatch > 0, "a global batch of \(globalBatch) images")
        guard recordCount >= globalBatch else {
            throw SamplerError(records: recordCount, globalBatch: globalBatch)
        }
        self.recordCount = recordCount
        self.globalBatch = globalBatch
        self.seed = seed
        self.shuffles = shuffles
        // a = ceil(sqrt(count)), b = ceil(count / a).
        var a = Int(Double(recordCount).squareRoot())
        while a * a < recordCount { a += 1 }
        left = UInt64(a)
        right = UInt64((recordCount + a - 1) / a)
    }

    package var stepsPerEpoch: Int { recordCount / globalBatch }
    package var imagesPerEpoch: Int { stepsPerEpoch * globalBatch }

    /// Which epoch a position lies in.
    package func epoch(at position: Int) -> Int { position / imagesPerEpoch }
    /// Which step of its epoch a position lies in.
    package func stepInEpoch(at position: Int) -> Int { position % imagesPerEpoch / globalBatch }

    /// The rows of the global batch that a rank takes: contiguous, as equal as possible.
    package func rows(rank: Int, worldSize: Int) -> Range<Int> {
        precondition(worldSize > 0 && (0..<worldSize).contains(rank), "rank \(rank) of \(worldSize)")
        return globalBatch * rank / worldSize..<globalBatch * (rank + 1) / worldSize
    }

    /// The records of one rank's rows of the global batch at `position` (rounded down to a whole batch).
    package func records(at position: Int, rank: Int = 0, worldSize: Int = 1) -> [Int] {
        precondition(position >= 0, "position \(position)")
        let epoch = epoch(at: position)
        let first = stepInEpoch(at: position) * globalBatch
        let order = order(of: epoch)
        return rows(rank: rank, worldSize: worldSize).map { order[first + $0] }
    }

    package func order(of epoch: Int) -> EpochOrder {
        precondition(epoch >= 0, "epoch \(epoch)")
        return EpochOrder(sampler: self, epoch: epoch)
    }

    /// One epoch's permutation of 0..<recordCount.
    package struct EpochOrder: Sendable {
        private let count: Int
        private let left: UInt64
        private let right: UInt64
        private let keys: [UInt64]

        fileprivate init(sampler: EpochSampler, epoch: Int) {
            count = sampler.recordCount
            left = sampler.left
            right = sampler.right
            var stream = RandomStream(seed: sampler.seed, purpose: .epochOrder, index: 0, step: UInt64(epoch))
            keys = sampler.shuffles ? (0..<EpochSampler.rounds).map { _ in stream.next() } : []
        }

        /// The record that comes `ordinal`-th.
        package subscript(ordinal: Int) -> Int {
            precondition((0..<count).contains(ordinal), "ordinal \(ordinal) of \(count)")
            if keys.isEmpty { return ordinal }
            var value = UInt64(ordinal)
            repeat { value = permute(value) } while value >= UInt64(count)
            return Int(value)
        }

        /// A permutation of 0..<left·right.
        private func permute(_ value: UInt64) -> UInt64 {
            var x = value / right
            var y = value % right
            for (round, key) in keys.enumerated() {
                if round % 2 == 0 {
                    x = (x + Self.mix(y ^ key) % left) % left
                } else {
                    y = (y + Self.mix(x ^ key) % right) % right
                }
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
}

/// Fewer records than one step takes.
package struct SamplerError: Error, Sendable, Equatable, CustomStringConvertible {
    package let records: Int
    package let globalBatch: Int

    package var description: String {
        "\(records) images are fewer than one global batch of \(globalBatch): use a smaller batch or more data"
    }
}
