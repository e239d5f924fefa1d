package import Collectives

/// Where each rank's time goes, over the updates between two log lines.
///
/// A collective makes all ranks equally slow, so step times tell nothing: the rank that the others wait for is the one that
/// waits least.
package struct RankTimes: Sendable {
    /// Seconds of one rank and update.
    package struct Share: Sendable, Equatable {
        /// Neither waiting for data nor for other ranks.
        package var compute: Double
        package var dataWait: Double
        /// In collectives, those beside the computation included.
        package var collectiveWait: Double
        package var step: Double

        package init(compute: Double, dataWait: Double, collectiveWait: Double, step: Double) {
            self.compute = compute
            self.dataWait = dataWait
            self.collectiveWait = collectiveWait
            self.step = step
        }
    }

    /// The rank that holds the others up, and how much.
    package struct Straggler: Sendable, Equatable {
        package var rank: Int
        /// What the median of the others waits longer, per update.
        package var seconds: Double
        package var share: Double
    }

    /// Fewer updates say little about a rank.
    static let fewest = 10

    private(set) var steps = 0
    private var seconds = 0.0
    private var dataWait = 0.0
    private var reduceWait = 0.0
    /// In collectives of updates: in all of them, and of these what the computing thread waited for itself.
    private var collective = 0.0
    private var blocked = 0.0
    private var waitedBefore = 0.0
    private var blockedBefore = 0.0

    package init() {}

    /// Forgets all updates.
    private mutating func restart() {
        (steps, seconds, dataWait, reduceWait, collective, blocked) = (0, 0, 0, 0, 0, 0)
    }

    /// An update begins: what is waited for between updates, to evaluate and to save, is no update's.
    package mutating func begin(_ ring: CollectiveRing) {
        waitedBefore = Self.waited(ring)
        blockedBefore = ring.waitSeconds(channel: "world")
    }

    /// It has ended.
    package mutating func add(_ ring: CollectiveRing, seconds: Double, reduceWait: Double, dataWait: Double) {
        steps += 1
        self.seconds += seconds
        self.reduceWait += reduceWait
        self.dataWait += dataWait
        collective += Self.waited(ring) - waitedBefore
        blocked += ring.waitSeconds(channel: "world") - blockedBefore
    }

    /// In collectives that steps wait for.
    private static func waited(_ ring: CollectiveRing) -> Double {
        ring.waitSeconds() - ring.waitSeconds(channel: CollectiveRing.behindChannel)
    }

    /// The shares of all ranks on all of them, and a new start. Collective.
    package mutating func exchange(_ communicator: any Communicator) throws -> [Share] {
        let count = Double(max(1, steps))
        // On the computing thread: its own collectives, and the wait for the gradients.
        let own = [
            max(0, seconds - dataWait - blocked - reduceWait) / count, dataWait / count, collective / count,
            seconds / count,
        ]
        var all = [Double](repeating: 0, count: own.count * communicator.size)
        try own.withUnsafeBytes { own in
            try all.withUnsafeMutableBytes { try communicator.allGather(own, into: $0, "times of the ranks") }
        }
        restart()
        return (0..<communicator.size).map {
            Share(
                compute: all[4 * $0], dataWait: all[4 * $0 + 1], collectiveWait: all[4 * $0 + 2], step: all[4 * $0 + 3])
        }
    }

    /// The straggler, where it costs more than a tenth of the time and two milliseconds of each update; nil otherwise.
    package static func straggler(_ shares: [Share]) -> Straggler? {
        guard shares.count > 1,
            let culprit = shares.indices.min(by: { shares[$0].collectiveWait < shares[$1].collectiveWait })
        else { return nil }
        let others = shares.indices.filter { $0 != culprit }.map { shares[$0].collectiveWait }.sorted()
        let gap = others[others.count / 2] - shares[culprit].collectiveWait
        let step = shares[culprit].step
        guard step > 0, gap > 0.002, gap > 0.1 * step else { return nil }
        return Straggler(rank: culprit, seconds: gap, share: gap / step)
    }
}
