import Artifacts
import Recipes

/// Runs that go on from another's weights and centres.
extension TinyRun {
    /// Some steps of ArcFace, to start from.
    static func base(_ folder: TemporaryFolder, steps: Int = 2) throws -> Recipe {
        let recipe = TinyRun.recipe(folder.file("base")) {
            $0.head = TinyRun.head("{margin: arcface, scale: 16}")
            $0.schedule.maxSteps = steps
        }
        try TinyRun.train(recipe, ranks: 1)
        return recipe
    }

    /// From the base, with the given section `objectives` and, unless it is the base's, `head`.
    static func fineTuning(
        _ base: Recipe, _ folder: String, steps: Int = 1, _ objectives: String, head: String? = nil,
        _ change: (inout Recipe) -> Void = { _ in }
    ) throws -> Recipe {
        let model = try TinyRun.checkpoint(base, step: base.schedule.maxSteps!).folder + "/model.safetensors"
        let section = try Recipe(files: [], overrides: ["objectives=\(objectives)", "init.head=given"]).objectives
        return TinyRun.recipe(folder) {
            $0.head = head.map(TinyRun.head) ?? base.head
            $0.objectives = section
            $0.start.weights = model
            $0.start.head = base.run.folder
            $0.schedule.maxSteps = steps
            change(&$0)
        }
    }
}
