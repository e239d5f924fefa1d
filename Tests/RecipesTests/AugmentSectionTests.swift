import Recipes
import Testing

@Suite struct AugmentSectionTests {
    private func read(_ yaml: String) throws -> Recipe {
        var tree = ConfigTree()
        try tree.merge(yaml: yaml, name: "r.yaml")
        return try Recipe(tree)
    }

    private func augment(_ override: String) throws -> AugmentSection {
        try Recipe(files: [], overrides: ["data.augment=\(override)"]).data.augment
    }

    private func pipeline(_ operators: String) throws -> [AugmentOperator] {
        try augment("{pipeline: [\(operators)]}").pipeline
    }

    @Test func nothingByDefault() throws {
        #expect(Recipe().data.augment.isNone)
        #expect(Recipe().yaml.contains("  augment:\n    recipe: none\n"))
    }

    @Test func namedRecipes() throws {
        for name in AugmentSection.Name.allCases {
            let section = try augment("{recipe: \(name.rawValue)}")
            #expect(section == AugmentSection(name) && section.isNone == (name == .none))
        }
        #expect(throws: RecipeError.self) { try augment("{recipe: adafase}") }
        #expect(throws: RecipeError.self) { try augment("adaface") }
    }

    @Test func aPipeline() throws {
        let recipe = try read(
            """
            data:
              augment:
                pipeline:
                - {op: reduce, p: 0.5, side: [16, 56], down: [area, linear], up: [cubic]}
                - {op: blur, sigma: [0.5, 2]}
                - {op: rotate, angle: 12, p: 0.25}
                - op: occlude
            """)
        let pipeline = recipe.data.augment.pipeline
        #expect(pipeline.map(\.name) == [.reduce, .blur, .rotate, .occlude])
        #expect(pipeline.map(\.probability) == [0.5, 1, 0.25, 1])
        #expect(pipeline[0].range("side") == 16...56 && pipeline[0].range("scale") == nil)
        #expect(pipeline[0].down == ["area", "linear"] && pipeline[0].up == ["cubic"])
        #expect(pipeline[1].range("sigma") == 0.5...2 && pipeline[2].range("angle") == 12...12)
        #expect(pipeline[3].range("area") == 0.02...0.3 && pipeline[3].fill == .black)
        #expect(try read(recipe.yaml) == recipe)
    }

    /// Every operator with its defaults, and everything that can be said.
    @Test func whatIsWrittenReadsBack() throws {
        let names = AugmentOperator.Name.allCases.filter { $0 != .reduce }.map { "{op: \($0.rawValue)}" }
        let all =
            names + [
                "{op: reduce, sides: [7, 14], jpeg: [60, 95], jpeg_p: 0.5}", "{op: reduce, scale: 0.25, jpeg: 75}",
                "{op: crop, resize: false, area: [0.5, 0.75]}", "{op: occlude, fill: noise}",
                "{op: jitter, contrast: 0}",
                "{op: rotate, angle: [-45, 45]}",
            ]
        let recipe = try Recipe(files: [], overrides: ["data.augment.pipeline=[\(all.joined(separator: ", "))]"])
        #expect(recipe.data.augment.pipeline.count == AugmentOperator.Name.allCases.count + 5)
        let written = try read(recipe.yaml)
        #expect(written == recipe && written.yaml == recipe.yaml)
        #expect(!recipe.yaml.contains("recipe: none"))
    }

    @Test(
        arguments: [
            ("{op: blur, sgma: 2}", "data.augment.pipeline[0].sgma", "data.augment.pipeline[0].sigma"),
            ("{op: grey, sigma: 2}", "data.augment.pipeline[0].sigma", nil),
            ("{op: reduce, side: 9, donw: [box]}", "data.augment.pipeline[0].donw", "data.augment.pipeline[0].down"),
        ] as [(String, String, String?)])
    func unknownKeys(_ text: String, _ key: String, _ suggestion: String?) throws {
        #expect(throws: RecipeError.unknownKey(key: key, origin: .override, suggestion: suggestion)) {
            try pipeline(text)
        }
    }

    @Test func errorsNameTheLine() throws {
        let yaml = "data:\n  augment:\n    pipeline:\n    - op: blur\n      sigmo: 2\n"
        #expect(
            throws: RecipeError.unknownKey(
                key: "data.augment.pipeline[0].sigmo", origin: .file("r.yaml", line: 5),
                suggestion: "data.augment.pipeline[0].sigma")
        ) { try read(yaml) }
        let wrong = "data:\n  augment:\n    pipeline:\n    - op: grey\n    - {op: melt}\n"
        let error = #expect(throws: RecipeError.self) { try read(wrong) }
        #expect(error?.description.hasPrefix("r.yaml:5: data.augment.pipeline[1].op = melt: expected one of") == true)
        let unknown = #expect(throws: RecipeError.self) { try read("data:\n  augment:\n    recpie: adaface\n") }
        #expect(
            unknown?.description == "r.yaml:3: unknown key 'data.augment.recpie'; did you mean 'data.augment.recipe'?")
    }

    @Test(arguments: [
        "{op: blur, sigma: [2, 1]}", "{op: blur, sigma: -1}", "{op: blur, sigma: [1, 2, 3]}", "{op: blur, sigma: wide}",
        "{op: blur, sigma: '2'}", "{op: blur, sigma: 31}", "{op: blur, sigma: null}", "{op: blur, sigma: {a: 1}}",
        "{op: blur, p: 1.5}", "{op: blur, p: -0.1}", "{op: jpeg, quality: 0}", "{op: jpeg, quality: [1, 101]}",
        "{op: jpeg, quality: 50.5}", "{op: reduce, side: [0, 8]}", "{op: reduce, side: 113}",
        "{op: reduce, sides: [0]}", "{op: reduce, scale: 1.1}", "{op: reduce, side: 9, down: []}",
        "{op: reduce, side: 9, up: [melt]}", "{op: reduce, side: 9, up: cubic}", "{op: reduce, side: 9, jpeg_p: 0.5}",
        "{op: jitter, brightness: [0.1, 0.2]}", "{op: crop, resize: maybe}", "{op: crop, aspect: [0, 1]}",
        "{op: occlude, fill: red}", "{op: shot_noise, photons: 0}", "{op: rotate, angle: 200}", "{op: melt}", "blur",
    ]) func valuesOutOfRange(_ text: String) {
        let error = #expect(throws: RecipeError.self, "\(text)") { try pipeline(text) }
        guard case .wrongValue(let key, _, _, .override) = error else {
            Issue.record("\(text): \(String(describing: error))")
            return
        }
        #expect(key.hasPrefix("data.augment.pipeline"))
    }

    @Test(arguments: ["{p: 0.5}", "{op: reduce}", "{op: reduce, side: 9, scale: 0.5}", "{op: reduce, sides: []}"])
    func whatIsMissing(_ text: String) {
        let error = #expect(throws: RecipeError.self, "\(text)") { try pipeline(text) }
        guard case .missing(let key, _) = error else {
            Issue.record("\(text): \(String(describing: error))")
            return
        }
        #expect(key.hasPrefix("data.augment.pipeline[0]."))
    }

    @Test func aRecipeOrAPipeline() throws {
        #expect(throws: RecipeError.self) { try augment("{recipe: adaface, pipeline: [{op: grey}]}") }
        #expect(try augment("{recipe: adaface, pipeline: []}").recipe == .adaface)
    }
}
