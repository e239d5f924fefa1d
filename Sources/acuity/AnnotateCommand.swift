import ArgumentParser
import Artifacts
import Collectives
import Evaluation
import FaceData
import Foundation
import Layers
import Logging
import Networks
import Telemetry
import Tensors
import Training

struct Annotate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Give each image of a labelled set a quality from how a recogniser does on it.",
        discussion: """
            acuity annotate faces --weights runs/first --output quality.tsv

            In each round an image is compared with some others of its identity and with some of other identities; the \
            Wasserstein distance between the two sets of cosines, scaled to 0...100 over the set, is its quality, and the \
            mean of the rounds is written: a line 'key<TAB>quality' per image in the order of the data, and OUTPUT.json with \
            what it was made from. Keys may hold spaces: split at the last tab only. docs/quality.md says more.
            """)

    @Argument(help: "A folder of identity folders, a list, or a .rec file.")
    var data: String

    @Option(help: "The recogniser: a weights file or a run folder.")
    var weights: String

    @Option(help: "The table to write; its folder also holds the embeddings while the command runs.")
    var output: String

    @Option(help: "Rounds of drawing.")
    var rounds = 12

    @Option(help: "Images drawn of the own identity, and of others, in a round.")
    var pairs = 24

    @Option(help: "What is drawn hangs on it, and not on the number of ranks.")
    var seed: UInt64 = 0

    @OptionGroup var collection: CollectionOptions

    @OptionGroup var embedding: EmbeddingOptions

    @Flag(help: "Print the summary as JSON.")
    var json = false

    @OptionGroup var session: SessionOptions

    func validate() throws {
        if !(1...10_000).contains(rounds) { throw ValidationError("--rounds must lie in 1...10000") }
        if !(1...10_000).contains(pairs) { throw ValidationError("--pairs must lie in 1...10000") }
    }

    func run() throws {
        try Session.run(session) { environment in
            let communicator = environment.communicator
            let (model, images) = try communicator.together("set-up") {
                let model = try ModelFile.model(weights)
                let images = try collection.open(data)
                if environment.isRoot {
                    try Output.place(for: output)
                    try Output.place(for: output + ".json")
                    try checkKeys(images)
                }
                return (model, images)
            }
            for note in images.notes { environment.logger.info("\(images.location): \(note)") }
            let embedder = embedding.embedder(model.network, model.card.preprocessing, environment)
            let progress = environment.progressDisplay(images.count + rounds)
            let options = QualityAnnotation.Options(rounds: rounds, pairs: pairs, seed: seed)
            let annotation = try embedder.annotate(
                images, options: options, skipDamaged: collection.skipDamaged, scratch: output + ".embeddings-",
                communicator: communicator
            ) { stage in
                switch stage {
                case .embedding(let done): progress.update(min(images.count, done * communicator.size), "embedding")
                case .rounds(let done): progress.update(images.count + done, "round \(done) of \(rounds)")
                }
            }
            progress.finish()
            try communicator.together("output") {
                if let annotation { try present(annotation, images, model) }
            }
            return Training.ExitCode.success
        }
    }

    /// Every image needs a line of its own in the table.
    private func checkKeys(_ images: ImageCollection) throws {
        var places: [String: Int] = [:]
        for index in 0..<images.count {
            let key = images.key(index)
            if let problem = QualityTable.problem(withKey: key) {
                throw FaceDataError(
                    .malformed, file: images.location, "image \(index) has \(problem)", advice: "rename the file")
            }
            if let before = places.updateValue(index, forKey: key) {
                throw FaceDataError(
                    .malformed, file: images.location, "\(key) is listed twice, as image \(before) and image \(index)",
                    advice: "a table of qualities has one line per image: remove one")
            }
        }
    }

    /// What the table was made from, and how it came out.
    private struct Summary: Encodable {
        var output: String
        var data: String
        var degradation: String
        var weights: String
        var network: String
        var rounds: Int
        var pairs: Int
        var seed: UInt64
        var images: Int
        var annotated: Int
        var identities: Int
        var droppedIdentities: Int
        var unreadable: Int
        var lowest: Float
        var mean: Double
        var highest: Float
        var imagesPerSecond: Double
        var roundSeconds: Double
    }

    private func present(_ annotation: Annotation, _ images: ImageCollection, _ model: ModelFile.Model) throws {
        for (_, reason) in annotation.skipped.sorted(by: { $0.key < $1.key }) { Session.warn("left out \(reason)") }
        try QualityTable.write(output, count: images.count) { index in
            annotation.values[index].map { (images.key(index), $0) }
        }
        let known = annotation.values.compactMap { $0 }
        let summary = Summary(
            output: output, data: images.location, degradation: images.degradation, weights: model.path,
            network: model.card.specification.name, rounds: rounds, pairs: pairs, seed: seed, images: images.count,
            annotated: known.count, identities: annotation.identities,
            droppedIdentities: annotation.droppedIdentities, unreadable: annotation.skipped.count,
            lowest: known.min() ?? 0, mean: known.reduce(0) { $0 + Double($1) } / Double(max(1, known.count)),
            highest: known.max() ?? 0,
            imagesPerSecond: Double(images.count) / max(annotation.embeddingSeconds, 1e-9),
            roundSeconds: annotation.roundSeconds)
        let text = try Output.json(summary)
        try Output.write(text, to: output + ".json")
        if json {
            Output.show(text)
            return
        }
        print("\(output): \(known.count) of \(images.count) images, \(annotation.identities) identities")
        print(
            String(
                format: "  quality %.2f to %.2f, mean %.2f (%ld rounds of %ld and %ld images, seed %llu)",
                summary.lowest,
                summary.highest, summary.mean, rounds, pairs, pairs, seed))
        if annotation.droppedIdentities > 0 {
            print("  \(annotation.droppedIdentities) identities have a single image, and no line")
        }
        print(
            String(
                format: "  %.1f images/s embedded, %.1f s of rounds", summary.imagesPerSecond, summary.roundSeconds))
    }
}
