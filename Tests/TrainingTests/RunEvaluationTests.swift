import Artifacts
import Evaluation
import Foundation
import Recipes
import TestSupport
import Testing
import Training

/// Evaluation on the way: the same report on any number of ranks, and no trace in what is trained.
@Suite(.serialized) struct RunEvaluationTests {
    private static func synthetic(_ name: String = "synthetic-pairs", first: Int = 1000) -> PairSetSection {
        var set = PairSetSection()
        set.name = name
        set.path = "synthetic"
        set.pairCount = 40
        set.synthetic.identities = 9
        set.synthetic.imagesPerIdentity = 3
        set.synthetic.firstIdentity = first
        return set
    }

    /// LFW's layout, as it is and degraded.
    private static func files(_ folder: TemporaryFolder) throws -> [PairSetSection] {
        let pairs = try FaceFiles.pairs(in: folder, people: 5)
        let variants: [(String?, PairSetSection.Sides, Bool)] = [
            (nil, .both, true), ("16", .both, true), ("16", .one, false),
        ]
        return variants.map { degrade, sides, flip in
            var set = PairSetSection()
            set.name = "files-\(degrade ?? "plain")-\(sides)"
            set.path = folder.path
            set.pairs = pairs
            set.degrade = degrade
            set.sides = sides
            set.flip = flip
            return set
        }
    }

    /// The figures of a report.
    private static func figures(_ report: VerificationReport) -> [Double] {
        [
            report.accuracy.mean, report.accuracy.deviation, report.exactAccuracy.mean, report.equalErrorRate,
            report.areaUnderCurve, report.meanNorm ?? -1,
        ] + report.tar.map(\.rate) + report.foldedTAR.map(\.mean)
    }

    @Test func theReportDoesNotDependOnTheNumberOfRanks() throws {
        let folder = try TemporaryFolder()
        let sets = try [Self.synthetic()] + Self.files(folder)
        let trained = TinyRun.recipe(folder.file("trained")) { $0.schedule.maxSteps = 3 }
        try TinyRun.train(trained, ranks: 1)
        var reports: [[String: VerificationReport]] = []
        for ranks in [1, 2, 3] {
            let name = "on-\(ranks)"
            try FileManager.default.copyItem(atPath: folder.file("trained"), toPath: folder.file(name))
            // Nothing is left to train: the run is evaluated and saved.
            let recipe = TinyRun.recipe(folder.file(name)) {
                $0.schedule.maxSteps = 3
                $0.checkpoint.keepBest = "synthetic-pairs"
                $0.evaluation.sets = sets
                $0.evaluation.batch = 7
            }
            let run = try TinyRun.train(recipe, ranks: ranks, resume: true)
            reports.append(run.reports)
            #expect(run.states[0].bestAccuracy == run.reports["synthetic-pairs"]?.accuracy.mean)
            let events = try TinyRun.events(recipe).filter { $0["event"] as? String == "evaluation" }
            #expect(events.compactMap { $0["set"] as? String } == sets.map(\.name))
        }
        for set in sets {
            let one = try #require(reports[0][set.name])
            #expect(one.pairs == 40 && one.genuinePairs == 20 && one.folds == 10)
            for other in reports.dropFirst() {
                let several = try #require(other[set.name])
                #expect(several.facts == one.facts && several.foldSizes == one.foldSizes)
                let differences = zip(Self.figures(one), Self.figures(several)).map { abs($0 - $1) }
                #expect(differences.allSatisfy { $0 < 1e-6 }, "\(set.name): \(differences)")
            }
        }
        // What was asked for is what was done.
        let norms = try sets.map { try #require(reports[0][$0.name]?.meanNorm) }
        #expect(Set(norms).count == sets.count, "\(norms)")
        #expect(
            sets.map { reports[0][$0.name]!.facts.degradation } == [
                "none", "none", "16 px, both images", "16 px, second image",
            ])
        #expect(reports[0]["files-16-one"]?.facts.flip == FlipFusion.none)
    }

    @Test func evaluationLeavesNoTraceInTraining() throws {
        let folder = try TemporaryFolder()
        let silent = TinyRun.recipe(folder.file("silent")) { $0.schedule.maxSteps = 3 }
        let evaluated = TinyRun.recipe(folder.file("evaluated")) {
            $0.schedule.maxSteps = 3
            $0.evaluation.everySteps = 1
            $0.evaluation.atStart = true
            $0.evaluation.sets = [Self.synthetic()]
        }
        try TinyRun.train(silent, ranks: 2)
        let run = try TinyRun.train(evaluated, ranks: 2)
        let changed = TinyRun.differences(
            try TinyRun.files(silent, step: 3), try TinyRun.files(evaluated, step: 3))
        #expect(changed.isEmpty)
        let events = try TinyRun.events(evaluated).filter { $0["event"] as? String == "evaluation" }
        #expect(events.compactMap { $0["step"] as? Int } == [0, 1, 2, 3])
        #expect(run.states[0].bestAccuracy == nil)
        // What ends the last evaluation costs no update.
        #expect(try Self.order(evaluated).suffix(3) == ["checkpoint", "evaluation synthetic-pairs", "end"])
    }

    /// The names of a run's events, with the sets that were evaluated.
    private static func order(_ recipe: Recipe) throws -> [String] {
        try TinyRun.events(recipe).map { event in
            let name = event["event"] as? String ?? ""
            return (event["set"] as? String).map { "\(name) \($0)" } ?? name
        }
    }

    /// An evaluation is the last of one part and one on the way of the whole.
    @Test(arguments: [nil, "synthetic-pairs"] as [String?]) func twoPartsAreTheWhole(_ keptBest: String?) throws {
        let folder = try TemporaryFolder()
        func recipe(_ name: String, steps: Int) -> Recipe {
            TinyRun.recipe(folder.file(name)) {
                $0.schedule.maxSteps = steps
                $0.checkpoint.everySteps = 2
                $0.checkpoint.keepBest = keptBest
                $0.evaluation.everySteps = 2
                $0.evaluation.sets = [Self.synthetic()]
            }
        }
        func newest(_ recipe: Recipe, step: Int) throws -> [String: Data] {
            let names = try CheckpointStore(runFolder: recipe.run.folder).names()
            let name = try #require(names.last { $0.step == step })
            return try TinyRun.files(recipe, step: step, revision: name.revision)
        }
        let (whole, rest) = (recipe("whole", steps: 4), recipe("parts", steps: 4))
        try TinyRun.train(whole, ranks: 2)
        try TinyRun.train(recipe("parts", steps: 2), ranks: 2)
        try TinyRun.train(rest, ranks: 2, resume: true)
        for step in [2, 4] {
            let changed = TinyRun.differences(try newest(whole, step: step), try newest(rest, step: step))
            #expect(changed.isEmpty, "step \(step)")
        }
        // Nothing is written twice but for the accuracy of the best.
        let names = try CheckpointStore(runFolder: rest.run.folder).names()
        #expect(keptBest != nil || names.map(\.revision) == [1, 1])
    }

    // MARK: - Asked to stop

    /// A run with two sets of which rank 1 is asked to stop when it looks for the n-th time: once in each update, and before
    /// each set.
    private static func interrupted(
        _ recipe: Recipe, at question: Int
    ) throws -> (run: TinyRun.Outcome, order: [String]) {
        let asked = Box(0)
        let run = try TinyRun.train(recipe, ranks: 2) { rank in
            guard rank == 1 else { return false }
            asked.update { $0 += 1 }
            return asked.value >= question
        }
        #expect(run.endings.allSatisfy { $0 == .interrupted } && run.states.allSatisfy { $0.step == 1 })
        return (run, try order(recipe))
    }

    private static func recipe(_ folder: String, steps: Int, atStart: Bool = false) -> Recipe {
        TinyRun.recipe(folder) {
            $0.schedule.maxSteps = steps
            $0.evaluation.everySteps = 1
            $0.evaluation.atStart = atStart
            $0.evaluation.sets = [synthetic("one"), synthetic("other", first: 2000)]
        }
    }

    @Test func aStopLeavesTheOtherSetsOut() throws {
        let folder = try TemporaryFolder()
        let recipe = Self.recipe(folder.file("run"), steps: 3)
        let (run, order) = try Self.interrupted(recipe, at: 3)
        #expect(order == ["start", "step", "evaluation one", "checkpoint", "end"])
        #expect(run.log.all.contains("asked to stop by a signal: evaluated 1 of 2 set(s)"))
        // Nothing of it is in the checkpoint.
        let silent = TinyRun.recipe(folder.file("silent")) { $0.schedule.maxSteps = 1 }
        try TinyRun.train(silent, ranks: 2)
        #expect(TinyRun.differences(try TinyRun.files(recipe, step: 1), try TinyRun.files(silent, step: 1)).isEmpty)
    }

    /// The last evaluation comes after the checkpoint; when the run is resumed it is made again, and nothing else is.
    @Test func aStopInTheLastEvaluation() throws {
        let folder = try TemporaryFolder()
        let recipe = Self.recipe(folder.file("run"), steps: 1)
        let (_, order) = try Self.interrupted(recipe, at: 3)
        #expect(order == ["start", "step", "checkpoint", "evaluation one", "end"])
        let resumed = try TinyRun.train(recipe, ranks: 2, resume: true)
        #expect(resumed.endings.allSatisfy { $0 == .stopped("max_steps") })
        #expect(
            try Self.order(recipe).dropFirst(order.count) == ["resume", "evaluation one", "evaluation other", "end"])
        #expect(try CheckpointStore(runFolder: recipe.run.folder).names().map(\.description) == ["step-00000001"])
    }

    /// Before the first update there is nothing to save.
    @Test func aStopInTheFirstEvaluation() throws {
        let folder = try TemporaryFolder()
        let recipe = Self.recipe(folder.file("run"), steps: 3, atStart: true)
        #expect(try Self.interrupted(recipe, at: 2).order == ["start", "evaluation one", "step", "checkpoint", "end"])
    }

    @Test func whatCannotBeEvaluatedEndsTheRunBeforeItStarts() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) {
            var set = PairSetSection()
            set.name = "missing"
            set.path = folder.file("missing.bin")
            $0.evaluation.sets = [set]
        }
        for failure in try TinyRun.failures(recipe, ranks: 2) {
            #expect(failure?.exitCode == 66 && failure?.message.contains("missing.bin") == true)
        }
    }
}
