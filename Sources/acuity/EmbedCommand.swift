import ArgumentParser
import Artifacts
import Collectives
import Evaluation
import FaceData
import Foundation
import Layers
import Networks
import Recipes
import Telemetry
import Tensors
import Training

struct Embed: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Embed images: safetensors with names, or CSV.",
        discussion: """
            acuity embed --weights runs/first --images photos --output embeddings

            Writes PREFIX.safetensors (tensor 'embeddings', one row per image) and PREFIX.names.txt (one key per line), or \
            PREFIX.csv with --csv. Embeddings are raw unless --normalise is given; with --flip the raw embedding of the \
            mirror image is added first.
            """)

    @Option(help: "A weights file or a run folder.")
    var weights: String

    @Option(help: "A folder of identity folders, a list, a .rec file; with --pairs the image folder of a pairs file.")
    var images: String

    @Option(help: "The folder that a list's paths are relative to.")
    var folder: String?

    @Option(help: "Embed the images of this pairs file (LFW's format) instead of all.")
    var pairs: String?

    @Option(help: "Prefix of the files written.")
    var output: String

    @Flag(help: "Add the raw embedding of the mirror image.")
    var flip = false

    @Flag(help: "Scale embeddings to unit length.")
    var normalise = false

    @Flag(help: "Write CSV instead of safetensors.")
    var csv = false

    @OptionGroup var embedding: EmbeddingOptions

    @OptionGroup var session: SessionOptions

    /// What is embedded: a source of images, or the images of a pair set.
    private struct Images: Sendable {
        var count: Int
        var key: @Sendable (Int) -> String
        var image: @Sendable (Int) throws -> RGBImage
    }

    func run() throws {
        try Session.run(session) { environment in
            let communicator = environment.communicator
            let (network, card, images) = try communicator.together("set-up") {
                let (network, card, _) = try ModelFile.open(weights)
                if environment.isRoot { try Output.folder(ofPrefix: output) }
                return (network, card, try open())
            }
            let embedder = embedding.embedder(network, card.preprocessing, environment)
            let progress = environment.progressDisplay(images.count)
            let gathered = try embedder.gatherEmbeddings(
                count: images.count, flip: flip, communicator: communicator, image: images.image
            ) { progress.update(min(images.count, $0 * communicator.size), "embedding") }
            progress.finish()
            try communicator.together("output") {
                if let gathered { try write(gathered, images, dimension: embedder.embeddingSize, card) }
            }
            return Training.ExitCode.success
        }
    }

    private func open() throws -> Images {
        if let pairs {
            let set = try PairSet.text(pairs, folder: images)
            return Images(count: set.imageCount, key: { set.key(of: $0) }, image: { try set.image(at: $0) })
        }
        let source = try FaceSources.open(images, folder: folder)
        return Images(count: source.count, key: { source.key(of: $0) }, image: { try source.image(at: $0) })
    }

    private func write(
        _ gathered: (plain: [Float], mirrored: [Float]?), _ images: Images, dimension: Int, _ card: ModelFile.Card
    ) throws {
        var values = gathered.plain
        if let mirrored = gathered.mirrored { for i in values.indices { values[i] += mirrored[i] } }
        if normalise { values = try Embeddings(values, dimension: dimension).normalised().values }
        let names = (0..<images.count).map(images.key)
        if csv {
            let lines = names.enumerated().map { row, name in
                name + "," + values[row * dimension..<(row + 1) * dimension].map { "\($0)" }.joined(separator: ",")
            }
            let header = "image," + (0..<dimension).map { "e\($0)" }.joined(separator: ",")
            try Output.write(lines: [header] + lines, to: output + ".csv")
            print("\(output).csv: \(images.count) x \(dimension)")
            return
        }
        let tensor = Tensor([images.count, dimension], values)
        var metadata = card.metadata
        metadata["acuity.flip"] = flip ? "sum" : "none"
        metadata["acuity.normalised"] = normalise ? "true" : "false"
        try WeightsFile.write(output + ".safetensors", [(name: "embeddings", tensor: tensor)], metadata: metadata)
        try Output.write(lines: names, to: output + ".names.txt")
        print("\(output).safetensors: \(images.count) x \(dimension); names in \(output).names.txt")
    }
}
