import Recipes
import Testing

/// The keys of each margin function, their defaults and bounds, and what is said of keys that belong to another one.
@Suite struct HeadSectionTests {
    private func head(_ overrides: [String]) throws -> HeadSection { try Recipe(files: [], overrides: overrides).head }

    private func head(_ name: String, _ keys: String = "") throws -> HeadSection {
        try head(["head={margin: \(name)\(keys.isEmpty ? "" : ", " + keys)}"])
    }

    private func error(_ name: String, _ keys: String) -> RecipeError? {
        #expect(throws: RecipeError.self, "\(name): \(keys)") { try head(name, keys) }
    }

    /// Own keys with values that are not the defaults.
    private static let own: [(name: String, keys: [(key: String, value: String)])] = [
        ("softmax", [("bias", "true")]),
        ("normface", [("scale", "16")]),
        ("sphereface", [("m", "3"), ("lambda", "{start: 1000, floor: 4, rate: 0.12}")]),
        ("sphereface_r", [("scale", "32"), ("m", "1.4"), ("normalise_centres", "false")]),
        ("cosface", [("scale", "32"), ("m", "0.4")]),
        ("arcface", [("scale", "32"), ("m", "0.4"), ("fallback", "clipped"), ("gradient", "straight_through")]),
        (
            "combined",
            [("scale", "32"), ("m1", "0.9"), ("m2", "0.4"), ("m3", "0.15"), ("gradient", "straight_through")]
        ),
        (
            "magface",
            [
                ("scale", "32"), ("lengths", "[5, 50]"), ("margins", "[0.3, 0.3]"), ("penalty", "20"),
                ("fallback", "hard"),
            ]
        ),
        (
            "adaface",
            [
                ("scale", "32"), ("m", "0.3"), ("h", "0.2"), ("averaging", "0.99"), ("norm_mean", "0"),
                ("norm_deviation", "0"), ("statistics", "local"),
            ]
        ),
        ("curricularface", [("scale", "32"), ("m", "0.4"), ("averaging", "0.1"), ("statistics", "local")]),
        (
            "elasticface_arc",
            [("scale", "32"), ("m", "0.4"), ("deviation", "0.1"), ("assignment", "permuted"), ("statistics", "local")]
        ),
        (
            "elasticface_cos",
            [("scale", "32"), ("m", "0.4"), ("deviation", "0.1"), ("assignment", "ranked"), ("statistics", "local")]
        ),
    ]

    /// The keys of every head.
    private static let shared = ["margin", "centres", "sampling", "storage", "storage_folder"]

    @Test func everyMarginHasItsCase() {
        #expect(Self.own.map(\.name) == HeadSection.Name.allCases.map(\.rawValue))
    }

    @Test(arguments: own.indices)
    func ownKeysAreTakenAndOthersAreNot(_ index: Int) throws {
        let (name, keys) = Self.own[index]
        let plain = try head(name)
        #expect(plain.margin.name.rawValue == name)
        for (key, value) in keys {
            #expect(try head(name, "\(key): \(value)").margin != plain.margin, "\(name).\(key)")
            #expect(throws: RecipeError.self, "\(name).\(key)") { try head(name, "\(key): nonsense") }
            // A section without keys is a section; a value is not.
            if value.hasPrefix("{") { continue }
            #expect(throws: RecipeError.self, "\(name).\(key)") { try head(name, "\(key): null") }
        }
        let known = Set(keys.map(\.key))
        for key in Set(Self.own.flatMap { $0.keys.map(\.key) }).subtracting(known) {
            guard case .foreignKey(let full, _, let owner, let listed) = error(name, "\(key): 1") else {
                Issue.record("\(name) says nothing of \(key)")
                continue
            }
            #expect(full == "head.\(key)" && owner == "head.margin: \(name)")
            #expect(Set(listed) == known.union(Self.shared).union(name == "softmax" ? [] : ["filter"]))
        }
        // What is written out reads back.
        let all = try head(name, keys.map { "\($0.key): \($0.value)" }.joined(separator: ", "))
        var recipe = Recipe()
        recipe.head = all
        var tree = ConfigTree()
        try tree.merge(yaml: recipe.yaml, name: "written.yaml")
        #expect(try Recipe(tree).head == all)
        for (key, value) in keys where !value.hasPrefix("{") {
            #expect(all.summary.contains("\(key): \(value)"), "\(all.summary)")
        }
    }

    @Test func aKeyOfAnotherHeadNamesItsLineAndTheHeadsKeys() throws {
        var tree = ConfigTree()
        try tree.merge(yaml: "head:\n  margin: cosface\n  m: 0.3\n  h: 0.333\n", name: "a.yaml")
        let error = #expect(throws: RecipeError.self) { try Recipe(tree) }
        #expect(
            "\(error!)" == "a.yaml:4: unknown key 'head.h'; with 'head.margin: cosface' the keys are margin, scale, m, "
                + "filter, centres, sampling, storage, storage_folder")
        // A later file, or the command line, chooses another head: what does not go with it is named where it stands.
        try tree.merge(override: "head.margin=adaface")
        #expect(throws: Never.self) { try Recipe(tree) }
        try tree.merge(override: "head.margin=normface")
        let other = #expect(throws: RecipeError.self) { try Recipe(tree) }
        #expect("\(other!)".hasPrefix("a.yaml:4: unknown key 'head.h'; with 'head.margin: normface'"))
    }

    @Test func countedKeysAreStillNamedAsSuch() {
        #expect(error("arcface", "num_classes: 4") == .derivedKey(key: "head.num_classes", origin: .override))
    }

    @Test func softmaxHasNoCosinesToFilter() throws {
        #expect(try head("normface", "filter: 0.4").filter == 0.4)
        guard case .foreignKey("head.filter", _, _, let keys) = error("softmax", "filter: 0.4") else {
            Issue.record("softmax takes a filter")
            return
        }
        #expect(keys == ["margin", "bias"] + Self.shared.dropFirst())
    }

    @Test func defaultsAreThoseOfThePapers() throws {
        #expect(try head([]) == HeadSection())
        func section<T>(_ name: String, _ keys: String = "", _ pick: (HeadSection.Margin) -> T?) throws -> T {
            try #require(pick(try head(name, keys).margin))
        }
        let magFace = try section("magface") { if case .magface(let keys) = $0 { keys } else { nil } }
        #expect(magFace.lengths == 10...110 && magFace.margins == 0.45...0.8 && magFace.penalty == 35)
        #expect(magFace.fallback == .easy && magFace.scale == 64)
        let adaFace = try section("adaface") { if case .adaface(let keys) = $0 { keys } else { nil } }
        #expect(adaFace.m == 0.4 && adaFace.h == 0.333 && adaFace.averaging == 0.01)
        #expect(adaFace.normMean == 20 && adaFace.normDeviation == 100 && adaFace.statistics == .global)
        let curricular = try section("curricularface") { if case .curricularface(let keys) = $0 { keys } else { nil } }
        #expect(curricular.m == 0.5 && curricular.averaging == 0.01)
        let sphere = try section("sphereface") { if case .sphereface(let keys) = $0 { keys } else { nil } }
        #expect(sphere.m == 4 && sphere.lambda.start == 1500 && sphere.lambda.floor == 5 && sphere.lambda.rate == 0.1)
        let revived = try section("sphereface_r") { if case .sphereFaceR(let keys) = $0 { keys } else { nil } }
        #expect(revived.m == 1.5 && revived.scale == 30 && revived.normaliseCentres)
        for (name, m, sorted) in [("elasticface_arc", 0.5, 0.0175), ("elasticface_cos", 0.35, 0.02)] {
            for (assignment, deviation) in [("drawn", 0.05), ("ranked", sorted), ("permuted", sorted)] {
                let elastic = try section(name, "assignment: \(assignment)") {
                    switch $0 {
                    case .elasticFaceArc(let keys), .elasticFaceCos(let keys): keys
                    default: nil
                    }
                }
                #expect(elastic.m == m && elastic.deviation == deviation)
            }
        }
    }

    /// Unit uniform rows where the authors' code has them, N(0, 0.01²) elsewhere, and what is written wins.
    @Test func centresFollowTheLineage() throws {
        for name in HeadSection.Name.allCases {
            let expected: HeadSection.Centres = [.magface, .adaface].contains(name) ? .unitUniform : .normal
            #expect(try head(name.rawValue).centres == expected, "\(name)")
            #expect(try head(name.rawValue, "centres: normal").centres == .normal)
            #expect(try head(name.rawValue, "centres: unit_uniform").centres == .unitUniform)
        }
        #expect(HeadSection(.adaface(AdaFaceSection())).centres == .unitUniform)
    }

    @Test(arguments: [
        ("magface", "lengths: [110, 10]"), ("magface", "lengths: [10, 10]"), ("magface", "lengths: [0, 10]"),
        ("magface", "lengths: [10]"), ("magface", "lengths: 10"), ("magface", "lengths: [10, nan]"),
        ("magface", "margins: [0.8, 0.45]"), ("magface", "margins: [0.1, 2.1]"), ("magface", "penalty: -1"),
        ("magface", "fallback: clipped"), ("arcface", "fallback: none"), ("arcface", "gradient: detached"),
        ("adaface", "h: -0.1"), ("adaface", "averaging: 1.1"), ("adaface", "norm_deviation: -1"),
        ("adaface", "statistics: rank"), ("curricularface", "averaging: -0.1"), ("sphereface", "m: 0.9"),
        ("sphereface", "lambda: {start: -1}"), ("sphereface", "lambda: 5"), ("sphereface_r", "m: 17"),
        ("elasticface_arc", "deviation: 1.1"), ("elasticface_cos", "assignment: sorted"), ("combined", "m1: 0"),
        ("combined", "m2: 2.1"), ("combined", "m3: -0.1"), ("softmax", "bias: 1"), ("cosface", "filter: 0"),
    ])
    func impossibleValuesAreRefused(_ name: String, _ keys: String) {
        guard case .wrongValue(let key, _, _, .override) = error(name, keys) else {
            Issue.record("\(name), \(keys)")
            return
        }
        #expect(key.hasPrefix("head.\(keys.prefix { $0 != ":" })"))
    }

    @Test func aTypoWithinLambdaIsNamed() {
        #expect(
            error("sphereface", "lambda: {flor: 5}")
                == .unknownKey(key: "head.lambda.flor", origin: .override, suggestion: "head.lambda.floor"))
    }
}
