import Artifacts
import Foundation
import Objectives
import Recipes
import Tensors
import Testing
import Training

/// Runs whose head is sampled: interrupted, on other numbers of ranks, with its centres in files.
@Suite(.serialized) struct SampledRunTests {
    private static func recipe(
        _ folder: TemporaryFolder, _ name: String, steps: Int, _ change: (inout Recipe) -> Void = { _ in }
    ) -> Recipe {
        TinyRun.recipe(folder.file(name)) {
            $0.data.synthetic.identities = 23
            $0.data.synthetic.imagesPerIdentity = 2
            $0.head.sampling.rate = 0.3
            $0.schedule.maxSteps = steps
            change(&$0)
        }
    }

    struct Case: CustomTestStringConvertible {
        var ranks: Int
        var mode = HeadSamplingSection.Mode.keyed
        var momentum = HeadSamplingSection.Momentum.sparse
        var accumulation = 1
        var storage = HeadStorageKind.memory
        var testDescription: String {
            "\(ranks) rank(s), \(mode), \(momentum), \(accumulation) pass(es), \(storage.rawValue)"
        }
        func apply(_ recipe: inout Recipe) {
            recipe.head.sampling.mode = mode
            recipe.head.sampling.momentum = momentum
            recipe.batch.accumulation = accumulation
            recipe.head.storage = storage
        }
    }

    @Test(arguments: [
        Case(ranks: 2, storage: .file), Case(ranks: 3, momentum: .dense), Case(ranks: 2, mode: .reference),
        Case(ranks: 2, accumulation: 3), Case(ranks: 1, momentum: .dense, accumulation: 2),
    ]) func twoPartsAreTheWhole(_ example: Case) throws {
        let folder = try TemporaryFolder()
        let whole = Self.recipe(folder, "whole", steps: 4, example.apply)
        try TinyRun.train(whole, ranks: example.ranks)
        try TinyRun.train(Self.recipe(folder, "parts", steps: 2, example.apply), ranks: example.ranks)
        let rest = Self.recipe(folder, "parts", steps: 4, example.apply)
        try TinyRun.train(rest, ranks: example.ranks, resume: true)
        #expect(TinyRun.differences(try TinyRun.files(whole, step: 4), try TinyRun.files(rest, step: 4)).isEmpty)
    }

    /// The sample follows the seed alone: on other ranks the same rows stay as they were, and the others move.
    @Test func otherRanksDrawTheSameSamples() throws {
        let folder = try TemporaryFolder()
        func recipe(_ name: String, steps: Int) -> Recipe { Self.recipe(folder, name, steps: steps) }
        func centres(_ recipe: Recipe, step: Int) throws -> [[Float]] {
            let rows = try TinyRun.checkpoint(recipe, step: step).readRows("head/centres", 0..<23)
            return (0..<23).map { Array(rows.floats[$0 * 64..<($0 + 1) * 64]) }
        }
        let whole = recipe("whole", steps: 4)
        try TinyRun.train(whole, ranks: 2)
        try TinyRun.train(recipe("start", steps: 2), ranks: 2)
        let before = try centres(recipe("start", steps: 2), step: 2)
        let moved = zip(try centres(whole, step: 4), before).map { $0 != $1 }
        #expect(moved.contains(true) && moved.contains(false))
        for ranks in [1, 3] {
            try FileManager.default.copyItem(atPath: folder.file("start"), toPath: folder.file("on-\(ranks)"))
            let rest = recipe("on-\(ranks)", steps: 4)
            try TinyRun.train(rest, ranks: ranks, resume: true)
            #expect(zip(try centres(rest, step: 4), before).map { $0 != $1 } == moved)
        }
    }

    @Test func logsNameTheAccuracyOfASample() throws {
        let folder = try TemporaryFolder()
        let sampled = Self.recipe(folder, "sampled", steps: 1)
        let outcome = try TinyRun.train(sampled, ranks: 2)
        let steps = try TinyRun.events(sampled).filter { $0["event"] as? String == "step" }
        #expect(steps.count == 1 && steps.allSatisfy { $0["sampled_accuracy"] is Double && $0["accuracy"] == nil })
        #expect(outcome.log.all.contains { $0.contains("a share of 0.3") && $0.contains("over the sample") })
        let whole = Self.recipe(folder, "whole", steps: 1) { $0.head.sampling.rate = 1 }
        try TinyRun.train(whole, ranks: 2)
        let others = try TinyRun.events(whole).filter { $0["event"] as? String == "step" }
        #expect(others.allSatisfy { $0["accuracy"] is Double && $0["sampled_accuracy"] == nil })
    }

    @Test func anObjectiveThatNeedsEveryClassRefusesASample() throws {
        var head = HeadSection()
        try RunSetup.checkSampling(head, [("CR-FIQA", true)])
        head.sampling.rate = 0.1
        try RunSetup.checkSampling(head, [("CosFace", false)])
        let error = try #require(throws: TrainingError.self) {
            try RunSetup.checkSampling(head, [("CosFace", false), ("CR-FIQA", true)])
        }
        #expect(ExitCode.of(error) == 65)
        #expect("\(error)".contains("head.sampling.rate = 0.1: CR-FIQA needs the cosines to every class"))
    }

    @Test func aFolderWithoutRoomForTheHead() throws {
        let folder = try TemporaryFolder()
        let recipe = Self.recipe(folder, "run", steps: 1) {
            $0.head.storage = .file
            $0.head.storageFolder = folder.file("nowhere")
        }
        for failure in try TinyRun.failures(recipe, ranks: 2) {
            #expect(failure?.exitCode == 73 && failure?.message.contains(folder.file("nowhere")) == true)
        }
    }
}
