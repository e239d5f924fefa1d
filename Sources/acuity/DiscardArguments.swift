import ArgumentParser
import Collectives
import Evaluation
import FaceData
import Figures
import Foundation
import Layers
import Logging
import Networks
import Recipes
import Telemetry
import Tensors
import Training

extension ErrorVersusDiscard.Threshold: ExpressibleByArgument {}

/// `acuity evaluate --edc`.
struct DiscardArguments: ParsableArguments {
    @Flag(help: "Error versus discard instead of verification.")
    var edc = false

    @Flag(help: "Compare all pairs of a labelled --set: a folder of identity folders, a list, a .rec file.")
    var allPairs = false

    @Option(help: "The folder that the paths of a list are relative to (--all-pairs).")
    var folder: String?

    @Option(help: "Qualities from this table: a .tsv of 'acuity annotate', a .csv of 'acuity score'.")
    var quality: String?

    @Option(help: "The quality of images that the table lacks; otherwise they are an error.")
    var missingQuality: Float?

    @Option(help: "Qualities by these weights instead of those whose embeddings are compared.")
    var qualityWeights: String?

    @Option(
        help: "What gives the quality: norm, cr-fiqa, sdd-fiqa; by default the head that the weights have, else norm.")
    var estimator: QualityEstimator?

    // nil where the option was not given, so that one which cannot act is told.
    @Option(
        parsing: .upToNextOption,
        help: "False match rates of the operating points, between 0 and 1; by default 1e-2,1e-3,1e-4.")
    var fmr: [RateList] = []
    private var rates: [Double] { fmr.flatMap(\.values) }

    @Option(help: "fixed: chosen on all pairs (the default); reselected: on the pairs left at each discard rate.")
    var threshold: ErrorVersusDiscard.Threshold?

    @Option(help: "Steps of the discard rate: 0.05 (the default), 0.01.")
    var discardStep: Double?

    @Option(help: "Random orders that the random baseline is the mean of; by default 20.")
    var randomOrders: Int?

    @Option(help: "Samples of the bootstrap; by default 200, 0 for no intervals.")
    var bootstrap: Int?

    @Option(help: "Seed of random orders and bootstrap; by default 0.")
    var seed: UInt64?

    func validate(_ command: Evaluate) throws {
        guard edc else {
            let given: [(String, Bool)] = [
                ("--all-pairs", allPairs), ("--folder", folder != nil), ("--quality", quality != nil),
                ("--missing-quality", missingQuality != nil), ("--quality-weights", qualityWeights != nil),
                ("--estimator", estimator != nil), ("--fmr", !fmr.isEmpty), ("--threshold", threshold != nil),
                ("--discard-step", discardStep != nil), ("--random-orders", randomOrders != nil),
                ("--bootstrap", bootstrap != nil), ("--seed", seed != nil),
            ]
            if let idle = given.first(where: \.1) { throw ValidationError("\(idle.0) goes with --edc") }
            return
        }
        guard command.weights != nil else { throw ValidationError("--edc compares embeddings: give --weights") }
        if quality != nil, qualityWeights != nil || estimator != nil {
            throw ValidationError("--quality is a table: leave out --quality-weights and --estimator")
        }
        if let missingQuality, quality == nil || !missingQuality.isFinite {
            throw ValidationError("--missing-quality is a number and goes with --quality")
        }
        if estimator == .annotation { throw ValidationError("name the table of an annotation with --quality") }
        if allPairs, command.pairs != nil { throw ValidationError("give --pairs or --all-pairs") }
        if allPairs, command.sides ?? .both != .both { throw ValidationError("--all-pairs degrades both images of a pair") }
        if folder != nil, !allPairs { throw ValidationError("--folder goes with --all-pairs") }
        if Set(rates).count < rates.count { throw ValidationError("--fmr takes different rates") }
        if let discardStep, discardStep != 0.05, discardStep != 0.01 {
            throw ValidationError("--discard-step is 0.05 or 0.01")
        }
        if let randomOrders, !(1...10_000).contains(randomOrders) {
            throw ValidationError("--random-orders must lie in 1...10000")
        }
        if let bootstrap, !(0...100_000).contains(bootstrap) { throw ValidationError("--bootstrap must lie in 0...100000") }
    }

    private var options: DiscardReport.Options {
        var options = DiscardReport.Options()
        if !fmr.isEmpty { options.targetFMRs = rates.sorted(by: >) }
        if let threshold { options.threshold = threshold }
        if discardStep == 0.01 { options.rates = DiscardRates(perUnit: 100) }
        if let randomOrders { options.randomOrders = randomOrders }
        if let bootstrap { options.samples = bootstrap }
        if let seed { options.seed = seed }
        return options
    }

    func run(_ command: Evaluate, _ environment: RunEnvironment) throws {
        let communicator = environment.communicator
        let (model, subjects, source) = try communicator.together("set-up") {
            if environment.isRoot, let output = command.output { try Output.folder(output) }
            let model = try ModelFile.model(command.weights!)
            return (model, try self.subjects(command), try self.qualitySource(model))
        }
        let embedder = command.embedding.embedder(model.network, model.card.preprocessing, environment)
        var reports: [DiscardReport] = []
        for subject in subjects {
            let progress = environment.progressDisplay(1000)
            let report = try embedder.discard(
                subject, by: source, weights: model.path, options: options, communicator: communicator
            ) { stage, share in
                progress.update(Int(1000 * share), "‰ \(stage) \(subject.name)")
            }
            progress.finish()
            if let report { reports.append(report) }
        }
        try communicator.together("report") {
            if environment.isRoot { try present(reports, command) }
        }
    }

    private func subjects(_ command: Evaluate) throws -> [DiscardSubject] {
        if allPairs {
            let images = try ImageCollection.open(command.set!, folder: folder, degrade: command.degrade)
            return [
                try DiscardSubject(allPairsOf: images, name: command.setName, flip: command.flip ? .sum : .none)
            ]
        }
        return try command.sections().map { section in
            if quality != nil, section.sides != .both, section.degrade.flatMap({ Int($0) }) != nil {
                throw TrainingError.incompatible(
                    "evaluation set '\(section.name)': an image degraded on one side only has two qualities, and a table one"
                )
            }
            return DiscardSubject(try VerificationSets.open(section), flip: section.flip ? .sum : .none)
        }
    }

    private func qualitySource(_ model: ModelFile.Model) throws -> DiscardQuality {
        if let quality {
            return .table(
                try QualityTable(quality),
                missing: missingQuality.map { .value($0) }
                    ?? .refuse(allowedBy: "--missing-quality states the quality of the images that it lacks"))
        }
        guard let qualityWeights else { return .compared(try EmbeddingQuality(model, estimator)) }
        let other = try ModelFile.model(qualityWeights)
        return .model(other, try EmbeddingQuality(other, estimator))
    }

    // MARK: - Results

    private func present(_ reports: [DiscardReport], _ command: Evaluate) throws {
        if command.json {
            Output.show(try Output.json(reports))
        } else {
            for report in reports { print(Self.summary(report)) }
        }
        guard let output = command.output else { return }
        for report in reports {
            let stem = output + "/" + report.facts.dataset.replacing("/", with: "-") + "-edc"
            try Output.write(Output.json(report), to: stem + ".json")
            try Output.write(Self.table(report), to: stem + ".csv")
            for curve in report.curves {
                let plot = Self.plot(curve, of: report)
                let name = stem + "-fmr-" + Self.short(curve.targetFMR)
                try Output.write(plot.svg(), to: name + ".svg")
                try Output.write(Data(plot.png()), to: name + ".png")
            }
        }
    }

    private static func plot(_ curve: DiscardReport.Curve, of report: DiscardReport) -> Plot {
        DiscardPlot.plot(
            DiscardPlot.Curves(
                "quality", discardRates: report.discardRates, falseNonMatchRates: curve.falseNonMatchRates,
                interval: curve.intervals.map { $0.map { (lower: $0.lower, upper: $0.upper) } },
                random: curve.random.map { $0?.mean }, oracle: curve.oracle),
            title: "\(report.facts.dataset), \(report.facts.pairs.rawValue), FMR \(short(curve.targetFMR)), "
                + "threshold \(report.threshold.rawValue)")
    }

    private static func table(_ report: DiscardReport) -> String {
        func text(_ value: Double?) -> String { value.map { "\($0)" } ?? "" }
        var lines = [
            "target_fmr,discard,discarded,cosine_threshold,fnmr,fnmr_lower,fnmr_upper,random_mean,random_deviation,oracle"
        ]
        for curve in report.curves {
            for rate in report.discardRates.indices {
                let fields = [
                    curve.targetFMR, report.discardRates[rate], report.discarded[rate], curve.thresholds[rate],
                    curve.falseNonMatchRates[rate], curve.intervals[rate]?.lower, curve.intervals[rate]?.upper,
                    curve.random[rate]?.mean, curve.random[rate]?.deviation, curve.oracle[rate],
                ]
                lines.append(fields.map(text).joined(separator: ","))
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// 0.001 as "1e-3".
    private static func short(_ rate: Double) -> String {
        String(format: "%.3g", rate * pow(10, -log10(rate).rounded(.down))) + "e\(Int(log10(rate).rounded(.down)))"
    }

    static func summary(_ report: DiscardReport) -> String {
        func percent(_ value: Double?) -> String { value.map { String(format: "%.3f %%", 100 * $0) } ?? "–" }
        func area(_ value: Double?) -> String { value.map { String(format: "%.6f", $0) } ?? "–" }
        let facts = report.facts
        var lines = [
            "\(facts.dataset), \(facts.pairs.rawValue): \(report.images) images, \(report.pairs) pairs "
                + "(\(report.genuinePairs) genuine), threshold \(report.threshold.rawValue), flip \(facts.flip.rawValue), "
                + "degradation \(facts.degradation)",
            "  embeddings of \(facts.embeddings); quality: \(facts.quality), of a pair the lesser of its images'",
            "  random: mean ± deviation of \(report.randomOrders) orders of the images; oracle: failing pairs first"
                + (report.samples > 0 ? "; 95 % intervals: \(report.samples) samples of \(report.resampled)" : ""),
        ]
        for curve in report.curves {
            lines.append(
                "  FMR \(short(curve.targetFMR))  (reached \(curve.reachedFMR.map { String(format: "%.4g", $0) } ?? "–"), "
                    + "cosine above \(curve.thresholds[0].map { String(format: "%.4f", $0) } ?? "–"))"
                    + (report.samples > 0 && !curve.resamplesThreshold ? ", held in the samples" : ""))
            let shown = report.discardRates.indices.filter { rate in
                [0, 0.05, 0.1, 0.2, 0.3, 0.5].contains { abs(report.discardRates[rate] - $0) < 1e-9 }
            }
            lines.append(
                "    FNMR  "
                    + shown.map {
                        "\(percent(curve.falseNonMatchRates[$0])) at \(Int((100 * report.discardRates[$0]).rounded())) %"
                    }
                    .joined(separator: ", "))
            for one in curve.areas {
                let interval = one.interval.map { "  (95 %: \(area($0.lower))–\(area($0.upper)))" } ?? ""
                let random = one.random.map { "\(area($0.mean)) ± \(area($0.deviation))" } ?? "–"
                let gain = one.gain.map { "   below random by \(area($0.mean)) ± \(area($0.deviation))" } ?? ""
                lines.append(
                    "    area to \(one.upTo)  \(area(one.quality))\(interval)   random \(random)   oracle \(area(one.oracle))"
                        + gain)
            }
        }
        return lines.joined(separator: "\n")
    }
}
