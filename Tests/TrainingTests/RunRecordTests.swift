import FaceData
import Foundation
import Recipes
import Tensors
import Testing
import Training

/// What a run tells its user.
@Suite(.serialized) struct RunRecordTests {
    @Test func logRecipeAndFirstBatch() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) {
            $0.schedule.maxSteps = 3
            $0.optimizer.scaling = .linear
            $0.optimizer.referenceBatch = 24
            $0.optimizer.learningRate = 0.1
        }
        let run = try TinyRun.train(recipe, ranks: 2)
        let events = try TinyRun.events(recipe)
        #expect(events.allSatisfy { $0["schema"] as? Int == 1 && $0["ts"] is Double && $0["step"] is Int })
        #expect(events.compactMap { $0["event"] as? String } == ["start", "step", "step", "step", "checkpoint", "end"])
        let steps = events.filter { $0["event"] as? String == "step" }
        for (index, step) in steps.enumerated() {
            #expect(step["step"] as? Int == index + 1 && step["images"] as? Int == 12 * (index + 1))
            for key in ["loss", "accuracy", "target_cosine", "gradient_norm", "learning_rate", "images_per_second"] {
                #expect((step[key] as? Double)?.isFinite == true, "\(key)")
            }
            #expect((step["loss"] as? Double ?? 0) > 0)
        }
        // 0.1 per 24 images, twelve of them a step; two warm-up updates of 40.
        let rates = steps.compactMap { $0["learning_rate"] as? Double }
        #expect(zip(rates, [0.025, 0.05, 0.05]).allSatisfy { abs($0 - $1) < 1e-9 }, "\(rates)")
        #expect(run.log.all.contains { $0.contains("learning rate 0.05 (0.1 per 24 images, scaled linearly)") })
        #expect(run.log.all.contains { $0.contains("28 images of 7 identities") })

        let picture = [UInt8](try Data(contentsOf: URL(filePath: folder.file("run/first-batch.png"))))
        #expect(ImageCodec.format(of: picture) == .png)
        let image = try ImageCodec.decode(picture)
        // Rank 0's six faces in one row.
        #expect(image.width >= 6 * 112 && image.height >= 112 && Set(image.pixels).count > 100)
        #expect(try Recipe(files: [folder.file("run/recipe.yaml")], overrides: []) == recipe)
    }

    /// Four images of 28, of four identities, again and again; the schedule stays.
    @Test func overfitRepeatsFewImages() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) {
            $0.schedule.epochs = 10
            $0.schedule.warmupSteps = 0
            $0.optimizer.learningRate = 0.1
            $0.data.flip = false
            $0.head = TinyRun.head("{margin: normface, scale: 16}")
        }
        let run = try TinyRun.train(recipe, ranks: 1, overfit: 4)
        #expect(run.endings == [.complete] && run.states[0].step == 20)
        #expect(run.states[0].images == 28 && run.states[0].classes == 4)
        #expect(run.log.warnings.contains { $0.contains("only 4 different images") })
        let losses = try TinyRun.events(recipe).compactMap { $0["loss"] as? Double }
        #expect(losses.count == 20 && losses.last! < 0.1 * losses.first!, "\(losses)")
    }

    @Test func warnings() throws {
        let folder = try TemporaryFolder()
        // (C − 1)/C·ln(9(C − 1)) = 3.42 for seven classes.
        #expect(abs(RunSetup.scaleBound(classes: 7) - 3.42) < 0.01)
        func warnings(_ name: String, _ change: (inout Recipe) -> Void) throws -> [String] {
            let log = LogCapture()
            let recipe = TinyRun.recipe(folder.file(name), change)
            _ = try TinyRun.onRanks(recipe, ranks: 2, log: log) { _, _ in }
            return log.warnings
        }
        #expect(try warnings("quiet") { $0.head = TinyRun.head("{scale: 3.5}") }.isEmpty)
        let scale = try warnings("scale") { $0.head = TinyRun.head("{scale: 3.3}") }
        #expect(scale.count == 1 && scale[0].contains("head.scale = 3.3 is too small for 7 classes"))
        #expect(try warnings("softmax") { $0.head = TinyRun.head("{margin: softmax}") }.isEmpty)
        // s·K·u²l²/(u² − l²) = 22.587 by default.
        let penalty = try warnings("penalty") {
            $0.head = TinyRun.head("{margin: magface, penalty: 22.5, filter: 0.4}")
        }
        #expect(penalty.count == 1 && penalty[0].contains("head.penalty = 22.5 is less than 22.6"))
        #expect(try warnings("enough") { $0.head = TinyRun.head("{margin: magface, penalty: 22.6}") }.isEmpty)
        let single = try warnings("single") {
            $0.data.synthetic.identities = 20
            $0.data.synthetic.imagesPerIdentity = 1
        }
        #expect(single == ["20 of 20 identities have fewer than two images"])
    }
}
