/// What is done to training images (`data.augment`): a named recipe, or a pipeline of operators. Evaluation never sees it.
package struct AugmentSection: Sendable, Equatable, Encodable {
    package enum Name: String, Sendable, Codable, CaseIterable {
        case none
        /// AdaFace's augmentation.
        case adaface
        /// QGFace's low-quality view.
        case qgface
        /// The low-resolution view of CCFace's reconstruction.
        case ccface
    }

    package var recipe = Name.none
    /// In this order, in place of a recipe.
    package var pipeline: [AugmentOperator] = []

    package init() {}
    package init(_ recipe: Name) { self.recipe = recipe }

    init(_ section: SectionReader) throws {
        var reader = section
        recipe = try reader.choice("recipe", default: recipe)
        pipeline = try reader.sections("pipeline").map { try AugmentOperator($0) }
        if !pipeline.isEmpty, reader.has("recipe") {
            throw reader.error("recipe", expected: "either a recipe or a pipeline, not both")
        }
        try reader.finish()
    }

    package var isNone: Bool { recipe == .none && pipeline.isEmpty }

    private enum CodingKeys: String, CodingKey { case recipe, pipeline }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        if pipeline.isEmpty {
            try container.encode(recipe, forKey: .recipe)
        } else {
            try container.encode(pipeline, forKey: .pipeline)
        }
    }
}

/// One operator of a pipeline: `{op: blur, p: 0.5, sigma: [0.5, 2]}`. Its parameters are ranges to draw from; a single
/// number is itself.
package struct AugmentOperator: Sendable, Equatable, Encodable {
    package enum Name: String, Sendable, Codable, CaseIterable {
        case reduce, blur, motion, defocus, noise
        case shotNoise = "shot_noise"
        case jpeg, brightness, gamma, contrast, saturation, jitter, crop, occlude, rotate, grey
    }

    package enum Fill: String, Sendable, Codable, CaseIterable { case black, grey, white, mean, noise }

    /// A key with a range of numbers.
    private struct Parameter {
        let key: String
        /// nil where nothing is done without the key.
        let standard: ClosedRange<Double>?
        let bounds: ClosedRange<Double>
        var isWhole = false
        /// One number, not a range.
        var isSingle = false

        init(
            _ key: String, _ standard: ClosedRange<Double>?, in bounds: ClosedRange<Double>, isWhole: Bool = false,
            isSingle: Bool = false
        ) {
            self.key = key
            self.standard = standard
            self.bounds = bounds
            self.isWhole = isWhole
            self.isSingle = isSingle
        }
    }

    /// Names of the kernels that `down` and `up` take.
    package static let kernels = [
        "nearest", "box", "bilinear", "hamming", "bicubic", "lanczos3", "linear", "cubic", "area", "lanczos4",
    ]

    package let name: Name
    /// That an image gets it.
    package var probability = 1.0
    private var ranges: [String: ClosedRange<Double>] = [:]
    /// Of `reduce`.
    package private(set) var sides: [Int] = []
    package private(set) var down: [String] = []
    package private(set) var up: [String] = []
    /// Of `occlude`.
    package private(set) var fill = Fill.black
    /// Of `crop`: to the whole image; otherwise what is left stays at its place on black.
    package private(set) var resizes = true

    init(_ section: SectionReader) throws {
        var reader = section
        guard reader.has("op") else {
            throw RecipeError.missing(
                key: reader.full("op"),
                why: "which operator: " + Name.allCases.map(\.rawValue).joined(separator: ", "))
        }
        name = try reader.choice("op", default: Name.grey)
        probability = try reader.number("p", default: 1, in: 0...1)
        for parameter in Self.parameters(name) {
            let range: ClosedRange<Double>?
            if parameter.isSingle {
                let number = try reader.number(
                    parameter.key, default: parameter.standard?.lowerBound ?? 0, in: parameter.bounds)
                range = number...number
            } else {
                range =
                    try reader.range(parameter.key, in: parameter.bounds, whole: parameter.isWhole)
                    ?? parameter.standard
            }
            ranges[parameter.key] = range
        }
        switch name {
        case .reduce: try readReduction(&reader)
        case .crop: resizes = try reader.bool("resize", default: resizes)
        case .occlude: fill = try reader.choice("fill", default: fill)
        default: break
        }
        try reader.finish()
    }

    private mutating func readReduction(_ reader: inout SectionReader) throws {
        sides = try reader.integers("sides", default: [], in: 1...112)
        down = try Self.readKernels(&reader, "down", default: ["area"])
        up = try Self.readKernels(&reader, "up", default: ["cubic"])
        let given = ["side", "scale", "sides"].filter { reader.has($0) }
        guard given.count == 1, given != ["sides"] || !sides.isEmpty else {
            throw RecipeError.missing(
                key: reader.full("side"),
                why:
                    "reduce takes one of side: [smallest, largest] in pixels, sides: [a, b, …], scale: [smallest, largest]"
            )
        }
        if ranges["jpeg"] == nil, reader.has("jpeg_p") {
            throw reader.error("jpeg_p", expected: "jpeg: [smallest, largest] beside it")
        }
    }

    private static func readKernels(
        _ reader: inout SectionReader, _ key: String, default standard: [String]
    ) throws -> [String] {
        let names = try reader.strings(key, default: standard)
        guard !names.isEmpty, names.allSatisfy(kernels.contains) else {
            throw reader.error(key, expected: "a list of " + kernels.joined(separator: ", "))
        }
        return names
    }

    /// The range of a key of this operator; nil where it is neither given nor has a default.
    package func range(_ key: String) -> ClosedRange<Double>? { ranges[key] }

    // MARK: - Parameters

    private static func parameters(_ name: Name) -> [Parameter] {
        switch name {
        case .reduce:
            [
                Parameter("side", nil, in: 1...112, isWhole: true), Parameter("scale", nil, in: 0.01...1),
                Parameter("jpeg", nil, in: 1...100, isWhole: true),
                Parameter("jpeg_p", 1...1, in: 0...1, isSingle: true),
            ]
        case .blur: [Parameter("sigma", 0.5...2, in: 0...30)]
        case .motion: [Parameter("length", 3...9, in: 0...64), Parameter("angle", 0...180, in: -360...360)]
        case .defocus: [Parameter("radius", 1...3, in: 0...16)]
        case .noise: [Parameter("sigma", 2...12, in: 0...128)]
        case .shotNoise: [Parameter("photons", 30...300, in: 1...1e6)]
        case .jpeg: [Parameter("quality", 20...80, in: 1...100, isWhole: true)]
        case .brightness, .contrast, .saturation: [Parameter("factor", 0.5...1.5, in: 0...8)]
        case .gamma: [Parameter("exponent", 0.5...2, in: 0.05...20)]
        case .jitter:
            ["brightness", "contrast", "saturation"].map { Parameter($0, 0.5...0.5, in: 0...2, isSingle: true) }
        case .crop: [Parameter("area", 0.2...1, in: 0.01...1), Parameter("aspect", 0.75...1.333, in: 0.1...10)]
        case .occlude: [Parameter("area", 0.02...0.3, in: 0.001...1), Parameter("aspect", 0.3...3.3, in: 0.1...10)]
        case .rotate: [Parameter("angle", -15...15, in: -180...180)]
        case .grey: []
        }
    }

    // MARK: - Writing

    private struct Key: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(_ text: String) { stringValue = text }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        try container.encode(name, forKey: Key("op"))
        try container.encode(probability, forKey: Key("p"))
        for parameter in Self.parameters(name) {
            if parameter.key == "jpeg_p", ranges["jpeg"] == nil { continue }
            guard let range = ranges[parameter.key] else { continue }
            let bounds =
                range.lowerBound == range.upperBound ? [range.lowerBound] : [range.lowerBound, range.upperBound]
            if bounds.count == 1 {
                if parameter.isWhole {
                    try container.encode(Int(bounds[0]), forKey: Key(parameter.key))
                } else {
                    try container.encode(bounds[0], forKey: Key(parameter.key))
                }
            } else if parameter.isWhole {
                try container.encode(bounds.map { Int($0) }, forKey: Key(parameter.key))
            } else {
                try container.encode(bounds, forKey: Key(parameter.key))
            }
        }
        switch name {
        case .reduce:
            if !sides.isEmpty { try container.encode(sides, forKey: Key("sides")) }
            try container.encode(down, forKey: Key("down"))
            try container.encode(up, forKey: Key("up"))
        case .crop: try container.encode(resizes, forKey: Key("resize"))
        case .occlude: try container.encode(fill, forKey: Key("fill"))
        default: break
        }
    }
}
