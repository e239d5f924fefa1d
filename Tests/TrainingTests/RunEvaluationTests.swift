import Evaluation
import Foundation
import Recipes
import Testing
import Training

/// Evaluation on the way: the same report on any number of ranks, and no trace in what is trained.
@Suite(.serialized) struct RunEvaluationTests {
    private static func synthetic() -> PairSetSection {
        var set = PairSetSection()
        set.name = "synthetic-pairs"
        set.path = "synthetic"
        set.pairCount = 40
        set.synthetic.identities = 9
        set.synthetic.imagesPerIdentity = 3
        set.synthetic.firstIdentity = 1000
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
        // The best accuracy stands there.
        #expect(changed == ["state.json"])
        let events = try TinyRun.events(evaluated).filter { $0["event"] as? String == "evaluation" }
        #expect(events.compactMap { $0["step"] as? Int } == [0, 1, 2, 3])
        let accuracies = events.compactMap { $0["accuracy"] as? Double }
        #expect(run.states[0].bestAccuracy == accuracies.max())
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
