/// What is learnt beside the classification (`objectives`): each by its name, absent unless given.
package struct ObjectivesSection: Sendable, Equatable, Codable {
    package var certainty: CertaintySection?
    package var distillation: SelfDistillationSection?

    package init() {}
    init(_ section: SectionReader) throws {
        var reader = section
        let certaintyReader = try reader.section("cr_fiqa")
        if reader.has("cr_fiqa") { certainty = try CertaintySection(certaintyReader) }
        let distillationReader = try reader.section("qsd")
        if reader.has("qsd") { distillation = try SelfDistillationSection(distillationReader) }
        try reader.finish()
    }

    /// Names of what is given.
    package var names: [String] {
        (certainty == nil ? [] : [CodingKeys.certainty.rawValue])
            + (distillation == nil ? [] : [CodingKeys.distillation.rawValue])
    }

    private enum CodingKeys: String, CodingKey {
        case certainty = "cr_fiqa"
        case distillation = "qsd"
    }
}

extension Recipe {
    /// Beginnings of the names of the backbone's parameters that do not train.
    package var frozenPrefixes: [String] {
        objectives.certainty?.onTop == true ? [""] : start.freeze.filter { $0 != "head" }
    }

    /// Whether the class centres stay as they are.
    package var freezesHead: Bool { objectives.certainty?.onTop == true || start.freeze.contains("head") }
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
