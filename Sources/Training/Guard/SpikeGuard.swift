/// Tells losses that are far above the last ones.
package struct SpikeGuard: Sendable, Equatable {
    package let factor: Double
    /// How many losses count.
    package let window: Int
    /// Of the last updates, oldest first.
    package private(set) var losses: [Double] = []

    /// Fewer losses say nothing about the next one.
    private static let fewest = 5

    package init(factor: Double, window: Int, losses: [Double] = []) {
        precondition(factor >= 1 && window >= Self.fewest, "spikes of \(factor) times the median of \(window)")
        self.factor = factor
        self.window = window
        self.losses = Array(losses.suffix(window))
    }

    /// The median of the last losses where `loss` is a spike above it; nil where it is none.
    package func isSpike(_ loss: Double) -> Double? {
        guard losses.count >= Self.fewest else { return nil }
        let sorted = losses.sorted()
        let middle = sorted.count / 2
        let median = sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
        return median > 0 && loss > factor * median ? median : nil
    }

    package mutating func add(_ loss: Double) {
        if losses.count >= window { losses.removeFirst(losses.count - window + 1) }
        losses.append(loss)
    }
}
