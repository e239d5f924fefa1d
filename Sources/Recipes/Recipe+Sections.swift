/// What the run starts from (`init:`).
package struct StartSection: Sendable, Equatable, Codable {
    package enum Match: String, Sendable, Codable, CaseIterable { case strict, partial }
    package enum NewClasses: String, Sendable, Codable, CaseIterable {
        case random
        /// From some images of the identity, by the backbone that the run starts from.
        case meanEmbedding = "mean_embedding"
    }

    /// Backbone weights (safetensors), or a run folder for its newest checkpoint's; nil for random ones.
    package var weights: String?
    /// Class centres of an earlier run's checkpoint: those of the identities that have the same names.
    package var head: String?
    /// How the centres of the others start.
    package var newClasses = NewClasses.random
    package var match = Match.strict
    /// Prefixes of parameter names that do not train; `head` freezes the class centres.
    package var freeze: [String] = []
    /// Learning-rate factors by prefix of parameter names (`head` for the centres); the longest prefix wins.
    package var learningRateFactors: [String: Double] = [:]

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        weights = try reader.string("weights")
        head = try reader.string("head")
        newClasses = try reader.choice("new_classes", default: newClasses)
        if newClasses == .meanEmbedding, weights == nil {
            throw reader.error("new_classes", expected: "init.weights, the backbone that computes the embeddings")
        }
        match = try reader.choice("match", default: match)
        freeze = try reader.strings("freeze", default: [])
        learningRateFactors = try reader.numbers("learning_rate_factors")
        try reader.finish()
    }

    private enum CodingKeys: String, CodingKey {
        case weights, head, match, freeze
        case newClasses = "new_classes"
        case learningRateFactors = "learning_rate_factors"
    }

    private struct Prefix: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    /// Writes the factors in the order of their prefixes: a dictionary's own order differs from one process to the next,
    /// and the same recipe must give the same text.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encodeIfPresent(weights, forKey: .weights)
        try container.encodeIfPresent(head, forKey: .head)
        try container.encode(newClasses, forKey: .newClasses)
        try container.encode(match, forKey: .match)
        try container.encode(freeze, forKey: .freeze)
        var factors = container.nestedContainer(keyedBy: Prefix.self, forKey: .learningRateFactors)
        for (prefix, factor) in learningRateFactors.sorted(by: { $0.key < $1.key }) {
            try factors.encode(factor, forKey: Prefix(stringValue: prefix))
        }
    }
}

/// One set of pairs to verify on.
package struct PairSetSection: Sendable, Equatable, Codable {
    /// Which images of a pair are degraded: `one` is the second.
    package enum Sides: String, Sendable, Codable, CaseIterable { case first, one, both }

    package var name = ""
    /// A `.bin` file, or the image folder of a pairs file, or `synthetic`.
    package var path = ""
    /// LFW's `pairs.txt` format, for an image folder.
    package var pairs: String?
    /// Synthetic pairs: how many, of which identities.
    package var synthetic = SyntheticSection()
    package var pairCount = 3000
    package var flip = true
    /// Degradation on the way in: a size in pixels (`16`), or a table like `lfw-mixed.tsv`.
    package var degrade: String?
    package var sides = Sides.both
    /// Kernels that reduce to a side in pixels, and enlarge again.
    package var down: String?
    package var up: String?

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        path = try reader.string("path", default: "")
        if path.isEmpty { throw RecipeError.missing(key: reader.full("path"), why: "which pairs to verify on") }
        let stem = path.split(separator: "/").last.map(String.init) ?? path
        name = try reader.string("name", default: stem.hasSuffix(".bin") ? String(stem.dropLast(4)) : stem)
        pairs = try reader.string("pairs")
        synthetic = try SyntheticSection(reader.section("synthetic"))
        pairCount = try reader.integer("pair_count", default: pairCount, in: 10...10_000_000)
        flip = try reader.bool("flip", default: true)
        degrade = try reader.string("degrade")
        sides = try reader.choice("sides", default: sides)
        down = try reader.string("down")
        up = try reader.string("up")
        for (key, name) in [("down", down), ("up", up)] {
            guard let name else { continue }
            guard AugmentOperator.kernels.contains(name) else {
                throw reader.error(key, expected: "one of " + AugmentOperator.kernels.joined(separator: ", "))
            }
            guard degrade.flatMap({ Int($0) }) != nil else {
                throw reader.error(key, expected: "'degrade: SIDE' in pixels beside it")
            }
        }
        try reader.finish()
    }

    private enum CodingKeys: String, CodingKey {
        case name, path, pairs, synthetic, flip, degrade, sides, down, up
        case pairCount = "pair_count"
    }
}

/// Periodic evaluation.
package struct EvaluationSection: Sendable, Equatable, Codable {
    /// Updates between evaluations; nil for only the last.
    package var everySteps: Int?
    /// Evaluates before the first update too: what chance and the untrained network give.
    package var atStart = false
    package var sets: [PairSetSection] = []
    package var batch = 64

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        everySteps = try reader.integer("every_steps", in: 1...Int.max)
        atStart = try reader.bool("at_start", default: false)
        sets = try reader.sections("sets").map { try PairSetSection($0) }
        batch = try reader.integer("batch", default: batch, in: 1...100_000)
        try reader.finish()
    }

    private enum CodingKeys: String, CodingKey {
        case sets, batch
        case everySteps = "every_steps"
        case atStart = "at_start"
    }
}

/// When checkpoints are written, how, and which of them stay.
package struct CheckpointSection: Sendable, Equatable, Codable {
    package enum OnError: String, Sendable, Codable, CaseIterable { case stop, warn }

    /// Updates between checkpoints; nil for only the last.
    package var everySteps: Int?
    /// The newest ones kept.
    package var keep = 3
    /// Checkpoints at multiples of this many updates stay for ever.
    package var keepEvery: Int?
    /// The evaluation set whose best accuracy so far has its checkpoint kept, and written where none is due.
    package var keepBest: String?
    /// Checkpoints on the way are written from a copy while training goes on; the last one never is.
    package var asynchronous = true
    /// What a checkpoint on the way that cannot be written means. The last one must be.
    package var onError = OnError.stop

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        everySteps = try reader.integer("every_steps", in: 1...Int.max)
        keep = try reader.integer("keep", default: keep, in: 1...100_000)
        keepEvery = try reader.integer("keep_every", in: 1...Int.max)
        keepBest = try reader.string("keep_best")
        asynchronous = try reader.bool("asynchronous", default: true)
        onError = try reader.choice("on_error", default: onError)
        try reader.finish()
    }

    private enum CodingKeys: String, CodingKey {
        case keep, asynchronous
        case everySteps = "every_steps"
        case keepEvery = "keep_every"
        case keepBest = "keep_best"
        case onError = "on_error"
    }
}

/// What is written while training.
package struct LogSection: Sendable, Equatable, Codable {
    /// Updates between log lines.
    package var everySteps = 20

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        everySteps = try reader.integer("every_steps", default: everySteps, in: 1...Int.max)
        try reader.finish()
    }

    private enum CodingKeys: String, CodingKey { case everySteps = "every_steps" }
}

/// How the machine is used.
package struct ComputeSection: Sendable, Equatable, Codable {
    /// Threads per rank; nil for the affinity mask's processors divided by the ranks that share them.
    package var threads: Int?
    /// Of gradients that travel between hosts: bf16 halves their bytes and rounds them.
    package var messages = Precision.fp32
    /// Largest gradient bucket, in MiB.
    package var bucketMiB = 4.0
    /// Gradients are reduced while backward goes on; false: after it.
    package var overlap = true
    /// Of activations and convolutions; weights, sums, statistics, embedding layer and head are fp32 in either.
    package var precision = Precision.fp32
    /// Seconds that a collective of a step may take; loading may take ten times, evaluating and saving three times as long.
    package var collectiveTimeout = 300.0

    package enum Precision: String, Sendable, Codable, CaseIterable { case fp32, bf16 }

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        precision = try reader.choice("precision", default: precision)
        threads = try reader.integer("threads", in: 1...4096)
        messages = try reader.choice("messages", default: messages)
        bucketMiB = try reader.number("bucket_mib", default: bucketMiB, in: 0.01...1024)
        overlap = try reader.bool("overlap", default: true)
        collectiveTimeout = try reader.number("collective_timeout", default: collectiveTimeout, in: 1...1e6)
        try reader.finish()
    }

    private enum CodingKeys: String, CodingKey {
        case precision, threads, messages, overlap
        case bucketMiB = "bucket_mib"
        case collectiveTimeout = "collective_timeout"
    }
}
