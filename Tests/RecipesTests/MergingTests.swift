import Recipes
import Testing

/// Files over files, overrides over files, and where each value comes from.
@Suite struct MergingTests {
    private func tree(_ files: [(name: String, yaml: String)], _ overrides: [String] = []) throws -> ConfigTree {
        var tree = ConfigTree()
        for file in files { try tree.merge(yaml: file.yaml, name: file.name) }
        for text in overrides { try tree.merge(override: text) }
        return tree
    }

    private func error(_ yaml: String, _ overrides: [String] = []) -> RecipeError? {
        #expect(throws: RecipeError.self) { try Recipe(tree([("a.yaml", yaml)], overrides)) }
    }

    @Test func laterFilesWinKeyByKey() throws {
        let recipe = try Recipe(
            tree([
                ("a.yaml", "batch: {global: 32, accumulation: 2}\nrun:\n  folder: runs/a\n"),
                ("b.yaml", "batch:\n  global: 64\n"),
            ]))
        #expect(recipe.batch.global == 64 && recipe.batch.accumulation == 2)
        #expect(recipe.run.folder == "runs/a")
        #expect(recipe.network == Recipe().network)
    }

    @Test func overridesWinOverFiles() throws {
        let recipe = try Recipe(
            tree(
                [("a.yaml", "batch: {global: 32}\nevaluation:\n  sets: [{path: a.bin}]\n")],
                [
                    "batch.global=8", "run.folder=runs/with = sign", "schedule.kind=steps",
                    "schedule.milestones=[1, 2]",
                    "init.learning_rate_factors.head=10", "evaluation.sets=[{path: b/c.bin, flip: false}]",
                ]))
        #expect(recipe.batch.global == 8)
        #expect(recipe.run.folder == "runs/with = sign")
        #expect(recipe.schedule.milestones == [1, 2])
        #expect(recipe.start.learningRateFactors == ["head": 10])
        #expect(recipe.evaluation.sets.map(\.name) == ["c"] && !recipe.evaluation.sets[0].flip)
    }

    @Test(arguments: ["batch.global", "=3", "batch..global=3", ".global=3", "batch.=3", "batch.global=[1", "a.b={c"])
    func aBadOverrideIsNamed(_ text: String) {
        #expect(error("", [text]) == .badOverride(text))
    }

    @Test func originsNameFileLineAndCommandLine() throws {
        let tree = try tree(
            [
                ("a.yaml", "# a comment\nbatch:\n  global: 32\n  accumulation: 2\n"),
                ("b.yaml", "\n\nbatch: {accumulation: 4}\n"),
            ], ["run.seed=7"])
        let leaves = tree.leaves
        #expect(leaves.map(\.key) == ["batch.accumulation", "batch.global", "run.seed"])
        #expect(leaves.map { "\($0.value.origin)" } == ["b.yaml:3", "a.yaml:3", "command line"])
    }

    @Test func anUnknownKeyNamesTheNearestOne() {
        #expect(
            error("run:\n  seed: 1\noptimizer:\n  learning_rat: 0.1\n")
                == .unknownKey(
                    key: "optimizer.learning_rat", origin: .file("a.yaml", line: 4),
                    suggestion: "optimizer.learning_rate"))
        #expect(
            error("evalution: {}\n")
                == .unknownKey(key: "evalution", origin: .file("a.yaml", line: 1), suggestion: "evaluation"))
        #expect(
            error("", ["batch.globl=3"])
                == .unknownKey(key: "batch.globl", origin: .override, suggestion: "batch.global"))
        #expect(
            error("evaluation:\n  sets:\n    - path: a.bin\n      pear_count: 5\n")
                == .unknownKey(
                    key: "evaluation.sets[0].pear_count", origin: .file("a.yaml", line: 4),
                    suggestion: "evaluation.sets[0].pair_count"))
        #expect(
            error("log: {colour_of_the_moon: 1}\n")
                == .unknownKey(key: "log.colour_of_the_moon", origin: .file("a.yaml", line: 1), suggestion: nil))
    }

    @Test func whatIsCountedCannotBeSet() {
        for key in ["data.num_classes", "data.images", "head.num_classes", "schedule.total_steps"] {
            #expect(error("", ["\(key)=5"]) == .derivedKey(key: key, origin: .override))
        }
    }

    @Test func aSecondEqualKeyIsShownWithTheFirst() {
        #expect(
            error("run:\n  seed: 1\n  folder: a\n\n  seed: 2\n")
                == .syntax(file: "a.yaml", line: 5, reason: "key 'seed' appears twice, first in line 2"))
        #expect(
            error("run: {}\nbatch: {}\nrun: {}\n")
                == .syntax(file: "a.yaml", line: 3, reason: "key 'run' appears twice, first in line 1"))
        #expect(
            error("run: {seed: 1, seed: 2}\n") == .syntax(file: "a.yaml", line: 1, reason: "key 'seed' appears twice"))
    }

    @Test(arguments: [
        ("run: [1, 2\nfoo: }", 2), ("a: b: c", 1), ("run:\n\tseed: 1", 2), ("- a\n- b", 1), ("just words", 1),
        ("? [1, 2]\n: 3", 1), ("a:\n  " + String(repeating: "[", count: 40) + String(repeating: "]", count: 40), 2),
    ])
    func whatIsNoRecipeNamesItsLine(_ yaml: String, _ line: Int) {
        guard case .syntax("a.yaml", let found, _) = error(yaml) else {
            Issue.record("no error of syntax for \(yaml)")
            return
        }
        #expect(found == line)
    }

    @Test func filesThatCannotBeReadAreTold() {
        #expect(throws: RecipeError.self) { try Recipe(files: ["/nowhere/at/all.yaml"], overrides: []) }
        #expect(throws: RecipeError.unreadable(file: "/", reason: "is a folder; name a YAML file")) {
            try Recipe(files: ["/"], overrides: [])
        }
    }

    @Test func nothingGivesTheDefaults() throws {
        #expect(try Recipe(files: [], overrides: []) == Recipe())
        #expect(
            try Recipe(tree([("a.yaml", ""), ("b.yaml", "# only a comment\n"), ("c.yaml", "run:\nbatch: {}\n")]))
                == Recipe())
    }
}
