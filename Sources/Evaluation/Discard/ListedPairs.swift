internal import Tensors

/// The pairs of a list, from which single pairs are left out.
struct ListedPairs {
    /// Places in the list, by ascending distance.
    private let genuine: [Int32]
    private let impostor: [Int32]
    private let genuineDistances: [Double]
    private let impostorDistances: [Double]

    var count: Int { genuine.count + impostor.count }
    var genuineCount: Int { genuine.count }

    /// - Throws: `EvaluationError.nonFiniteScore`, `.oneKindOnly`.
    init(distances: [Double], same: [Bool]) throws(EvaluationError) {
        _ = try PairScores(distances: distances, same: same)
        func places(_ kind: Bool) -> [Int32] {
            same.indices.filter { same[$0] == kind }.sorted { (distances[$0], $0) < (distances[$1], $1) }
                .map { Int32($0) }
        }
        genuine = places(true)
        impostor = places(false)
        genuineDistances = genuine.map { distances[Int($0)] }
        impostorDistances = impostor.map { distances[Int($0)] }
    }

    /// Places in the list, lowest quality first; equal qualities keep the list's order.
    func order(by qualities: [Double]) -> [Int32] {
        qualities.indices.sorted { (qualities[$0], $0) < (qualities[$1], $1) }.map { Int32($0) }
    }

    /// What discarding in an order leaves.
    ///
    /// - Parameters:
    ///   - order: places in the list, worst first.
    ///   - copies: how often each pair of the list counts; once where nil. Of copies of a pair none or all are left out.
    func sample(order: [Int32], copies: [UInt32]? = nil, rates: DiscardRates) -> DiscardSample {
        var retained = [UInt8](repeating: 0, count: count)
        if let copies {
            let cuts = rates.cuts(of: copies.reduce(0) { $0 + Int($1) })
            var (seen, rate) = (0, 0)
            for place in order {
                while rate + 1 < cuts.count, cuts[rate + 1] <= seen { rate += 1 }
                retained[Int(place)] = UInt8(rate + 1)
                seen += Int(copies[Int(place)])
            }
        } else {
            let byRank = retainedRates(count: count, cuts: rates.cuts(of: count))
            for (rank, place) in order.enumerated() { retained[Int(place)] = byRank[rank] }
        }
        func chosen<Value>(_ values: [Value], _ places: [Int32]) -> [Value] { places.map { values[Int($0)] } }
        let impostorRetained = chosen(retained, impostor)
        let impostorWeights = copies.map { chosen($0, impostor) }
        var sample = DiscardSample(
            genuine: genuineDistances, impostor: impostorDistances, genuineRetained: chosen(retained, genuine),
            impostorRetained: impostorRetained, genuineWeights: copies.map { chosen($0, genuine) },
            impostorWeights: impostorWeights, impostorTotals: [],
            impostorsNearer: [Int](repeating: 0, count: rates.count), listsFarthest: true)
        sample.impostorTotals = sample.listedImpostors(rates: rates.count)
        return sample
    }

    /// Copies of the pairs in a sample with replacement, drawn for each kind by itself.
    func resampled(seed: UInt64, number: Int) -> [UInt32] {
        var stream = RandomStream(seed: seed, purpose: .bootstrap, index: UInt64(number))
        var copies = [UInt32](repeating: 0, count: count)
        for places in [genuine, impostor] {
            for _ in places.indices { copies[Int(places[stream.below(places.count)])] += 1 }
        }
        return copies
    }
}
