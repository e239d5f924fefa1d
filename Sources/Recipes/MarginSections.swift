/// The keys of one margin function, with the values of its paper or its authors' code as defaults.
protocol MarginSection: Sendable, Equatable, Encodable {
    /// s, where logits are scaled cosines.
    var logitScale: Double? { get }
    /// How class centres start in the code that the head comes from.
    var centres: HeadSection.Centres { get }
}

extension MarginSection {
    var centres: HeadSection.Centres { .normal }
}

/// What happens where θ + m > π.
package enum MarginFallback: String, Sendable, Codable, CaseIterable { case hard, plain, easy, clipped }

/// The derivative that backward uses.
package enum MarginDerivative: String, Sendable, Codable, CaseIterable {
    case exact
    case straightThrough = "straight_through"
}

/// Which rows a head measures norms, cosines and ranks over.
package enum StatisticsScope: String, Sendable, Codable, CaseIterable {
    /// The global batch: the result does not depend on the number of ranks.
    case global
    /// Each rank's own rows, as data-parallel code does whose head runs in every process by itself.
    case local
}

private let scales = 1.0...1000
private let angles = 0.0...2

extension SectionReader {
    fileprivate mutating func scale(default value: Double = 64) throws -> Double {
        try number("scale", default: value, in: scales)
    }
    fileprivate mutating func margin(default value: Double) throws -> Double {
        try number("m", default: value, in: angles)
    }
}

/// z = x·w + b, without normalisation.
package struct SoftmaxSection: MarginSection {
    package var bias = false
    var logitScale: Double? { nil }

    package init() {}
    init(_ reader: inout SectionReader) throws { bias = try reader.bool("bias", default: bias) }
}

/// s·cos θ (NormFace, 2017).
package struct NormFaceSection: MarginSection {
    package var scale = 64.0
    var logitScale: Double? { scale }

    package init() {}
    init(_ reader: inout SectionReader) throws { scale = try reader.scale() }
}

/// ‖x‖·ψ(θ) with annealing (SphereFace, CVPR 2017).
package struct SphereFaceSection: MarginSection {
    /// λ falls from `start` to `floor` as max(floor, start / (1 + rate·iteration)).
    package struct Annealing: Sendable, Equatable, Encodable {
        package var start = 1500.0
        package var floor = 5.0
        package var rate = 0.1
    }

    package var m = 4.0
    package var lambda = Annealing()
    var logitScale: Double? { nil }

    package init() {}
    init(_ reader: inout SectionReader) throws {
        m = try reader.number("m", default: m, in: 1...16)
        var annealing = try reader.section("lambda")
        lambda.start = try annealing.number("start", default: lambda.start, in: 0...1e9)
        lambda.floor = try annealing.number("floor", default: lambda.floor, in: 0...1e9)
        lambda.rate = try annealing.number("rate", default: lambda.rate, in: 0...1e9)
        try annealing.finish()
    }
}

/// s·ψ(θ) with its characteristic gradient detached (SphereFace-R, TPAMI 2022).
package struct SphereFaceRSection: MarginSection {
    package var scale = 30.0
    package var m = 1.5
    /// Brings centres back to unit length before each step.
    package var normaliseCentres = true
    var logitScale: Double? { scale }

    package init() {}
    init(_ reader: inout SectionReader) throws {
        scale = try reader.scale(default: scale)
        m = try reader.number("m", default: m, in: 1...16)
        normaliseCentres = try reader.bool("normalise_centres", default: normaliseCentres)
    }

    private enum CodingKeys: String, CodingKey {
        case scale, m
        case normaliseCentres = "normalise_centres"
    }
}

/// s·(cos θ − m) (CosFace, CVPR 2018).
package struct CosFaceSection: MarginSection {
    package var scale = 64.0
    package var m = 0.35
    var logitScale: Double? { scale }

    package init() {}
    init(_ reader: inout SectionReader) throws {
        scale = try reader.scale()
        m = try reader.margin(default: m)
    }
}

/// s·cos(θ + m) (ArcFace, CVPR 2019).
package struct ArcFaceSection: MarginSection {
    package var scale = 64.0
    package var m = 0.5
    package var fallback = MarginFallback.hard
    package var gradient = MarginDerivative.exact
    var logitScale: Double? { scale }

    package init() {}
    init(_ reader: inout SectionReader) throws {
        scale = try reader.scale()
        m = try reader.margin(default: m)
        fallback = try reader.choice("fallback", default: fallback)
        gradient = try reader.choice("gradient", default: gradient)
    }
}

/// s·(cos(m1·θ + m2) − m3) (ArcFace, CVPR 2019, eq. 4).
package struct CombinedSection: MarginSection {
    package var scale = 64.0
    package var m1 = 1.0
    package var m2 = 0.3
    package var m3 = 0.2
    package var gradient = MarginDerivative.exact
    var logitScale: Double? { scale }

    package init() {}
    init(_ reader: inout SectionReader) throws {
        scale = try reader.scale()
        m1 = try reader.number("m1", default: m1, in: 0.1...4)
        m2 = try reader.number("m2", default: m2, in: angles)
        m3 = try reader.number("m3", default: m3, in: angles)
        gradient = try reader.choice("gradient", default: gradient)
    }
}

/// s·cos(θ + m(‖x‖)) and a penalty on ‖x‖ (MagFace, CVPR 2021).
package struct MagFaceSection: MarginSection {
    package var scale = 64.0
    /// l and u: the embedding lengths between which the margin grows.
    package var lengths = 10.0...110
    /// The margins there, in radians.
    package var margins = 0.45...0.8
    /// λg.
    package var penalty = 35.0
    package var fallback = MarginFallback.easy
    var logitScale: Double? { scale }
    var centres: HeadSection.Centres { .unitUniform }

    package init() {}
    init(_ reader: inout SectionReader) throws {
        scale = try reader.scale()
        lengths = try reader.interval("lengths", default: lengths, in: 0.001...1e6)
        if lengths.lowerBound == lengths.upperBound {
            throw reader.error("lengths", expected: "two different lengths, the smaller one first")
        }
        margins = try reader.interval("margins", default: margins, in: angles)
        penalty = try reader.number("penalty", default: penalty, in: 0...1e6)
        fallback = try reader.choice("fallback", default: fallback, among: [.hard, .plain, .easy])
    }
}

/// An angular and an additive margin that follow the embedding's length (AdaFace, CVPR 2022).
package struct AdaFaceSection: MarginSection {
    package var scale = 64.0
    package var m = 0.4
    /// How many deviations of the norm make the margin's whole range: z = h·(‖x‖ − μ)/σ.
    package var h = 0.333
    /// α: the share of each batch in μ and σ.
    package var averaging = 0.01
    /// μ and σ before the first step.
    package var normMean = 20.0
    package var normDeviation = 100.0
    package var statistics = StatisticsScope.global
    var logitScale: Double? { scale }
    var centres: HeadSection.Centres { .unitUniform }

    package init() {}
    init(_ reader: inout SectionReader) throws {
        scale = try reader.scale()
        m = try reader.margin(default: m)
        h = try reader.number("h", default: h, in: 0...100)
        averaging = try reader.number("averaging", default: averaging, in: 0...1)
        normMean = try reader.number("norm_mean", default: normMean, in: 0...1e6)
        normDeviation = try reader.number("norm_deviation", default: normDeviation, in: 0...1e6)
        statistics = try reader.choice("statistics", default: statistics)
    }

    private enum CodingKeys: String, CodingKey {
        case scale, m, h, averaging
        case normMean = "norm_mean"
        case normDeviation = "norm_deviation"
        case statistics
    }
}

/// ArcFace with negatives that weigh more as training goes on (CurricularFace, CVPR 2020).
package struct CurricularFaceSection: MarginSection {
    package var scale = 64.0
    package var m = 0.5
    /// The share of each batch in t.
    package var averaging = 0.01
    package var statistics = StatisticsScope.global
    var logitScale: Double? { scale }

    package init() {}
    init(_ reader: inout SectionReader) throws {
        scale = try reader.scale()
        m = try reader.margin(default: m)
        averaging = try reader.number("averaging", default: averaging, in: 0...1)
        statistics = try reader.choice("statistics", default: statistics)
    }
}

/// A margin drawn for each image and step (ElasticFace, CVPRW 2022).
package struct ElasticFaceSection: MarginSection {
    package enum Assignment: String, Sendable, Codable, CaseIterable { case drawn, ranked, permuted }

    package var scale = 64.0
    package var m: Double
    /// σ of the margins; smaller by default where they are sorted (ElasticFace+).
    package var deviation: Double
    package var assignment = Assignment.drawn
    /// Over which rows margins are sorted; without effect for `drawn`.
    package var statistics = StatisticsScope.global
    var logitScale: Double? { scale }

    /// The paper's values for one of the two forms.
    package struct Defaults: Sendable {
        let m: Double
        let sortedDeviation: Double
        package static let arc = Defaults(m: 0.5, sortedDeviation: 0.0175)
        package static let cosine = Defaults(m: 0.35, sortedDeviation: 0.02)
    }

    package init(_ defaults: Defaults) {
        m = defaults.m
        deviation = 0.05
    }

    init(_ reader: inout SectionReader, defaults: Defaults) throws {
        self.init(defaults)
        scale = try reader.scale()
        m = try reader.margin(default: m)
        assignment = try reader.choice("assignment", default: assignment)
        deviation = try reader.number(
            "deviation", default: assignment == .drawn ? deviation : defaults.sortedDeviation, in: 0...1)
        statistics = try reader.choice("statistics", default: statistics)
    }
}
