/// What happens to an update whose loss or gradient is not finite, or whose loss is far above those before it. All ranks
/// decide alike, before anything is updated.
package struct StabilitySection: Sendable, Equatable, Codable {
    package enum Policy: String, Sendable, Codable, CaseIterable {
        /// The run ends with exit code 76.
        case stop
        /// The update is left out, at most `skip_limit` times.
        case skip
        /// The run goes back to its last checkpoint, at most `rollback_limit` times. What goes wrong again at the same update
        /// is left out.
        case rollback
    }

    package var policy = Policy.stop
    package var skipLimit = 10
    package var rollbackLimit = 3
    /// A loss above this many times the median of the last `spike_window` ones is a spike; nil for none.
    package var spikeFactor: Double?
    package var spikeWindow = 50

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        policy = try reader.choice("policy", default: policy)
        skipLimit = try reader.integer("skip_limit", default: skipLimit, in: 1...1_000_000)
        rollbackLimit = try reader.integer("rollback_limit", default: rollbackLimit, in: 1...1000)
        spikeFactor = try reader.number("spike_factor", in: 1...1e6)
        spikeWindow = try reader.integer("spike_window", default: spikeWindow, in: 5...1000)
        try reader.finish()
    }

    private enum CodingKeys: String, CodingKey {
        case policy
        case skipLimit = "skip_limit"
        case rollbackLimit = "rollback_limit"
        case spikeFactor = "spike_factor"
        case spikeWindow = "spike_window"
    }
}
