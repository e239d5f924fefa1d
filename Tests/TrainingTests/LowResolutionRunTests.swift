import Artifacts
import FaceData
import Foundation
import Layers
import Networks
import Objectives
import Recipes
import Tensors
import Testing
import Training

/// Runs that learn from degraded copies: CCFace, QGFace, and all objectives together.
@Suite(.serialized) struct LowResolutionRunTests {
    private static let adaFace = "{margin: adaface, scale: 16, norm_mean: 20, norm_deviation: 5}"

    static let methods: [(name: String, head: String?, objectives: String)] = [
        ("relation", nil, "{ccface: {queue: 20}}"),
        ("soft targets", nil, "{ccface: {targets: soft, margin_source: student, cross: predictor, hidden: 16}}"),
        ("contrast", nil, "{ccface: {margin_source: teacher_high, cross: contrast, queue: 20}}"),
        (
            "qgface", adaFace,
            "{qgface: {queue: 50, queue_growth_steps: 6, threshold: 0.5, threshold_warmup_steps: 3, scale: 8}}"
        ),
        ("plain queue", adaFace, "{qgface: {queue: 50, correction: none, threshold: 0.5, scale: 8}}"),
        (
            "second encoder", adaFace,
            "{qgface: {queue: 50, keys: momentum, key_momentum: 0.5, compared: low, correction: none, threshold: 0.9, scale: 8}}"
        ),
    ]

    /// Whole run = first part + resumed part, byte for byte: queues, averages, warm-ups and the predictor included.
    @Test(arguments: methods.indices)
    func resumedRunsAreWholeRuns(_ index: Int) throws {
        let method = Self.methods[index]
        let folder = try TemporaryFolder()
        let base = try TinyRun.base(folder)
        func recipe(_ name: String, steps: Int) throws -> Recipe {
            try TinyRun.fineTuning(base, folder.file(name), steps: steps, method.objectives, head: method.head)
        }
        try TinyRun.train(recipe("whole", steps: 4), ranks: 2)
        try TinyRun.train(recipe("parts", steps: 2), ranks: 2)
        try TinyRun.train(recipe("parts", steps: 4), ranks: 2, resume: true)
        let whole = try TinyRun.files(recipe("whole", steps: 4), step: 4)
        let parts = try TinyRun.files(recipe("parts", steps: 4), step: 4)
        #expect(TinyRun.differences(whole, parts).isEmpty, "\(method.name): \(TinyRun.differences(whole, parts))")
        // Pairs of low quality are compared, not only gated off.
        if method.objectives.contains("qgface") {
            let shares = try TinyRun.events(recipe("whole", steps: 4)).compactMap { $0["contrast_share"] as? Double }
            #expect(shares.contains { $0 > 0 }, "\(method.name)")
        }
        // Another number of ranks goes on, with the queues of the last checkpoint, each entry on the rank of its class.
        let saved = try QueueContents(TinyRun.checkpoint(recipe("parts", steps: 4), step: 4))
        let section = try recipe("parts", steps: 4).objectives
        #expect((saved.count > 0) == (section.contrast != nil))
        #expect((saved.ring != nil) == (section.resolution.map { $0.cross != .predictor } ?? false))
        let taken = try TinyRun.onRanks(recipe("parts", steps: 5), ranks: 3, resume: true) { trainer, _ in
            let (queues, classes) = (QueueContents(trainer), trainer.head.classifier.classRange)
            _ = try trainer.run()
            return (queues, classes)
        }
        #expect(QueueContents(ranks: taken.map(\.0)) == saved, "\(method.name)")
        for (queues, classes) in taken { #expect(queues.entries.allSatisfy { classes.contains($0.label) }) }
        let events = try TinyRun.events(recipe("parts", steps: 5)).filter { $0["event"] as? String == "step" }
        #expect(events.allSatisfy { ($0["loss"] as? Double)?.isFinite == true })
    }

    @Test func theClassifierStaysAndTheTermsAreLogged() throws {
        let folder = try TemporaryFolder()
        let base = try TinyRun.base(folder)
        let recipe = try TinyRun.fineTuning(base, folder.file("run"), steps: 3, "{ccface: {targets: soft, queue: 20}}")
        let results = try TinyRun.onRanks(recipe, ranks: 2) { trainer, _ in
            let before = Array(trainer.head.classifier.centres.bytes)
            let weights = trainer.network.state.map { Array($0.value.bytes) }
            _ = try trainer.run()
            return (
                before == Array(trainer.head.classifier.centres.bytes),
                weights == trainer.network.state.map { Array($0.value.bytes) }
            )
        }
        for (centresStay, weightsStay) in results { #expect(centresStay && !weightsStay) }
        let names = ["classification_loss", "cross_resolution_loss", "soft_target_loss", "margin_share"]
        let events = try TinyRun.events(recipe).filter { $0["event"] as? String == "step" }
        for name in names { #expect(events.allSatisfy { $0[name] is Double }, "\(name)") }
        let terms = events.compactMap { $0["cross_resolution_loss"] as? Double }
        #expect(terms.first == 0 && terms.dropFirst().allSatisfy { $0 > 0 })
    }

    /// Both degraded copies, another image of the identity, and a quality layer, in one step.
    @Test func allObjectivesTogether() throws {
        let folder = try TemporaryFolder()
        let base = try TinyRun.base(folder)
        let source = try RunSetup.source(base.data)
        let table = (0..<source.count).map { "\(source.key(of: $0))\t\($0 * 37 % 100)\n" }.joined()
        try folder.write("quality.tsv", Array(table.utf8))
        func recipe(_ name: String, steps: Int) throws -> Recipe {
            try TinyRun.fineTuning(
                base, folder.file(name), steps: steps,
                "{cr_fiqa: {}, qsd: {qualities: \(folder.file("quality.tsv"))}, "
                    + "ccface: {margin_source: head, freeze_centres: false, queue: 20}, "
                    + "qgface: {queue: 50, threshold: 0.5, scale: 8}}", head: Self.adaFace)
        }
        try TinyRun.train(recipe("whole", steps: 3), ranks: 2)
        try TinyRun.train(recipe("parts", steps: 1), ranks: 2)
        try TinyRun.train(recipe("parts", steps: 3), ranks: 2, resume: true)
        let (whole, parts) = (
            try TinyRun.files(recipe("whole", steps: 3), step: 3), try TinyRun.files(recipe("parts", steps: 3), step: 3)
        )
        #expect(TinyRun.differences(whole, parts).isEmpty)
        let event = try #require(TinyRun.events(recipe("whole", steps: 3)).last { $0["event"] as? String == "step" })
        for name in ["quality_loss", "distillation_loss", "cross_resolution_loss", "contrast_loss", "low_quality"] {
            #expect(event[name] is Double, "\(name)")
        }
        #expect((event["contrast_share"] as? Double ?? 0) > 0)
    }

    /// A weight of 0 leaves all taps out, the logits' included.
    @Test func distillationOfNoWeightDoesNothing() throws {
        let folder = try TemporaryFolder()
        let base = try TinyRun.base(folder)
        let source = try RunSetup.source(base.data)
        let table = (0..<source.count).map { "\(source.key(of: $0))\t\($0 * 37 % 100)\n" }.joined()
        try folder.write("quality.tsv", Array(table.utf8))
        let recipe = try TinyRun.fineTuning(
            base, folder.file("run"), steps: 2, "{qsd: {qualities: \(folder.file("quality.tsv")), weight: 0}}")
        try TinyRun.train(recipe, ranks: 2)
        let losses = try TinyRun.events(recipe).compactMap { $0["distillation_loss"] as? Double }
        #expect(losses == [0, 0])
    }

    /// What is learnt from beside the images may not change while a run goes on.
    @Test func anotherTeacherOrTableIsRefusedAtResume() throws {
        let folder = try TemporaryFolder()
        let base = try TinyRun.base(folder)
        let source = try RunSetup.source(base.data)
        func write(_ factor: Int) throws {
            let table = (0..<source.count).map { "\(source.key(of: $0))\t\($0 * factor % 100)\n" }.joined()
            try folder.write("quality.tsv", Array(table.utf8))
        }
        try write(37)
        let qsd = try TinyRun.fineTuning(
            base, folder.file("qsd"), "{qsd: {qualities: \(folder.file("quality.tsv"))}}")
        try TinyRun.train(qsd, ranks: 2)
        try write(41)
        let ccface = try TinyRun.fineTuning(
            base, folder.file("ccface"), "{ccface: {queue: 20, teacher: \(base.run.folder)}}")
        try TinyRun.train(ccface, ranks: 2)
        var further = base
        further.schedule.maxSteps = 3
        try TinyRun.train(further, ranks: 1, resume: true)
        // The run itself keeps the file that the folder meant at its start.
        let kept = try Recipe(files: [ccface.run.folder + "/recipe.yaml"], overrides: [])
        let first = try TinyRun.checkpoint(base, step: 2).folder + "/model.safetensors"
        #expect(kept.objectives.resolution?.teacher == first)
        try TinyRun.train(kept, ranks: 2, resume: true)
        for (recipe, key) in [(qsd, "objectives.qsd.qualities"), (ccface, "objectives.ccface.teacher")] {
            for failure in try TinyRun.failures(recipe, ranks: 2, resume: true) {
                #expect(failure?.exitCode == 65 && failure?.message.hasPrefix(key) == true, "\(String(describing: failure))")
            }
        }
    }

    /// A quality layer that the weights file has is gone on with.
    @Test func theQualityLayerOfTheWeightsIsKept() throws {
        let folder = try TemporaryFolder()
        let base = try TinyRun.base(folder)
        let first = try TinyRun.fineTuning(base, folder.file("first"), steps: 2, "{cr_fiqa: {}}")
        try TinyRun.train(first, ranks: 2)
        let path = try TinyRun.checkpoint(first, step: 2).folder + "/model.safetensors"
        let second = try TinyRun.fineTuning(base, folder.file("second"), steps: 1, "{cr_fiqa: {}}") {
            $0.start.weights = path
        }
        let expected = try WeightsFile(path).file.tensor("qs.weight")
        let kept = try TinyRun.onRanks(second, ranks: 2) { trainer, _ in
            trainer.objective.parameters.first { $0.name == "qs.weight" }.map { Array($0.value.floats) }
        }
        #expect(kept == [Array(expected.floats), Array(expected.floats)])
    }

    // MARK: - Refusals

    @Test func whatMeansNothingTogetherIsRefused() throws {
        let cases = [
            ("{cr_fiqa: {on_top: true}, qgface: {}}", "on_top"),
            ("{ccface: {}, qgface: {}}", "both set the margin"),
            ("{ccface: {margin_source: head, targets: soft}}", "targets: hard"),
            ("{ccface: {margin_source: head, high_weight: 0.5}}", "high_weight"),
            ("{ccface: {margin_source: head, teacher: t}}", "no teacher is asked"),
            ("{ccface: {targets: soft, freeze_centres: false}}", "must stay"),
            ("{ccface: {margin_source: head}, qgface: {}}", "correction: none"),
            ("{ccface: {}, qsd: {qualities: q.tsv, classified: both}}", "QSD alone"),
            ("{qgface: {keys: momentum}}", "compared: low"),
            ("{qgface: {keys: momentum, compared: low, correction: none}, cr_fiqa: {}}", "no other objective"),
            ("{ccface: {margin_source: head, teacher_cache: c}}", "no teacher is asked"),
        ]
        for (yaml, text) in cases {
            let recipe = try Recipe(files: [], overrides: ["objectives=\(yaml)", "init={head: a, weights: b}"])
            #expect { try RunSetup.demand(recipe) } throws: { "\($0)".contains(text) }
        }
        let still = try Recipe(files: [], overrides: ["objectives={qgface: {}}", "init.freeze=[head]"])
        #expect { try RunSetup.demand(still) } throws: { "\($0)".contains("no head in init.freeze") }
        for yaml in [
            "{ccface: {}, qsd: {qualities: q.tsv}, cr_fiqa: {}}",
            "{ccface: {margin_source: head}, qgface: {correction: none}}",
            "{ccface: {margin_source: head}, qgface: {weight: 0}}", "{qgface: {}, cr_fiqa: {}}",
        ] {
            let recipe = try Recipe(files: [], overrides: ["objectives=\(yaml)", "init={head: a, weights: b}"])
            _ = try RunSetup.demand(recipe)
        }
        // A view of the teacher costs a forward: nobody asks for one that nothing follows.
        func asked(_ yaml: String) throws -> Range<Int> {
            try RunSetup.demand(Recipe(files: [], overrides: ["objectives={ccface: \(yaml)}", "init.head=a"])).teacher
        }
        #expect(try asked("{}") == 0..<2 && asked("{margin_source: teacher_high}") == 0..<1)
        #expect(try asked("{margin_source: head}").isEmpty)
    }

    @Test func centresThatStayMustBeGiven() throws {
        #expect { try Recipe(files: [], overrides: ["objectives.ccface={}"]) } throws: { "\($0)".contains("init.head") }
        _ = try Recipe(files: [], overrides: ["objectives.ccface.freeze_centres=false"])
        let folder = try TemporaryFolder()
        let base = try TinyRun.base(folder)
        let others = try TinyRun.fineTuning(base, folder.file("others"), "{ccface: {}}") { $0.data.synthetic.firstIdentity = 3 }
        let without = try TinyRun.fineTuning(base, folder.file("without"), "{ccface: {}}") { $0.start.head = nil }
        let untaught = try TinyRun.fineTuning(base, folder.file("untaught"), "{ccface: {}}") { $0.start.weights = nil }
        let cases = [
            (others, "3 of 7 identities have none"), (without, "7 of 7 identities have none"),
            (untaught, "objectives.ccface.teacher or init.weights"),
        ]
        for (recipe, text) in cases {
            for failure in try TinyRun.failures(recipe, ranks: 2) {
                #expect(
                    failure?.exitCode == 65 && failure?.message.contains(text) == true, "\(String(describing: failure))"
                )
            }
        }
    }

    @Test func headsThatDoNotFitAreRefused() throws {
        let folder = try TemporaryFolder()
        let base = try TinyRun.base(folder)
        let cases = [
            ("{margin: cosface, scale: 16}", "{ccface: {}}", "head.margin: arcface"),
            ("{margin: arcface, scale: 16, fallback: plain}", "{ccface: {}}", "head.margin: arcface"),
            ("{margin: arcface, scale: 16}", "{qgface: {}}", "head.margin: adaface"),
            ("{margin: adaface, statistics: local}", "{qgface: {}}", "global statistics"),
            ("{margin: arcface, scale: 16, sampling: {rate: 0.5}}", "{ccface: {targets: soft}}", "every class"),
        ]
        for (index, (head, objectives, text)) in cases.enumerated() {
            let recipe = try TinyRun.fineTuning(base, folder.file("run-\(index)"), objectives, head: head)
            for failure in try TinyRun.failures(recipe, ranks: 2) {
                #expect(
                    failure?.exitCode == 65 && failure?.message.contains(text) == true, "\(String(describing: failure))"
                )
            }
        }
    }
}
