/// A training run, typed: what `acuity train` reads from YAML files and overrides.
///
/// Derived values (class count, steps per epoch) are not part of it: they are counted and shown.
package struct Recipe: Sendable, Equatable, Encodable {
    package var run = RunSection()
    package var data = DataSection()
    package var network = NetworkSection()
    package var head = HeadSection()
    package var objectives = ObjectivesSection()
    package var optimizer = OptimizerSection()
    package var schedule = ScheduleSection()
    package var stability = StabilitySection()
    package var batch = BatchSection()
    package var start = StartSection()
    package var evaluation = EvaluationSection()
    package var checkpoint = CheckpointSection()
    package var log = LogSection()
    package var compute = ComputeSection()

    package init() {}

    /// Merges files, later ones winning, then overrides; checks every key and value.
    ///
    /// - Throws: `RecipeError` naming file, line and key.
    package init(files: [String], overrides: [String]) throws {
        var tree = ConfigTree()
        for file in files { try tree.merge(file: file) }
        for text in overrides { try tree.merge(override: text) }
        try self.init(tree)
    }

    package init(_ tree: ConfigTree) throws {
        var reader = SectionReader(path: "", values: tree.root, origin: .builtIn)
        run = try RunSection(reader.section("run"))
        let dataReader = try reader.section("data")
        data = try DataSection(dataReader)
        network = try NetworkSection(reader.section("network"))
        head = try HeadSection(reader.section("head"))
        objectives = try ObjectivesSection(reader.section("objectives"))
        let optimizerReader = try reader.section("optimizer")
        optimizer = try OptimizerSection(optimizerReader)
        schedule = try ScheduleSection(reader.section("schedule"))
        stability = try StabilitySection(reader.section("stability"))
        batch = try BatchSection(reader.section("batch"))
        if let each = data.imagesPerIdentity, batch.global / batch.accumulation % each != 0 {
            throw dataReader.error(
                "images_per_identity",
                expected: "a divisor of batch.global / batch.accumulation = \(batch.global / batch.accumulation)")
        }
        start = try StartSection(reader.section("init"))
        evaluation = try EvaluationSection(reader.section("evaluation"))
        let checkpointReader = try reader.section("checkpoint")
        checkpoint = try CheckpointSection(checkpointReader)
        if let best = checkpoint.keepBest, !evaluation.sets.contains(where: { $0.name == best }) {
            let names = evaluation.sets.map(\.name).joined(separator: ", ")
            throw checkpointReader.error(
                "keep_best", expected: names.isEmpty ? "a set of evaluation.sets, which is empty" : "one of \(names)")
        }
        log = try LogSection(reader.section("log"))
        compute = try ComputeSection(reader.section("compute"))
        try reader.finish()
        if data.degraded != nil, !objectives.comparesDegraded {
            throw dataReader.error(
                "degraded",
                expected: "objectives.ccface or objectives.qgface beside it: they compare images with copies")
        }
        if optimizer.kind == .adam, !freezesHead {
            throw optimizerReader.error(
                "kind",
                expected:
                    "sgd where class centres learn; adam goes with objectives.sdd_fiqa, objectives.cr_fiqa.on_top or "
                    + "init.freeze: [head]")
        }
        if objectives.separation?.alone == true, objectives.names.count > 1 {
            throw RecipeError.missing(
                key: "objectives.sdd_fiqa.alone: false",
                why: "without it nothing is classified, and \(objectives.names[0]) learns beside the classification")
        }
        if objectives.resolution?.freezesCentres == true, start.head == nil {
            throw RecipeError.missing(
                key: "init.head",
                why: "objectives.ccface learns against the teacher's class centres and leaves them as they are "
                    + "(freeze_centres: false lets them learn)")
        }
        if objectives.certainty?.onTop == true {
            for (key, value) in [("init.weights", start.weights), ("init.head", start.head)] where value == nil {
                throw RecipeError.missing(
                    key: key, why: "objectives.cr_fiqa.on_top learns on a recogniser and its centres")
            }
        }
    }

    private enum CodingKeys: String, CodingKey {
        case run, data, network, head, objectives, optimizer, schedule, stability, batch, evaluation, checkpoint, log
        case compute
        case start = "init"
    }
}

/// Where the run lives and what its random numbers hang on.
package struct RunSection: Sendable, Equatable, Codable {
    /// Checkpoints, logs and the resolved recipe go here.
    package var folder = "runs/acuity"
    package var seed: UInt64 = 1
    /// Updates between comparisons of the parameters over the ranks; 0 for none.
    package var checkEvery = 1000

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        folder = try reader.string("folder", default: folder)
        seed = UInt64(try reader.integer("seed", default: 1, in: 0...Int.max))
        checkEvery = try reader.integer("check_every", default: checkEvery, in: 0...Int.max)
        try reader.finish()
    }

    private enum CodingKeys: String, CodingKey {
        case folder, seed
        case checkEvery = "check_every"
    }
}

/// The backbone.
package struct NetworkSection: Sendable, Equatable, Codable {
    package var name = "mobilefacenet"
    package var embedding = 512
    /// Height and width.
    package var input = [112, 112]
    package var width = 1.0
    package var dropout: Double?
    /// Of IResNet's last norm, `features.weight`: 1 as in arcface_torch, or trained as in CR-FIQA's code.
    package var embeddingScale = EmbeddingScale.fixed

    package enum EmbeddingScale: String, Sendable, Codable, CaseIterable { case fixed, trained }

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        name = try reader.string("name", default: name)
        embedding = try reader.integer("embedding", default: embedding, in: 16...8192)
        input = try reader.integers("input", default: input, in: 16...112)
        guard input.count == 2 else { throw reader.error("input", expected: "[height, width]") }
        width = try reader.number("width", default: 1, in: 0.125...8)
        dropout = try reader.number("dropout", in: 0...0.95)
        embeddingScale = try reader.choice("embedding_scale", default: embeddingScale)
        if embeddingScale == .trained, !name.hasPrefix("iresnet") {
            throw reader.error("embedding_scale", expected: "fixed; only IResNet's embedding norm has a fixed scale")
        }
        try reader.finish()
    }

    private enum CodingKeys: String, CodingKey {
        case name, embedding, input, width, dropout
        case embeddingScale = "embedding_scale"
    }
}

/// The optimizer and what surrounds it.
package struct OptimizerSection: Sendable, Equatable, Encodable {
    package enum Scaling: String, Sendable, Codable, CaseIterable { case none, linear, sqrt }
    package enum Kind: String, Sendable, Codable, CaseIterable {
        case sgd
        /// Not for class centres.
        case adam
    }

    package var kind = Kind.sgd
    package var learningRate = 0.1
    /// How the rate follows the global batch relative to `reference_batch`.
    package var scaling = Scaling.none
    package var referenceBatch = 512
    /// Of SGD.
    package var momentum = 0.9
    /// Of Adam.
    package var beta1 = 0.9
    package var beta2 = 0.999
    package var epsilon = 1e-8
    package var weightDecay = 5e-4
    /// Parameter roles without weight decay: norm, prelu, bias, head.
    package var decayExempt: [String] = []
    /// Largest norm of the backbone's gradient; 0 for no clipping.
    package var clipNorm = 5.0

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        kind = try reader.choice("kind", default: kind)
        learningRate = try reader.number("learning_rate", default: learningRate, in: 0...1000)
        scaling = try reader.choice("scaling", default: scaling)
        referenceBatch = try reader.integer("reference_batch", default: referenceBatch, in: 1...10_000_000)
        switch kind {
        case .sgd: momentum = try reader.number("momentum", default: momentum, in: 0...0.9999)
        case .adam:
            beta1 = try reader.number("beta1", default: beta1, in: 0...0.9999)
            beta2 = try reader.number("beta2", default: beta2, in: 0...0.999_999)
            epsilon = try reader.number("epsilon", default: epsilon, in: 1e-16...1)
        }
        weightDecay = try reader.number("weight_decay", default: weightDecay, in: 0...1)
        decayExempt = try reader.strings("decay_exempt", default: [])
        for role in decayExempt where !["norm", "prelu", "bias", "head"].contains(role) {
            throw reader.error("decay_exempt", expected: "a list of norm, prelu, bias, head")
        }
        clipNorm = try reader.number("clip_norm", in: 0...1e9) ?? (reader.isWrittenNull("clip_norm") ? 0 : clipNorm)
        let foreign = kind == .sgd ? ["beta1", "beta2", "epsilon"] : ["momentum"]
        try reader.finish(owner: foreign.contains { reader.has($0) } ? "optimizer.kind: \(kind.rawValue)" : nil)
    }

    /// Writes the keys of its kind alone: what is written must be what can be read.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(kind, forKey: .kind)
        try container.encode(learningRate, forKey: .learningRate)
        try container.encode(scaling, forKey: .scaling)
        try container.encode(referenceBatch, forKey: .referenceBatch)
        switch kind {
        case .sgd: try container.encode(momentum, forKey: .momentum)
        case .adam:
            try container.encode(beta1, forKey: .beta1)
            try container.encode(beta2, forKey: .beta2)
            try container.encode(epsilon, forKey: .epsilon)
        }
        try container.encode(weightDecay, forKey: .weightDecay)
        try container.encode(decayExempt, forKey: .decayExempt)
        try container.encode(clipNorm, forKey: .clipNorm)
    }

    private enum CodingKeys: String, CodingKey {
        case kind, scaling, momentum, beta1, beta2, epsilon
        case learningRate = "learning_rate"
        case referenceBatch = "reference_batch"
        case weightDecay = "weight_decay"
        case decayExempt = "decay_exempt"
        case clipNorm = "clip_norm"
    }
}

/// The learning rate over time and when the run ends. Steps are optimizer updates.
package struct ScheduleSection: Sendable, Equatable, Codable {
    package enum Kind: String, Sendable, Codable, CaseIterable { case polynomial, steps, cosine }

    package var kind = Kind.polynomial
    package var epochs = 20.0
    package var warmupSteps: Int?
    package var warmupEpochs = 0.0
    /// Epochs at which the `steps` schedule multiplies the rate by `factor`.
    package var milestones: [Int] = []
    package var factor = 0.1
    package var power = 1.0
    /// The first update of a warm-up uses the full rate, as arcface_torch does.
    package var reference = false
    package var maxSteps: Int?
    /// Seconds.
    package var maxTime: Double?

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        kind = try reader.choice("kind", default: kind)
        epochs = try reader.number("epochs", default: epochs, in: 0.001...1_000_000)
        warmupSteps = try reader.integer("warmup_steps", in: 0...Int.max)
        warmupEpochs = try reader.number("warmup_epochs", default: 0, in: 0...1_000_000)
        milestones = try reader.integers("milestones", default: [], in: 0...1_000_000)
        factor = try reader.number("factor", default: factor, in: 0...1)
        power = try reader.number("power", default: power, in: 0...10)
        reference = try reader.bool("reference", default: false)
        maxSteps = try reader.integer("max_steps", in: 1...Int.max)
        maxTime = try reader.duration("max_time")
        if kind == .steps, milestones.isEmpty {
            throw RecipeError.missing(key: "schedule.milestones", why: "the 'steps' schedule needs epochs to drop at")
        }
        if milestones != milestones.sorted() { throw reader.error("milestones", expected: "epochs in rising order") }
        try reader.finish(derived: ["total_steps", "total_step", "steps_per_epoch"])
    }

    private enum CodingKeys: String, CodingKey {
        case kind, epochs, milestones, factor, power, reference
        case warmupSteps = "warmup_steps"
        case warmupEpochs = "warmup_epochs"
        case maxSteps = "max_steps"
        case maxTime = "max_time"
    }
}

/// Images per update, over all ranks.
package struct BatchSection: Sendable, Equatable, Codable {
    package var global = 64
    /// Passes per update; the loss is divided, so the trajectory is that of the whole batch (but for batch norm).
    package var accumulation = 1

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        global = try reader.integer("global", default: global, in: 1...1_000_000)
        accumulation = try reader.integer("accumulation", default: 1, in: 1...100_000)
        guard global % accumulation == 0 else {
            throw reader.error("accumulation", expected: "a divisor of batch.global = \(global)")
        }
        try reader.finish()
    }
}
