import Artifacts
import Foundation
import Recipes
import Testing
import Training

/// A run that stops and is resumed is the run that did not stop, byte for byte.
@Suite(.serialized) struct ResumeTests {
    struct Case: CustomTestStringConvertible {
        var ranks: Int
        var accumulation = 1
        var testDescription: String { "\(ranks) rank(s), \(accumulation) pass(es)" }
    }

    @Test(arguments: [Case(ranks: 1), Case(ranks: 2), Case(ranks: 1, accumulation: 2), Case(ranks: 2, accumulation: 3)])
    func twoPartsAreTheWhole(_ example: Case) throws {
        let folder = try TemporaryFolder()
        func recipe(_ name: String, steps: Int) -> Recipe {
            TinyRun.recipe(folder.file(name)) {
                $0.batch.accumulation = example.accumulation
                $0.schedule.maxSteps = steps
                $0.checkpoint.everySteps = 2
            }
        }
        let whole = recipe("whole", steps: 4)
        let first = recipe("parts", steps: 2)
        let rest = recipe("parts", steps: 4)
        let again = recipe("again", steps: 4)
        #expect(try TinyRun.train(whole, ranks: example.ranks).endings.allSatisfy { $0 == .stopped("max_steps") })
        try TinyRun.train(first, ranks: example.ranks)
        let resumed = try TinyRun.train(rest, ranks: example.ranks, resume: true)
        #expect(resumed.states.allSatisfy { $0.step == 4 && $0.position == 48 })
        try TinyRun.train(again, ranks: example.ranks)

        for step in [2, 4] {
            let expected = try TinyRun.files(whole, step: step)
            // Model, optimizer, scalars, names of the classes; each rank's centres and running statistics.
            #expect(expected.count == 4 + 2 * example.ranks)
            #expect(TinyRun.differences(expected, try TinyRun.files(rest, step: step)).isEmpty)
            #expect(TinyRun.differences(expected, try TinyRun.files(again, step: step)).isEmpty)
        }
        // Each step leaves its mark on every file but the names, so the comparison can fail.
        let halfWay = try TinyRun.files(whole, step: 2)
        let changed = TinyRun.differences(halfWay, try TinyRun.files(whole, step: 4))
        #expect(changed == halfWay.keys.filter { $0 != "classes.json" }.sorted())
    }

    /// Dropout's masks are functions of seed, step and image.
    @Test func twoPartsAreTheWholeWithDropout() throws {
        let folder = try TemporaryFolder()
        func recipe(_ name: String, steps: Int, dropout: Double = 0.4) -> Recipe {
            TinyRun.recipe(folder.file(name)) {
                $0.network.name = "ir18"
                $0.network.width = 1
                $0.network.dropout = dropout
                $0.batch.global = 4
                $0.schedule.maxSteps = steps
            }
        }
        let whole = recipe("whole", steps: 2)
        let parts = recipe("parts", steps: 2)
        let without = recipe("without", steps: 2, dropout: 0)
        try TinyRun.train(whole, ranks: 2)
        try TinyRun.train(recipe("parts", steps: 1), ranks: 2)
        try TinyRun.train(parts, ranks: 2, resume: true)
        try TinyRun.train(without, ranks: 2)
        let expected = try TinyRun.files(whole, step: 2)
        #expect(TinyRun.differences(expected, try TinyRun.files(parts, step: 2)).isEmpty)
        #expect(TinyRun.differences(expected, try TinyRun.files(without, step: 2)).contains("model.safetensors"))
    }

    @Test func aFolderWithARunIsNotTrainedIntoAgain() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) { $0.schedule.maxSteps = 1 }
        #expect(try TinyRun.failures(recipe, ranks: 2, resume: true).allSatisfy { $0?.exitCode == 66 })
        try TinyRun.train(recipe, ranks: 2)
        for failure in try TinyRun.failures(recipe, ranks: 2) {
            #expect(failure?.exitCode == 73 && failure?.message.contains("already holds a run") == true)
        }
    }

    /// The recipe that a resumed run writes over is kept as a whole before, or stays.
    @Test func theFormerRecipeIsNotLost() throws {
        let folder = try TemporaryFolder()
        let rest = TinyRun.recipe(folder.file("run")) { $0.schedule.maxSteps = 2 }
        try TinyRun.train(TinyRun.recipe(folder.file("run")) { $0.schedule.maxSteps = 1 }, ranks: 1)
        let (path, kept) = (folder.file("run/recipe.yaml"), folder.file("run/recipe-until-step-1.yaml"))
        func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(filePath: path)) }
        let former = try bytes(path)
        // Half of it is written when the disk is full.
        let disk = FaultyFileSystem(POSIXFileSystem())
        let full = HookedFileSystem(disk) { operation, path in
            if operation == .create, path.contains("recipe-until-step-1") { disk.arm(after: 1, .once(ENOSPC)) }
        }
        let failure = try #require(try TinyRun.failures(rest, ranks: 1, resume: true, files: { _ in full })[0])
        #expect(failure.exitCode == 73 && failure.message.contains("recipe-until-step-1.yaml"), "\(failure)")
        #expect(disk.fired && failure.message.contains("No space left on device"), "\(failure)")
        #expect(try bytes(path) == former && !FileManager.default.fileExists(atPath: kept))
        // With room it goes on.
        try TinyRun.train(rest, ranks: 1, resume: true)
        #expect(try bytes(kept) == former)
        #expect(try Recipe(files: [path], overrides: []) == rest)
        let left = try FileManager.default.contentsOfDirectory(atPath: folder.file("run")).filter { $0.contains("recipe") }
        #expect(left.sorted() == ["recipe-until-step-1.yaml", "recipe.yaml"])
    }

    @Test func otherDataIsRefused() throws {
        let folder = try TemporaryFolder()
        try TinyRun.train(TinyRun.recipe(folder.file("run")) { $0.schedule.maxSteps = 1 }, ranks: 2)
        let fewer = TinyRun.recipe(folder.file("run")) { $0.data.synthetic.imagesPerIdentity = 3 }
        for failure in try TinyRun.failures(fewer, ranks: 2, resume: true) {
            #expect(failure?.exitCode == 65 && failure?.message.contains("resume needs the same data") == true)
        }
        let otherClasses = TinyRun.recipe(folder.file("run")) { $0.data.synthetic.identities = 8 }
        for failure in try TinyRun.failures(otherClasses, ranks: 2, resume: true) {
            #expect(failure?.exitCode == 65 && failure?.message.contains("trained on 7 identities") == true)
            #expect(failure?.message.contains("has 8: only the data has synthetic-7.") == true)
        }
        // As many, but others.
        let others = TinyRun.recipe(folder.file("run")) { $0.data.synthetic.firstIdentity = 5 }
        for failure in try TinyRun.failures(others, ranks: 2, resume: true) {
            let message = failure?.message ?? ""
            #expect(failure?.exitCode == 65 && message.contains("start a new run with init.head"))
            #expect(message.contains("only the checkpoint has synthetic-0, synthetic-1, synthetic-2 and 2 more; "))
            #expect(message.contains("only the data has synthetic-7, synthetic-8, synthetic-9 and 2 more."))
        }
        let people = TinyRun.recipe(folder.file("run")) { $0.data.synthetic.seed = 2 }
        for failure in try TinyRun.failures(people, ranks: 1, resume: true) {
            #expect(failure?.exitCode == 65 && failure?.message.contains("synthetic-0-of-2") == true)
        }
    }

    /// A run that fails while it is set up gives its folder back.
    @Test func aFailedSetUpLeavesNoLock() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) { $0.start.weights = folder.file("nowhere.safetensors") }
        #expect(try TinyRun.failures(recipe, ranks: 2).allSatisfy { $0?.exitCode == 66 })
        #expect(FileManager.default.fileExists(atPath: folder.file("run")))
        #expect(!FileManager.default.fileExists(atPath: folder.file("run/" + RunLock.fileName)))
    }
}
