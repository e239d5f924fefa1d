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
import Telemetry
import Tensors
import Training

extension QualityEstimator: ExpressibleByArgument {}

struct Score: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Give each image a quality: CSV or JSON lines, and a sheet from worst to best.",
        discussion: """
            acuity score photos --weights runs/first --output scores.csv --sheet scores.png
            acuity score photos --estimator annotation --table quality.tsv --output scores.csv

            Estimators: norm (length of the embedding), cr-fiqa (the weights' quality head), sdd-fiqa (the weights' regression \
            of annotations), annotation (a table that 'acuity annotate' made). By default the head that the weights have, else \
            norm. A larger number is a better image; docs/quality.md says what each means.
            """)

    @Argument(help: "A folder of images or of identity folders, a list, a .rec file, or a .bin set of pairs.")
    var data: String

    @Option(help: "A weights file or a run folder.")
    var weights: String?

    @Option(help: "What gives the quality: \(QualityEstimator.names).")
    var estimator: QualityEstimator?

    @Option(help: "The table of --estimator annotation.")
    var table: String?

    @Option(help: "The file to write: .csv, or .jsonl for JSON lines.")
    var output: String

    @Option(help: "A picture (PNG) of images evenly over the ranking, worst first.")
    var sheet: String?

    @Option(help: "Images on the sheet.")
    var tiles = 48

    @Option(help: "Print the best images, so many.")
    var top = 0

    @Option(help: "Print the worst images, so many.")
    var bottom = 0

    @OptionGroup var collection: CollectionOptions

    @OptionGroup var embedding: EmbeddingOptions

    @Flag(help: "Print the summary as JSON.")
    var json = false

    @OptionGroup var session: SessionOptions

    func validate() throws {
        if let sheet, !sheet.lowercased().hasSuffix(".png") { throw ValidationError("--sheet is a PNG: end its name in .png") }
        if !(1...1024).contains(tiles) { throw ValidationError("--tiles must lie in 1...1024") }
        if top < 0 || bottom < 0 { throw ValidationError("--top and --bottom count images") }
        guard output.hasSuffix(".csv") || output.hasSuffix(".jsonl") else {
            throw ValidationError("--output must end in .csv or .jsonl")
        }
        if estimator == .annotation {
            guard table != nil, weights == nil else {
                throw ValidationError("--estimator annotation takes --table, and no --weights")
            }
        } else {
            guard weights != nil, table == nil else {
                throw ValidationError("give --weights, or --estimator annotation")
            }
        }
    }

    func run() throws {
        try Session.run(session) { environment in
            let communicator = environment.communicator
            let images = try communicator.together("images") {
                let images = try collection.open(data)
                if environment.isRoot {
                    try Output.place(for: output)
                    if let sheet { try Output.place(for: sheet) }
                }
                return images
            }
            for note in images.notes { environment.logger.info("\(images.location): \(note)") }
            let found = try table.map { try byTable($0, images, environment) } ?? byModel(images, environment)
            try communicator.together("output") {
                if let scores = found.scores { try present(scores, found.estimator, found.source, images) }
            }
            return Training.ExitCode.success
        }
    }

    private typealias Found = (scores: ImageScores?, estimator: QualityEstimator, source: String)

    private func byTable(_ path: String, _ images: ImageCollection, _ environment: RunEnvironment) throws -> Found {
        let scores = try environment.communicator.together("qualities") { () -> ImageScores? in
            guard environment.isRoot else { return nil }
            let values = try QualityTable(path)
                .qualities(count: images.count, of: images.location, missing: .value(.nan), key: images.key).values
            return ImageScores(values: values.map { $0.isNaN ? nil : $0 }, skipped: [:], seconds: 0)
        }
        return (scores, .annotation, path)
    }

    private func byModel(_ images: ImageCollection, _ environment: RunEnvironment) throws -> Found {
        let communicator = environment.communicator
        let (model, quality) = try communicator.together("weights") {
            let model = try ModelFile.model(weights!)
            return (model, try EmbeddingQuality(model, estimator))
        }
        let embedder = embedding.embedder(model.network, model.card.preprocessing, environment)
        let progress = environment.progressDisplay(images.count)
        let scores = try embedder.score(
            images, by: quality, skipDamaged: collection.skipDamaged, communicator: communicator
        ) { progress.update(min(images.count, $0 * communicator.size), "scoring") }
        progress.finish()
        return (scores, quality.estimator, model.path)
    }

    // MARK: - Results

    private struct Line: Encodable {
        var image: String
        var quality: Float
    }

    private struct Summary: Encodable {
        var output: String
        var data: String
        var degradation: String
        var estimator: String
        var source: String
        var scale: String
        var images: Int
        var unscored: Int
        var lowest: Float
        var median: Float
        var mean: Double
        var highest: Float
        /// nil where nothing was computed.
        var imagesPerSecond: Double?
        /// As many as --top and --bottom ask for, best and worst first.
        var best: [Line]
        var worst: [Line]
    }

    private func present(
        _ scores: ImageScores, _ estimator: QualityEstimator, _ source: String, _ images: ImageCollection
    ) throws {
        for (_, reason) in scores.skipped.sorted(by: { $0.key < $1.key }) { Session.warn("left out \(reason)") }
        let known = scores.values.enumerated().compactMap { index, value in value.map { (index: index, quality: $0) } }
        guard !known.isEmpty else { throw TrainingError.incompatible("\(images.location): no image could be scored") }
        try writeLines(known, images)
        // Worst first; equal ones in the order of the data.
        let ranked = known.sorted { ($0.quality, $0.index) < ($1.quality, $1.index) }
        if let sheet { try writeSheet(ranked, images, estimator, to: sheet) }
        let summary = Summary(
            output: output, data: images.location, degradation: images.degradation, estimator: estimator.rawValue,
            source: source, scale: estimator.scale, images: images.count, unscored: images.count - known.count,
            lowest: ranked[0].quality, median: ranked[(ranked.count - 1) / 2].quality,
            mean: known.reduce(0) { $0 + Double($1.quality) } / Double(known.count),
            highest: ranked[ranked.count - 1].quality,
            imagesPerSecond: scores.seconds > 0 ? Double(images.count) / scores.seconds : nil,
            best: ranked.suffix(top).reversed().map { Line(image: images.key($0.index), quality: $0.quality) },
            worst: ranked.prefix(bottom).map { Line(image: images.key($0.index), quality: $0.quality) })
        if json {
            Output.show(try Output.json(summary))
        } else {
            print("\(output): \(known.count) images, quality by \(estimator.rawValue) of \(source)")
            print("  \(estimator.scale)")
            print(
                String(
                    format: "  lowest %.4g, median %.4g, mean %.4g, highest %.4g", summary.lowest, summary.median,
                    summary.mean, summary.highest))
            if summary.unscored > 0 { print("  \(summary.unscored) images have no quality") }
            if let rate = summary.imagesPerSecond { print(String(format: "  %.1f images/s", rate)) }
            for line in summary.best { print("  best   \(line.quality)  \(line.image)") }
            for line in summary.worst { print("  worst  \(line.quality)  \(line.image)") }
        }
    }

    private func writeLines(_ known: [(index: Int, quality: Float)], _ images: ImageCollection) throws {
        var text = Data()
        if output.hasSuffix(".csv") {
            text += Data("image,quality\n".utf8)
            for entry in known { text += Data("\(CSV.field(images.key(entry.index))),\(entry.quality)\n".utf8) }
        } else {
            for entry in known {
                text += try Output.jsonLine(Line(image: images.key(entry.index), quality: entry.quality))
            }
        }
        try Output.write(text, to: output)
    }

    private func writeSheet(
        _ ranked: [(index: Int, quality: Float)], _ images: ImageCollection, _ estimator: QualityEstimator,
        to path: String
    ) throws {
        let count = min(tiles, ranked.count)
        let items = try (0..<count).map { tile in
            let entry = ranked[count == 1 ? 0 : tile * (ranked.count - 1) / (count - 1)]
            return ContactSheet.Item(
                try images.image(entry.index), caption: [String(format: "%.4g", entry.quality)])
        }
        let columns = min(count, max(4, Int((Double(4 * count) / 3).squareRoot().rounded(.up))))
        let sheet = ContactSheet(
            items, columns: columns, title: "\(estimator.rawValue): \(ranked.count) images, worst to best")
        try Output.write(Data(sheet.png()), to: path)
    }
}
