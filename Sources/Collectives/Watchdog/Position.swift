/// Where a rank is: what it tells the watchdog of rank 0.
package struct Position: Sendable, Equatable, CustomStringConvertible {
    package var rank: Int
    package var host: String
    package var phase: RunPhase
    package var step: Int
    /// Collectives that the rank has started so far.
    package var started: UInt64
    /// The collective that has been running longest; nil where the rank is in none.
    package var waiting: Waiting?
    /// The rank is in a collective behind the steps, too, or in nothing else.
    package var isInBehind: Bool

    package struct Waiting: Sendable, Equatable {
        package var sequence: UInt64
        package var operation: String
        package var label: String
        package var bytes: Int
        package var seconds: Double
        /// No step waits for it: steps go on.
        package var isBehind: Bool

        package init(
            sequence: UInt64, operation: String, label: String, bytes: Int, seconds: Double, isBehind: Bool = false
        ) {
            self.sequence = sequence
            self.operation = operation
            self.label = label
            self.bytes = bytes
            self.seconds = seconds
            self.isBehind = isBehind
        }
    }

    package init(
        rank: Int, host: String, phase: RunPhase, step: Int, started: UInt64, waiting: Waiting? = nil,
        isInBehind: Bool = false
    ) {
        self.rank = rank
        self.host = host
        self.phase = phase
        self.step = step
        self.started = started
        self.waiting = waiting
        self.isInBehind = isInBehind
    }

    /// The rank's own.
    ///
    /// - Parameter entry: the collective of its ring that it waits in.
    init(of communicator: any Communicator, in entry: CollectiveRing.Entry?, now: UInt64? = nil) {
        let ring = communicator.ring
        self.init(
            rank: communicator.rank, host: communicator.topology.hostName, phase: ring.place.phase,
            step: ring.place.step, started: ring.count,
            waiting: entry.map {
                Waiting(
                    sequence: $0.sequence, operation: $0.operation, label: $0.label, bytes: $0.bytes,
                    seconds: $0.seconds(now: now), isBehind: $0.isBehind)
            }, isInBehind: ring.isInBehind)
    }

    package var description: String {
        let place = "rank \(rank) on \(host): step \(step), phase \(phase.name), "
        guard let waiting else { return place + "in no collective (\(started) started so far)" }
        let size = waiting.bytes > 0 ? ", \(waiting.bytes) bytes" : ""
        return place + "in '\(waiting.label)' (\(waiting.operation)\(size), number \(waiting.sequence)) for "
            + "\(tenths(waiting.seconds)) s"
    }
}

/// With one decimal.
func tenths(_ value: Double) -> String {
    guard value.isFinite, abs(value) < 1e12 else { return "?" }
    return "\((value * 10).rounded() / 10)"
}
