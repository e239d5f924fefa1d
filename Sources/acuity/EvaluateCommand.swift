import ArgumentParser
import Artifacts
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

struct Evaluate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Verify pairs of faces: 10-fold accuracy, TAR at FAR, EER, ROC; identification; error versus discard.",
        discussion: """
            acuity evaluate --weights runs/first --set lfw.bin
            acuity evaluate --weights model.safetensors --set faces/lfw --pairs faces/lfw-protocol/pairs.txt
            acuity evaluate --weights runs/quickstart --recipe configs/quickstart.yaml --output report

            The sets are those of --recipe, or the one that --set names. Figures are of insightface's protocol: sum of the \
            embeddings of image and mirror image, ten folds, thresholds in steps of 0.01.

            acuity evaluate --edc --weights model.safetensors --set lfw.bin
            acuity evaluate --edc --all-pairs --weights a.safetensors --quality-weights b.safetensors --set faces

            With --edc: the false non-match rate as the pairs of lowest quality are left out (docs/quality.md).

            acuity evaluate --weights model.safetensors --set lfw.bin --sizes 112,20,16,12,8 --sides first --down bilinear \
            --up bilinear
            acuity evaluate --weights model.safetensors --protocol tinyface --set tinyface/Testing_Set
            acuity evaluate --weights model.safetensors --protocol scface --set scface --subjects 51-130

            With --sizes: the pairs at several resolutions in one table. With --protocol: closed-set identification \
            (docs/evaluation.md).
            """)

    @Option(help: "A weights file, or a run folder (its newest checkpoint).")
    var weights: String?

    @Option(help: "Instead of weights: a recipe's network with its starting values.")
    var untrained: String?

    @Flag(help: "Instead of weights: compare images by the correlation of their pixels.")
    var pixels = false

    @Option(help: "Take the evaluation sets of this recipe.")
    var recipe: String?

    @Option(help: "A .bin file, the image folder of a pairs file, 'synthetic'; the folder of --protocol.")
    var set: String?

    @Option(help: "A pairs file in the format of LFW's pairs.txt.")
    var pairs: String?

    @Option(help: "Degrade on the way in: a side in pixels (16), or a table such as lfw-mixed.tsv.")
    var degrade: String?

    @Option(parsing: .upToNextOption, help: "Verify at these sizes in pixels, 112,16,8; 112 leaves images as they are.")
    var sizes: [NumberList] = []

    @Option(help: "Which images of a pair are degraded: first, one (the second) or both (the default).")
    var sides: PairSetSection.Sides?

    @Option(help: "The kernel that reduces to a size; box by default.")
    var down: ResizeKernel?

    @Option(help: "The kernel that enlarges again; bicubic by default.")
    var up: ResizeKernel?

    @Flag(inversion: .prefixedNo, help: "Add the embedding of the mirror image.")
    var flip = true

    @OptionGroup var embedding: EmbeddingOptions

    @Option(help: "A folder for the report: JSON, ROC as SVG, PNG and data.")
    var output: String?

    @Flag(help: "Print the whole report as JSON.")
    var json = false

    @OptionGroup(title: "Identification") var identification: IdentificationArguments

    @OptionGroup(title: "Error versus discard") var discard: DiscardArguments

    @OptionGroup var session: SessionOptions

    func validate() throws {
        try discard.validate(self)
        try identification.validate(self)
        try validateSizes()
        guard [weights != nil, untrained != nil, pixels].filter({ $0 }).count == 1 else {
            throw ValidationError("give one of --weights, --untrained, --pixels")
        }
        guard (recipe != nil) != (set != nil) else { throw ValidationError("give --recipe or --set") }
        if set == nil, pairs != nil || degrade != nil || discard.allPairs {
            throw ValidationError("--pairs, --degrade and --all-pairs go with --set")
        }
    }

    func run() throws {
        try Session.run(session) { environment in
            if discard.edc {
                try discard.run(self, environment)
                return Training.ExitCode.success
            }
            if let rules = identification.rules {
                try identification.run(self, rules, environment)
                return Training.ExitCode.success
            }
            let sections = try environment.communicator.together("evaluation sets") {
                let sections = try self.sections()
                // Before the work, not after it.
                if environment.isRoot, let output { try Output.folder(output) }
                return sections
            }
            if !sizes.isEmpty {
                try compareSizes(sections, environment)
                return Training.ExitCode.success
            }
            let reports = pixels ? try byPixels(sections, environment) : try byNetwork(sections, environment)
            try environment.communicator.together("report") {
                if environment.isRoot { try present(reports) }
            }
            return Training.ExitCode.success
        }
    }

    func sections() throws -> [PairSetSection] {
        if let recipe {
            let sets = try Recipe(files: [recipe], overrides: []).evaluation.sets
            guard !sets.isEmpty else { throw TrainingError.incompatible("\(recipe) has no evaluation.sets") }
            return sets
        }
        var section = PairSetSection()
        section.path = set!
        section.pairs = pairs
        section.degrade = degrade
        section.sides = sides ?? .both
        if degrade != nil { (section.down, section.up) = (down?.rawValue, up?.rawValue) }
        section.flip = flip
        section.name = setName
        return [section]
    }

    /// The set's file name, with what was done to its images.
    var setName: String {
        let stem = URL(filePath: set!).deletingPathExtension().lastPathComponent
        return degrade.map { "\(stem)@\(URL(filePath: $0).deletingPathExtension().lastPathComponent)" } ?? stem
    }

    // MARK: - Scores

    private func byNetwork(
        _ sections: [PairSetSection], _ environment: RunEnvironment
    ) throws -> [VerificationReport] {
        let communicator = environment.communicator
        let (network, preprocessing, sets) = try communicator.together("weights") {
            let (network, preprocessing) = try model(environment)
            return (network, preprocessing, try sections.map { try VerificationSets.open($0) })
        }
        let embedder = embedding.embedder(network, preprocessing, environment)
        var reports: [VerificationReport] = []
        for (section, set) in zip(sections, sets) {
            let progress = environment.progressDisplay(set.imageCount)
            let report = try embedder.verify(set, flip: section.flip ? .sum : .none, communicator: communicator) {
                progress.update(min(set.imageCount, $0 * communicator.size), set.name)
            }
            progress.finish()
            if let report { reports.append(report) }
        }
        return reports
    }

    func model(_ environment: RunEnvironment) throws -> (Network, Preprocessing) {
        if let weights {
            let (network, card, path) = try ModelFile.open(weights)
            environment.logger.info("\(path): \(card.specification.name), \(card.specification.embeddingSize)-d")
            return (network, card.preprocessing)
        }
        let recipe = try Recipe(files: [untrained!], overrides: [])
        let network = try RunSetup.specification(recipe.network).build()
        network.initialize(seed: recipe.run.seed)
        return (network, RunSetup.preprocessing(recipe))
    }

    private func byPixels(_ sections: [PairSetSection], _ environment: RunEnvironment) throws -> [VerificationReport] {
        try environment.communicator.together("pixel correlation") {
            guard environment.isRoot else { return [] }
            return try sections.map { section in
                let set = try VerificationSets.open(section)
                let images = try (0..<set.imageCount).map { PixelCorrelation(try set.image($0)) }
                let scores = try PairScores(
                    similarities: set.pairs.map { try images[$0.first].similarity(to: images[$0.second]) },
                    same: set.pairs.map(\.same))
                return try VerificationReport(
                    scores,
                    facts: VerificationFacts(
                        dataset: set.name, flip: .none, degradation: set.degradation, score: "pixel correlation"),
                    folds: set.folds)
            }
        }
    }

    // MARK: - Results

    private func present(_ reports: [VerificationReport]) throws {
        if json {
            Output.show(try Output.json(reports))
        } else {
            for report in reports { print(Self.summary(report)) }
        }
        if let output { try write(reports, to: output) }
    }

    /// A report as JSON, and its ROC curve as SVG, PNG and CSV.
    func write(_ reports: [VerificationReport], to output: String) throws {
        for report in reports {
            let stem = output + "/" + report.facts.dataset.replacing("/", with: "-")
            try Output.write(Output.json(report), to: stem + ".json")
            let plot = ROCPlot.plot([
                ROCPlot.Curve(
                    report.facts.dataset, falseAcceptRates: report.roc.points.map(\.falsePositiveRate),
                    trueAcceptRates: report.roc.points.map(\.truePositiveRate))
            ])
            try Output.write(plot.svg(), to: stem + "-roc.svg")
            try Output.write(Data(plot.png()), to: stem + "-roc.png")
            let rows = report.roc.points.map { "\($0.falsePositiveRate),\($0.truePositiveRate)" }
            try Output.write(lines: ["false_accept_rate,true_accept_rate"] + rows, to: stem + "-roc.csv")
        }
    }

    static func summary(_ report: VerificationReport) -> String {
        func percent(_ value: Double) -> String { String(format: "%.2f %%", 100 * value) }
        let interval = report.accuracy.interval
        var lines = [
            "\(report.facts.dataset): \(report.pairs) pairs (\(report.genuinePairs) genuine), \(report.folds) folds, "
                + "score \(report.facts.score), flip \(report.facts.flip.rawValue), degradation \(report.facts.degradation)",
            "  accuracy       \(percent(report.accuracy.mean)) ± \(percent(report.accuracy.deviation))  "
                + "(thresholds in steps of 0.01; 95 %: \(percent(interval.lower))–\(percent(interval.upper)))",
            "  accuracy       \(percent(report.exactAccuracy.mean)) ± \(percent(report.exactAccuracy.deviation))  "
                + "(any threshold)",
        ]
        for tar in report.tar {
            let spread = tar.interval.map { "  (95 %: \(percent($0.lower))–\(percent($0.upper)))" } ?? ""
            lines.append(
                "  TAR at FAR \(farText(tar.targetFAR))  \(percent(tar.rate))\(spread)")
        }
        lines.append(
            "  EER            \(percent(report.equalErrorRate))   AUC \(String(format: "%.5f", report.areaUnderCurve))")
        if let norm = report.meanNorm { lines.append("  mean norm      \(String(format: "%.3f", norm))") }
        return lines.joined(separator: "\n")
    }
}

/// 0.001 as "1e-3".
func farText(_ rate: Double) -> String { String(format: "%.0e", rate).replacing("e-0", with: "e-") }

extension PairSetSection.Sides: ExpressibleByArgument {}
extension ResizeKernel: ExpressibleByArgument {}
