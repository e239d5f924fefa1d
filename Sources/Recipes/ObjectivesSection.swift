/// What is learnt beside the classification (`objectives`): each by its name, absent unless given.
package struct ObjectivesSection: Sendable, Equatable, Codable {
    package var certainty: CertaintySection?
    package var distillation: SelfDistillationSection?
    package var resolution: ResolutionSection?
    package var contrast: ContrastSection?
    package var separation: SeparationSection?

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        let certaintyReader = try reader.section("cr_fiqa")
        if reader.has("cr_fiqa") { certainty = try CertaintySection(certaintyReader) }
        let distillationReader = try reader.section("qsd")
        if reader.has("qsd") { distillation = try SelfDistillationSection(distillationReader) }
        let resolutionReader = try reader.section("ccface")
        if reader.has("ccface") { resolution = try ResolutionSection(resolutionReader) }
        let contrastReader = try reader.section("qgface")
        if reader.has("qgface") { contrast = try ContrastSection(contrastReader) }
        let separationReader = try reader.section("sdd_fiqa")
        if reader.has("sdd_fiqa") { separation = try SeparationSection(separationReader) }
        try reader.finish()
    }

    /// Names of what is given.
    package var names: [String] {
        let given: [(CodingKeys, Bool)] = [
            (.certainty, certainty != nil), (.distillation, distillation != nil), (.resolution, resolution != nil),
            (.contrast, contrast != nil), (.separation, separation != nil),
        ]
        return given.filter(\.1).map(\.0.rawValue)
    }

    /// Names of those that look at cosines to class centres.
    package var comparingCentres: [String] { names.filter { $0 != CodingKeys.separation.rawValue } }

    /// Whether images are classified; a regression of annotated qualities needs no classes.
    package var classifies: Bool { separation?.alone != true }

    /// Whether each image comes with a degraded copy.
    package var comparesDegraded: Bool { resolution != nil || contrast != nil }

    private enum CodingKeys: String, CodingKey {
        case certainty = "cr_fiqa"
        case distillation = "qsd"
        case resolution = "ccface"
        case contrast = "qgface"
        case separation = "sdd_fiqa"
    }
}

extension Recipe {
    /// Beginnings of the names of the backbone's parameters that do not train.
    package var frozenPrefixes: [String] {
        objectives.certainty?.onTop == true ? [""] : start.freeze.filter { $0 != "head" }
    }

    /// Whether the class centres stay as they are.
    package var freezesHead: Bool {
        objectives.certainty?.onTop == true || objectives.resolution?.freezesCentres == true || !objectives.classifies
            || start.freeze.contains("head")
    }
}

/// Quality learnt from relative classifiability (`objectives.cr_fiqa`).
package struct CertaintySection: Sendable, Equatable, Codable {
    package enum Ratio: String, Sendable, Codable, CaseIterable { case paper, code }

    /// λ.
    package var weight = 10.0
    package var ratio = Ratio.paper
    /// β of the smooth L1 loss.
    package var beta = 0.5
    /// Only the quality layer learns, on the recogniser that `init` names.
    package var onTop = false

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        weight = try reader.number("weight", default: weight, in: 0...1e6)
        ratio = try reader.choice("ratio", default: ratio)
        beta = try reader.number("beta", default: beta, in: 1e-6...1e6)
        onTop = try reader.bool("on_top", default: onTop)
        try reader.finish()
    }

    private enum CodingKeys: String, CodingKey {
        case weight, ratio, beta
        case onTop = "on_top"
    }
}

/// Quality self-distillation (`objectives.qsd`).
package struct SelfDistillationSection: Sendable, Equatable, Codable {
    package enum Amplification: String, Sendable, Codable, CaseIterable {
        /// With its gradient, as in the authors' code.
        case differentiated
        case constant
    }

    /// Which views are classified.
    package enum Classified: String, Sendable, Codable, CaseIterable { case first, both }

    /// What becomes of records that have no quality.
    package enum Missing: String, Sendable, Codable, CaseIterable {
        /// The run does not start.
        case refuse
        /// Their pairs count as having no gap.
        case ignore
    }

    /// A table of `key<TAB>quality`, as `acuity annotate` writes it.
    package var qualities = ""
    package var missing = Missing.refuse
    package var weight = 1.0
    /// Weights of the taps: the three stages, the embedding, the cosine logits.
    package var stages = 1.0
    package var embedding = 1.0
    package var logits = 0.1
    package var threshold = 0.3
    package var amplification = Amplification.differentiated
    package var classified = Classified.first

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        qualities = try reader.string("qualities", default: "")
        if qualities.isEmpty {
            throw RecipeError.missing(
                key: reader.full("qualities"), why: "the quality of every image; 'acuity annotate' writes it")
        }
        missing = try reader.choice("missing", default: missing)
        weight = try reader.number("weight", default: weight, in: 0...1e6)
        stages = try reader.number("stages", default: stages, in: 0...1e6)
        embedding = try reader.number("embedding", default: embedding, in: 0...1e6)
        logits = try reader.number("logits", default: logits, in: 0...1e6)
        threshold = try reader.number("threshold", default: threshold, in: 0...1)
        amplification = try reader.choice("amplification", default: amplification)
        classified = try reader.choice("classified", default: classified)
        try reader.finish()
    }
}

/// Regression of annotated qualities (`objectives.sdd_fiqa`).
package struct SeparationSection: Sendable, Equatable, Codable {
    /// A table of `key<TAB>quality`, as `acuity annotate` writes it.
    package var qualities = ""
    package var missing = SelfDistillationSection.Missing.refuse
    package var weight = 1.0
    /// β of the smooth L1 loss, in hundredths of the table's scale.
    package var beta = 0.01
    /// Of the embedding, before the quality layer.
    package var dropout = 0.5
    /// Nothing else is learnt: images are not classified.
    package var alone = true

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        qualities = try reader.string("qualities", default: "")
        if qualities.isEmpty {
            throw RecipeError.missing(
                key: reader.full("qualities"), why: "the quality of every image; 'acuity annotate' writes it")
        }
        missing = try reader.choice("missing", default: missing)
        weight = try reader.number("weight", default: weight, in: 0...1e6)
        beta = try reader.number("beta", default: beta, in: 1e-6...1e6)
        dropout = try reader.number("dropout", default: dropout, in: 0...0.95)
        alone = try reader.bool("alone", default: alone)
        try reader.finish()
    }
}

/// Classification consistency across resolutions (`objectives.ccface`).
package struct ResolutionSection: Sendable, Equatable, Codable {
    package enum MarginSource: String, Sendable, Codable, CaseIterable {
        case teacherLow = "teacher_low"
        case teacherHigh = "teacher_high"
        case agreement, student
        /// The head's own margin, the same for all.
        case head
    }
    package enum Cross: String, Sendable, Codable, CaseIterable { case none, relation, predictor, contrast }
    package enum Targets: String, Sendable, Codable, CaseIterable { case hard, soft }

    /// The teacher's weights; by default those that the run starts from.
    package var teacher: String?
    /// A file of the teacher's embeddings of all images and mirror images; made where it is not there.
    package var teacherCache: String?
    /// m₀ of the margin m₀·a_i, and what a_i is for degraded images.
    package var m = 0.5
    package var marginSource = MarginSource.teacherLow
    /// What a row is classified as: its class, or partly what the teacher takes the image at full resolution for.
    package var targets = Targets.hard
    /// Of soft targets: the teacher's share, and the scale of its softmax.
    package var teacherShare = 0.5
    package var teacherScale = 16.0
    /// α, of the classification of the images themselves.
    package var highWeight = 1.0
    /// λ, and which term draws degraded embeddings to the others.
    package var crossWeight = 1.0
    package var cross = Cross.relation
    package var queue = 8192
    package var teacherTemperature = 0.04
    package var studentTemperature = 0.1
    package var hidden = 512
    /// Whether the class centres stay the teacher's.
    package var freezesCentres = true

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        teacher = try reader.string("teacher")
        teacherCache = try reader.string("teacher_cache")
        m = try reader.number("m", default: m, in: 0...1.5)
        marginSource = try reader.choice("margin_source", default: marginSource)
        targets = try reader.choice("targets", default: targets)
        teacherShare = try reader.number("teacher_share", default: teacherShare, in: 0...1)
        teacherScale = try reader.number("teacher_scale", default: teacherScale, in: 0.1...64)
        highWeight = try reader.number("high_weight", default: highWeight, in: 0...1e3)
        crossWeight = try reader.number("cross_weight", default: crossWeight, in: 0...1e3)
        cross = try reader.choice("cross", default: cross)
        queue = try reader.integer("queue", default: queue, in: 1...10_000_000)
        teacherTemperature = try reader.number("teacher_temperature", default: teacherTemperature, in: 1e-3...10)
        studentTemperature = try reader.number(
            "student_temperature", default: cross == .contrast ? 0.07 : studentTemperature, in: 1e-3...10)
        hidden = try reader.integer("hidden", default: hidden, in: 1...65_536)
        freezesCentres = try reader.bool("freeze_centres", default: freezesCentres)
        try reader.finish()
    }

    private enum CodingKeys: String, CodingKey {
        case teacher, m, targets, cross, queue, hidden
        case teacherCache = "teacher_cache"
        case marginSource = "margin_source"
        case teacherShare = "teacher_share"
        case teacherScale = "teacher_scale"
        case highWeight = "high_weight"
        case crossWeight = "cross_weight"
        case teacherTemperature = "teacher_temperature"
        case studentTemperature = "student_temperature"
        case freezesCentres = "freeze_centres"
    }
}

/// Quality-guided joint training (`objectives.qgface`).
package struct ContrastSection: Sendable, Equatable, Codable {
    package enum Correction: String, Sendable, Codable, CaseIterable { case none, proxy, unit }
    package enum Gate: String, Sendable, Codable, CaseIterable { case sgn, cos, linear }
    package enum GateRange: String, Sendable, Codable, CaseIterable { case half, whole }
    package enum PairQuality: String, Sendable, Codable, CaseIterable { case min, mean, max }
    package enum Views: String, Sendable, Codable, CaseIterable { case both, low }
    /// Which network the keys are of.
    package enum Keys: String, Sendable, Codable, CaseIterable {
        case network
        /// One that follows it slowly, as in MoCo.
        case momentum
    }

    /// λ of the contrast; 0 leaves it out, and the gated classification of both views stays.
    package var weight = 1.0
    /// b of the gates; 0 gates nothing.
    package var threshold = 0.2
    /// Updates in which b grows from 0.
    package var thresholdWarmup = 0
    package var scale = 64.0
    package var queue = 8192
    /// Updates in which the queue grows from one batch to its full length.
    package var queueGrowth = 0
    /// How entries follow their class centres; `none` is the plain queue.
    package var correction = Correction.proxy
    package var gate = Gate.sgn
    package var gateRange = GateRange.half
    package var pairQuality = PairQuality.min
    /// Which views' rows are compared with the queue.
    package var compared = Views.both
    package var keys = Keys.network
    /// Of `keys: momentum`: what it keeps of itself in an update.
    package var keyMomentum = 0.999
    package var detachKeys = false
    package var m = 0.0
    package var rescale = true

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        weight = try reader.number("weight", default: weight, in: 0...1e3)
        threshold = try reader.number("threshold", default: threshold, in: 0...1)
        thresholdWarmup = try reader.integer("threshold_warmup_steps", default: thresholdWarmup, in: 0...Int.max)
        scale = try reader.number("scale", default: scale, in: 0.1...100)
        queue = try reader.integer("queue", default: queue, in: 1...10_000_000)
        queueGrowth = try reader.integer("queue_growth_steps", default: queueGrowth, in: 0...1_000_000_000)
        correction = try reader.choice("correction", default: correction)
        gate = try reader.choice("gate", default: gate)
        gateRange = try reader.choice("gate_range", default: gateRange)
        pairQuality = try reader.choice("pair_quality", default: pairQuality)
        compared = try reader.choice("compared", default: compared)
        keys = try reader.choice("keys", default: keys)
        keyMomentum = try reader.number("key_momentum", default: keyMomentum, in: 0...1)
        detachKeys = try reader.bool("detach_keys", default: detachKeys)
        m = try reader.number("m", default: m, in: 0...1)
        rescale = try reader.bool("rescale", default: rescale)
        try reader.finish()
    }

    private enum CodingKeys: String, CodingKey {
        case weight, threshold, scale, queue, correction, gate, compared, keys, m, rescale
        case keyMomentum = "key_momentum"
        case thresholdWarmup = "threshold_warmup_steps"
        case queueGrowth = "queue_growth_steps"
        case gateRange = "gate_range"
        case pairQuality = "pair_quality"
        case detachKeys = "detach_keys"
    }
}
