/// Which classes a step compares with (`head.sampling`).
package struct HeadSamplingSection: Sendable, Equatable, Codable {
    package enum Mode: String, Sendable, Codable, CaseIterable {
        /// By the global class index: the same sample on any number of ranks.
        case keyed
        /// A fixed number of classes per rank, as in arcface_torch.
        case reference
    }
    package enum Momentum: String, Sendable, Codable, CaseIterable {
        /// Rows that are not in the sample stay as they are.
        case sparse
        /// They move by weight decay and momentum, as in arcface_torch's second version.
        case dense
    }

    /// The share of the classes that are not in the batch; 1 is all of them.
    package var rate = 1.0
    package var mode = Mode.keyed
    package var momentum = Momentum.sparse

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        rate = try reader.number("rate", default: rate, in: 1e-6...1)
        mode = try reader.choice("mode", default: mode)
        momentum = try reader.choice("momentum", default: momentum)
        try reader.finish()
    }
}

/// Where class centres and their momentum lie (`head.storage`).
package enum HeadStorageKind: String, Sendable, Codable, CaseIterable {
    case memory
    /// In files that are mapped into memory.
    case file
}
