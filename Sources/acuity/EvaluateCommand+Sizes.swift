import ArgumentParser
import Collectives
import Evaluation
import FaceData
import Figures
import Foundation
import Recipes
import Telemetry
import Tensors
import Training

/// `acuity evaluate --sizes`: one list of pairs at several resolutions.
extension Evaluate {
    private var wantedSizes: [Int] { sizes.flatMap(\.values) }

    func validateSizes() throws {
        if down != nil || up != nil, sizes.isEmpty, degrade.flatMap({ Int($0) }) == nil {
            throw ValidationError("--down and --up go with --sizes, or with a side in pixels as --degrade")
        }
        if sides != nil, sizes.isEmpty, degrade == nil { throw ValidationError("--sides goes with --sizes or --degrade") }
        if down != nil || up != nil, discard.allPairs {
            throw ValidationError("--all-pairs takes no --down and --up")
        }
        if sizes.isEmpty { return }
        if discard.edc { throw ValidationError("give --sizes or --edc") }
        if degrade != nil { throw ValidationError("give --sizes or --degrade") }
        let wanted = wantedSizes
        guard wanted.allSatisfy({ (1...ResolutionSweep.whole).contains($0) }), Set(wanted).count == wanted.count else {
            throw ValidationError("--sizes takes different sides in pixels, 1 to \(ResolutionSweep.whole)")
        }
    }

    /// One table for each list of pairs.
    func compareSizes(_ sections: [PairSetSection], _ environment: RunEnvironment) throws {
        let communicator = environment.communicator
        let sweeps = try communicator.together("evaluation sets") {
            try sections.map { section -> ResolutionSweep in
                guard section.degrade == nil else {
                    throw TrainingError.incompatible(
                        "evaluation set '\(section.name)' has 'degrade' already; --sizes is for images as they are")
                }
                var section = section
                section.sides = sides ?? .both
                section.down = down?.rawValue
                section.up = up?.rawValue
                return ResolutionSweep(
                    try VerificationSets.open(section), sizes: wantedSizes, sides: VerificationSets.sides(section),
                    kernels: try VerificationSets.kernels(section))
            }
        }
        let reports =
            pixels
            ? try pixelReports(sweeps, environment)
            : try networkReports(sweeps, flips: sections.map(\.flip), environment)
        try communicator.together("report") {
            if environment.isRoot { try present(reports, sweeps) }
        }
    }

    /// By list, then by size; empty lists but on rank 0.
    private func networkReports(
        _ sweeps: [ResolutionSweep], flips: [Bool], _ environment: RunEnvironment
    ) throws -> [[VerificationReport]] {
        let communicator = environment.communicator
        let (network, preprocessing) = try communicator.together("weights") { try model(environment) }
        let embedder = embedding.embedder(network, preprocessing, environment)
        return try zip(sweeps, flips).map { sweep, flip -> [VerificationReport] in
            let progress = ProgressDisplay(
                total: sweep.imageCount, style: environment.isRoot ? environment.progress : .never)
            let reports = try embedder.verify(sweep, flip: flip ? .sum : .none, communicator: communicator) {
                progress.update(min(sweep.imageCount, $0 * communicator.size), sweep.name)
            }
            progress.finish()
            return reports ?? []
        }
    }

    private func pixelReports(
        _ sweeps: [ResolutionSweep], _ environment: RunEnvironment
    ) throws -> [[VerificationReport]] {
        try environment.communicator.together("pixel correlation") {
            guard environment.isRoot else { return [] }
            return try sweeps.map { sweep -> [VerificationReport] in
                let images = try (0..<sweep.imageCount).map { PixelCorrelation(try sweep.image($0)) }
                return try sweep.entries.map { entry -> VerificationReport in
                    let scores = try PairScores(
                        similarities: entry.pairs.map { try images[$0.first].similarity(to: images[$0.second]) },
                        same: entry.pairs.map(\.same))
                    return try VerificationReport(
                        scores,
                        facts: VerificationFacts(
                            dataset: entry.name, flip: .none, degradation: entry.degradation, score: "pixel correlation"
                        ),
                        folds: sweep.folds)
                }
            }
        }
    }

    // MARK: - Results

    private func present(_ reports: [[VerificationReport]], _ sweeps: [ResolutionSweep]) throws {
        if json {
            print(String(decoding: try Output.json(reports.flatMap { $0 }), as: UTF8.self), terminator: "")
        } else {
            for (reports, sweep) in zip(reports, sweeps) { print(Self.summary(reports, sweep)) }
        }
        guard let output else { return }
        for (reports, sweep) in zip(reports, sweeps) {
            try write(reports, to: output)
            let stem = output + "/" + sweep.name.replacing("/", with: "-") + "-sizes"
            try Output.write(Data(Self.table(reports, sweep).utf8), to: stem + ".csv")
            let plot = ROCPlot.plot(
                zip(reports, sweep.entries).map { report, entry in
                    ROCPlot.Curve(
                        "\(entry.size) px", falseAcceptRates: report.roc.points.map(\.falsePositiveRate),
                        trueAcceptRates: report.roc.points.map(\.truePositiveRate))
                }, title: sweep.name)
            try Output.write(Data(plot.svg().utf8), to: stem + "-roc.svg")
            try Output.write(Data(plot.png()), to: stem + "-roc.png")
        }
    }

    private static func table(_ reports: [VerificationReport], _ sweep: ResolutionSweep) -> String {
        var header = ["size", "accuracy", "deviation", "any_threshold_accuracy"]
        if let first = reports.first { header += first.tar.map { "tar_at_far_\($0.targetFAR)" } }
        header += ["eer", "auc", "mean_norm"]
        var lines = [header.joined(separator: ",")]
        for (report, entry) in zip(reports, sweep.entries) {
            var figures = [report.accuracy.mean, report.accuracy.deviation, report.exactAccuracy.mean]
            figures += report.tar.map(\.rate)
            figures += [report.equalErrorRate, report.areaUnderCurve]
            var words = ["\(entry.size)"]
            words += figures.map { "\($0)" }
            words.append(report.meanNorm.map { "\($0)" } ?? "")
            lines.append(words.joined(separator: ","))
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func summary(_ reports: [VerificationReport], _ sweep: ResolutionSweep) -> String {
        guard let first = reports.first else { return "\(sweep.name): no sizes" }
        func percent(_ value: Double) -> String { String(format: "%.2f", 100 * value) }
        var header = ["size", "accuracy %", "±", "any threshold %"]
        header += first.tar.map { "TAR at \(farText($0.targetFAR)) %" }
        header += ["EER %", "mean norm", "reduced"]
        var rows = [header]
        for (report, entry) in zip(reports, sweep.entries) {
            var row = ["\(entry.size)", percent(report.accuracy.mean), percent(report.accuracy.deviation)]
            row.append(percent(report.exactAccuracy.mean))
            row += report.tar.map { percent($0.rate) }
            row.append(percent(report.equalErrorRate))
            row.append(report.meanNorm.map { String(format: "%.3f", $0) } ?? "–")
            row.append(entry.degradation)
            rows.append(row)
        }
        let title =
            "\(sweep.name) at \(reports.count) sizes: \(first.pairs) pairs (\(first.genuinePairs) genuine), "
            + "\(first.folds) folds, score \(first.facts.score), flip \(first.facts.flip.rawValue)"
        return ([title] + TextTable.lines(rows)).joined(separator: "\n")
    }
}
