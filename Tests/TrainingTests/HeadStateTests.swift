import Artifacts
import Collectives
import Foundation
import Objectives
import Recipes
import Tensors
import Testing
import Training

/// What heads keep beside their centres: moving averages and biases, over stops and on other numbers of ranks.
@Suite(.serialized) struct HeadStateTests {
    private func recipe(
        _ folder: TemporaryFolder, _ name: String, _ head: String, steps: Int,
        _ change: (inout Recipe) -> Void = { _ in }
    ) -> Recipe {
        TinyRun.recipe(folder.file(name)) {
            $0.head = TinyRun.head(head)
            $0.schedule.maxSteps = steps
            change(&$0)
        }
    }

    private func statistics(_ recipe: Recipe, step: Int, revision: Int = 1) throws -> [String: Double]? {
        try TinyRun.checkpoint(recipe, step: step, revision: revision).state(RunState.self).headStatistics
    }

    @Test(arguments: [
        "{margin: adaface, scale: 16}", "{margin: adaface, scale: 16, statistics: local, averaging: 0.5}",
        "{margin: curricularface, scale: 16, averaging: 0.5}",
        "{margin: curricularface, scale: 16, filter: 0.2, averaging: 0.5, statistics: local}",
        "{margin: softmax, bias: true}", "{margin: elasticface_cos, scale: 16, assignment: ranked}",
        "{margin: magface}", "{margin: sphereface}", "{margin: sphereface_r}",
    ])
    func twoPartsAreTheWhole(_ head: String) throws {
        let folder = try TemporaryFolder()
        let whole = recipe(folder, "whole", head, steps: 4) { $0.checkpoint.everySteps = 2 }
        let rest = recipe(folder, "parts", head, steps: 4)
        try TinyRun.train(whole, ranks: 2)
        try TinyRun.train(recipe(folder, "parts", head, steps: 2), ranks: 2)
        let resumed = try TinyRun.train(rest, ranks: 2, resume: true)
        #expect(resumed.states.allSatisfy { $0.step == 4 })
        for step in [2, 4] {
            let differing = TinyRun.differences(
                try TinyRun.files(whole, step: step), try TinyRun.files(rest, step: step))
            #expect(differing.isEmpty, "\(head)")
        }
        // Moving averages move, so the comparison can fail.
        let kept = try statistics(whole, step: 4)
        #expect((kept != nil) == ["adaface", "curricularface"].contains { head.contains($0) })
        if kept != nil { #expect(try statistics(whole, step: 2) != kept) }
    }

    /// A run that starts from the averages of the recipe instead of its own is another run.
    @Test func forgottenStatisticsWouldShow() throws {
        let folder = try TemporaryFolder()
        let head = "{margin: adaface, scale: 16, averaging: 0.5, norm_mean: 2, norm_deviation: 2}"
        try TinyRun.train(recipe(folder, "run", head, steps: 2), ranks: 2)
        try FileManager.default.copyItem(atPath: folder.file("run"), toPath: folder.file("other"))
        func rest(_ name: String, forgets: Bool) throws -> [Float] {
            let next = recipe(folder, name, head, steps: 3)
            let centres = try TinyRun.onRanks(next, ranks: 2, resume: true) { trainer, _ in
                if forgets {
                    trainer.head.classifier.margin = AdaFace(scale: 16, averaging: 0.5, mean: 2, deviation: 2)
                }
                _ = try trainer.run()
                return Array(trainer.head.classifier.centres.floats)
            }
            return centres.flatMap { $0 }
        }
        #expect(try rest("run", forgets: false) != rest("other", forgets: true))
    }

    @Test(arguments: ["global", "local"], [1, 3, 4])
    func otherRanksGoOnWithTheStatistics(_ scope: String, ranks: Int) throws {
        let folder = try TemporaryFolder()
        let head = "{margin: adaface, scale: 16, averaging: 0.5, statistics: \(scope)}"
        let first = recipe(folder, "run", head, steps: 2)
        try TinyRun.train(first, ranks: 2)
        let kept = try #require(try statistics(first, step: 2))
        #expect(kept.keys.sorted() == ["norm_deviation", "norm_mean"])
        let next = recipe(folder, "run", head, steps: 3)
        let found = try TinyRun.onRanks(next, ranks: ranks, resume: true) { trainer, _ in
            let restored = trainer.head.classifier.margin.statistics
            _ = try trainer.run()
            return (restored, trainer.head.classifier.margin.statistics)
        }
        for (restored, after) in found { #expect(restored == kept && after == found[0].1 && after != kept) }
        #expect(try statistics(next, step: 3) == found[0].1)
    }

    @Test(arguments: [3, 1]) func biasesAreKeptByClass(_ ranks: Int) throws {
        let folder = try TemporaryFolder()
        let four = recipe(folder, "four", "{margin: softmax, bias: true}", steps: 2)
        try TinyRun.train(four, ranks: 4)
        try FileManager.default.copyItem(atPath: folder.file("four"), toPath: folder.file("taken"))
        let taken = recipe(folder, "taken", "{margin: softmax, bias: true}", steps: 2)
        let live = try TinyRun.onRanks(taken, ranks: ranks, resume: true) { trainer, _ in
            _ = try trainer.run()
            return Array(trainer.head.classifier.bias!.values.floats)
        }
        let before = try TinyRun.checkpoint(four, step: 2)
        let after = try TinyRun.checkpoint(taken, step: 2, revision: 2)
        #expect(after.manifest.worldSize == ranks)
        let names = ["head/bias", "head/bias_momentum", "head/centres", "head/momentum"]
        #expect(before.shardedTensors.keys.sorted() == names && after.shardedTensors.keys.sorted() == names)
        for name in names {
            let (a, b) = (try before.readRows(name, 0..<7), try after.readRows(name, 0..<7))
            withExtendedLifetime((a, b)) { #expect(Array(a.bytes) == Array(b.bytes), "\(name)") }
        }
        let stored = try before.readRows("head/bias", 0..<7)
        #expect(live.flatMap { $0 } == Array(stored.floats) && stored.floats.contains { $0 != 0 })
    }

    @Test func anotherHeadsStateIsRefused() throws {
        let folder = try TemporaryFolder()
        for (name, head) in [("plain", "{margin: cosface}"), ("bias", "{margin: softmax, bias: true}")] {
            try TinyRun.train(recipe(folder, name, head, steps: 1), ranks: 2)
        }
        func messages(_ name: String, _ head: String) throws -> [String] {
            try TinyRun.failures(recipe(folder, name, head, steps: 2), ranks: 2, resume: true).map {
                #expect($0?.exitCode == 65)
                return $0?.message ?? ""
            }
        }
        for message in try messages("plain", "{margin: adaface}") {
            #expect(message.contains("kept no statistics, the recipe's keeps norm_deviation, norm_mean"))
        }
        for message in try messages("plain", "{margin: softmax, bias: true}") {
            #expect(message.contains("its head has no biases"))
        }
        for message in try messages("bias", "{margin: softmax}") { #expect(message.contains("its head has biases")) }
    }

    /// `init.head` takes the centres, and biases where both have some; statistics start anew.
    @Test func aNewRunStartsFromAnotherHeadsCentres() throws {
        let folder = try TemporaryFolder()
        let first = recipe(folder, "first", "{margin: softmax, bias: true}", steps: 2)
        try TinyRun.train(first, ranks: 2)
        let checkpoint = try TinyRun.checkpoint(first, step: 2)
        let stored = ["head/centres", "head/bias"].map { name in
            (try? checkpoint.readRows(name, 0..<7)).map { Array($0.floats) } ?? []
        }
        for (name, head) in [("again", "{margin: softmax, bias: true}"), ("ada", "{margin: adaface, scale: 16}")] {
            let next = recipe(folder, name, head, steps: 1) { $0.start.head = first.run.folder }
            let parts = try TinyRun.onRanks(next, ranks: 3) { trainer, _ in
                let classifier = trainer.head.classifier
                return (Array(classifier.centres.floats), classifier.bias.map { Array($0.values.floats) } ?? [])
            }
            #expect(parts.flatMap(\.0) == stored[0])
            #expect(parts.flatMap(\.1) == (name == "again" ? stored[1] : []))
        }
    }
}
