internal import Tensors

/// True accept rates over resampled pairs.
struct PairBootstrap {
    /// Ascending distances.
    let genuine: [Double]
    let impostor: [Double]

    /// - Returns: targets x replicates; nil for no replicates.
    func rates(targetFARs targets: [Double], replicates: Int, seed: UInt64) -> [[Double]]? {
        guard replicates > 0 else { return nil }
        var rates = [[Double]](repeating: [], count: targets.count)
        for replicate in 0..<replicates {
            var stream = RandomStream(seed: seed, purpose: .bootstrap, index: UInt64(replicate))
            let impostorDraws = Self.draws(impostor.count, &stream)
            let genuineDraws = Self.draws(genuine.count, &stream)
            for index in targets.indices {
                let allowed = min(Statistics.floorCount(targets[index], of: impostor.count), impostor.count - 1)
                let threshold = impostor[Self.orderStatistic(allowed, impostorDraws)]
                let reach = Statistics.countBelow(threshold, in: genuine)
                let accepted = genuineDraws[..<reach].reduce(0) { $0 + Int($1) }
                rates[index].append(Double(accepted) / Double(genuine.count))
            }
        }
        return rates
    }

    /// How often each of `count` items comes in a sample of `count` with replacement.
    private static func draws(_ count: Int, _ stream: inout RandomStream) -> [UInt32] {
        var times = [UInt32](repeating: 0, count: count)
        for _ in 0..<count { times[stream.below(count)] += 1 }
        return times
    }

    /// The item at place `rank` (from 0) of the ascending sample.
    private static func orderStatistic(_ rank: Int, _ times: [UInt32]) -> Int {
        var seen = 0
        for item in times.indices {
            seen += Int(times[item])
            if seen > rank { return item }
        }
        return times.count - 1
    }
}
