import Artifacts
import Collectives
import FaceData
import Foundation
import Layers
import Networks
import Objectives
import Recipes
import Tensors
import Testing
import Training

/// Runs that regress annotated qualities with Adam and classify nothing.
@Suite(.serialized) struct SeparationRunTests {
    /// A table for the 28 images of `TinyRun.recipe`: by image, 30 to 84; the images `without` have none.
    private func table(_ folder: TemporaryFolder, without: Set<Int> = []) throws -> String {
        let path = folder.file("quality.tsv")
        let source = try RunSetup.source(TinyRun.recipe("").data)
        try QualityTable.write(path, count: source.count) {
            without.contains($0) ? nil : (source.key(of: $0), Float(30 + 2 * ($0 * 5 % 28)))
        }
        return path
    }

    private func recipe(_ folder: String, table: String, steps: Int, _ change: (inout Recipe) -> Void = { _ in })
        -> Recipe
    {
        TinyRun.recipe(folder) {
            $0.objectives.separation = SeparationSection()
            $0.objectives.separation?.qualities = table
            $0.optimizer.kind = .adam
            $0.optimizer.learningRate = 1e-3
            $0.optimizer.beta2 = 0.99
            $0.schedule.maxSteps = steps
            change(&$0)
        }
    }

    private func model(_ recipe: Recipe, step: Int) throws -> [String: [Float]] {
        let file = try TinyRun.checkpoint(recipe, step: step).tensors("model.safetensors")
        return try file.names.reduce(into: [:]) { result, name in
            let tensor = try file.tensor(name)
            if tensor.dtype == .float32 { result[name] = Array(tensor.floats) }
        }
    }

    /// A run in two parts is the whole run, byte for byte, Adam's state included.
    @Test func itIsResumed() throws {
        let folder = try TemporaryFolder()
        let table = try table(folder)
        func make(_ name: String, _ steps: Int) -> Recipe { recipe(folder.file(name), table: table, steps: steps) }
        try TinyRun.train(make("whole", 4), ranks: 2)
        try TinyRun.train(make("parts", 2), ranks: 2)
        try TinyRun.train(make("parts", 4), ranks: 2, resume: true)
        let whole = try TinyRun.files(make("whole", 4), step: 4)
        #expect(TinyRun.differences(whole, try TinyRun.files(make("parts", 4), step: 4)).isEmpty)
        let optimizer = try TinyRun.checkpoint(make("whole", 4), step: 4).tensors("optimizer.safetensors")
        let squares = try optimizer.tensor("sdd.weight.squares")
        #expect(squares.shape == [1, 64] && squares.floats.allSatisfy { $0 > 0 })
        let events = try TinyRun.events(make("whole", 4)).filter { $0["event"] as? String == "step" }
        #expect(events.count == 4)
        #expect(
            events.allSatisfy {
                $0["regression_loss"] is Double && $0["accuracy"] == nil && $0["classification_loss"] == nil
            })
    }

    /// Nothing is classified, so the centres are those of the start.
    @Test func theCentresStayAndTheBackboneLearns() throws {
        let folder = try TemporaryFolder()
        let recipe = recipe(folder.file("run"), table: try table(folder), steps: 2)
        let results = try TinyRun.onRanks(recipe, ranks: 1) { trainer, _ in
            func state() -> ([UInt8], [[Float]]) {
                (
                    Array(trainer.head.classifier.centres.bytes),
                    (trainer.network.parameters + trainer.objective.parameters).filter(\.isTrained).map {
                        Array($0.value.floats)
                    }
                )
            }
            let before = state()
            _ = try trainer.run()
            return (before, state())
        }
        let (before, after) = results[0]
        #expect(before.0 == after.0)
        #expect(zip(before.1, after.1).allSatisfy { $0 != $1 })
    }

    /// The first update of Adam, from the gradients that the step has left: every parameter moves by nearly the rate.
    @Test func anUpdateIsAdams() throws {
        let folder = try TemporaryFolder()
        let recipe = recipe(folder.file("run"), table: try table(folder), steps: 1) {
            $0.schedule.warmupSteps = 0
            $0.optimizer.clipNorm = 0
            $0.schedule.kind = .steps
            $0.schedule.milestones = [1000]
        }
        _ = try TinyRun.onRanks(recipe, ranks: 1) { trainer, _ in
            let before = Array(trainer.step.arena.values.floats)
            _ = try trainer.run()
            let gradients = Array(trainer.step.reducer.gradients)
            let after = trainer.step.arena.values.floats
            var worst = 0.0
            for (_, range) in trainer.step.arena.parameters {
                for i in range {
                    let g = Double(gradients[i]) + 5e-4 * Double(before[i])
                    let moved = 1e-3 * g / (abs(g) + 1e-8)
                    worst = max(worst, abs(Double(before[i]) - Double(after[i]) - moved))
                }
            }
            #expect(worst < 1e-6, "\(worst)")
        }
    }

    /// The mask of dropout hangs on the record, so the number of ranks shows only where batch norm does: not in the layer's
    /// first gradient with a frozen backbone.
    @Test func theNumberOfRanksDoesNotMatter() throws {
        let folder = try TemporaryFolder()
        let table = try table(folder)
        func trained(_ ranks: Int) throws -> [String: [Float]] {
            let recipe = recipe(folder.file("\(ranks)"), table: table, steps: 3) {
                $0.start.freeze = [""]
                // Adam would hide a gradient of another scale.
                $0.optimizer.kind = .sgd
                $0.optimizer.learningRate = 0.1
            }
            try TinyRun.train(recipe, ranks: ranks)
            return try model(recipe, step: 3)
        }
        let (one, three) = (try trained(1), try trained(3))
        for name in ["sdd.weight", "sdd.bias"] {
            let difference = zip(one[name]!, three[name]!).map { abs($0 - $1) }.max()!
            #expect(difference < 1e-5, "\(name): \(difference)")
        }
    }

    /// A layer on a frozen backbone comes nearer to the table, and its weights give qualities on the table's scale.
    @Test func qualitiesAreLearntAndScored() throws {
        let folder = try TemporaryFolder()
        let recipe = recipe(folder.file("run"), table: try table(folder, without: [3, 4]), steps: 40) {
            $0.objectives.separation?.missing = .ignore
            $0.objectives.separation?.dropout = 0
            $0.optimizer.learningRate = 3e-3
            $0.data.flip = false
            $0.schedule.kind = .cosine
        }
        try TinyRun.train(recipe, ranks: 2)
        let losses = try TinyRun.events(recipe).compactMap { $0["regression_loss"] as? Double }
        let first: Double = losses.prefix(5).reduce(0, +)
        let last: Double = losses.suffix(5).reduce(0, +)
        #expect(last < 0.8 * first, "\(losses)")
        let model = try ModelFile.model(recipe.run.folder)
        #expect(QualityEstimator.usual(for: model) == .sddFiqa)
        let images = ImageCollection(try RunSetup.source(recipe.data))
        let embedder = Embedder(
            model.network, preprocessing: model.card.preprocessing, batch: 7, pool: ThreadPool(threads: 1))
        let raw = try embedder.embed(0..<7, flip: false, image: images.image).plain
        let scores = try EmbeddingQuality(model, .sddFiqa).qualities(of: raw, dimension: 64) { images.key($0) }
        let head = try #require(model.separationHead)
        for (image, score) in scores.enumerated() {
            let sum = (0..<64).reduce(Double(head.bias)) { $0 + Double(head.weight[$1]) * Double(raw[image * 64 + $1]) }
            #expect(abs(Double(score) - 100 * sum) < 1e-3)
        }
        #expect(scores.allSatisfy { (0...120).contains($0) }, "\(scores)")
        #expect(throws: TrainingError.self) { try EmbeddingQuality(model, .crFiqa) }
    }

    @Test func whatDoesNotGoTogetherIsRefused() throws {
        let folder = try TemporaryFolder()
        let table = try table(folder)
        let first = recipe(folder.file("run"), table: table, steps: 1)
        try TinyRun.train(first, ranks: 1)
        var other = recipe(folder.file("run"), table: table, steps: 2)
        other.optimizer.kind = .sgd
        for failure in try TinyRun.failures(other, ranks: 2, resume: true) {
            #expect(failure?.message.contains("its optimizer is adam") == true, "\(String(describing: failure))")
        }
        let holes = recipe(folder.file("holes"), table: try self.table(folder, without: [5]), steps: 1)
        for failure in try TinyRun.failures(holes, ranks: 1) {
            #expect(failure?.message.contains("lacks 1 of 28") == true, "\(String(describing: failure))")
        }
    }
}
