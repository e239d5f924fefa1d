internal import Tensors

/// A protocol's pairs with the orders in which they can be left out.
protocol DiscardPairs {
    var pairCount: Int { get }
    var genuineCount: Int { get }
    /// Lowest quality first.
    func byQuality() -> DiscardSample
    /// The images in a random order, another one for each number.
    func atRandom(_ number: Int) -> DiscardSample
    /// Lowest quality first, in a sample with replacement, another one for each number.
    func resampled(_ number: Int) -> DiscardSample
    /// Operating points by rate that hold for all samples, where those of a sample's own cannot be told: by the place of
    /// the target.
    var heldPoints: [Int: [DiscardSample.OperatingPoint?]] { get }
    /// By rate: the share of the pairs that is really left out.
    var reachedRates: [Double] { get }
}

/// A random order of `count` things: Fisher and Yates.
func randomOrder(_ count: Int, seed: UInt64, number: Int) -> [Int32] {
    // Another step than that of the bootstrap.
    var stream = RandomStream(seed: seed, purpose: .bootstrap, index: UInt64(number), step: 1)
    var order = [Int32](0..<Int32(count))
    for place in stride(from: count - 1, to: 0, by: -1) { order.swapAt(place, stream.below(place + 1)) }
    return order
}

/// A list of pairs of images: single pairs are left out, by the lesser quality of their two images.
struct ListedDiscard: DiscardPairs {
    private let listed: ListedPairs
    private let pairs: [VerificationPair]
    private let qualities: [Double]
    private let rates: DiscardRates
    private let seed: UInt64

    init(
        distances: [Double], pairs: [VerificationPair], qualities: [Double], rates: DiscardRates, seed: UInt64
    ) throws(EvaluationError) {
        listed = try ListedPairs(distances: distances, same: pairs.map(\.same))
        self.pairs = pairs
        self.qualities = qualities
        self.rates = rates
        self.seed = seed
    }

    var pairCount: Int { pairs.count }
    var genuineCount: Int { listed.genuineCount }
    var heldPoints: [Int: [DiscardSample.OperatingPoint?]] { [:] }
    var reachedRates: [Double] { rates.cuts(of: pairs.count).map { Double($0) / Double(pairs.count) } }

    private func order(by qualities: [Double]) -> [Int32] {
        listed.order(by: ErrorVersusDiscard.pairQualities(qualities, pairs: pairs))
    }

    func byQuality() -> DiscardSample { listed.sample(order: order(by: qualities), rates: rates) }

    func atRandom(_ number: Int) -> DiscardSample {
        let random = randomOrder(qualities.count, seed: seed, number: number)
        return listed.sample(order: order(by: random.map { Double($0) }), rates: rates)
    }

    func resampled(_ number: Int) -> DiscardSample {
        listed.sample(
            order: order(by: qualities), copies: listed.resampled(seed: seed, number: number), rates: rates)
    }
}
