import ArgumentParser
import Artifacts
import FaceData
import Foundation
import Networks
import Training

struct Import: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Turn a PyTorch state (as safetensors) into a weights file with its preprocessing.",
        discussion: """
            acuity import mobilefacenet.safetensors --network mobilefacenet --embedding 128 --input 112x96 --scale 128 \\
                --output weights.safetensors

            Nothing is unpickled here: scripts/reference/pth_to_safetensors.py turns a .pth into safetensors.
            """)

    @Argument(help: "A state dict as safetensors.")
    var state: String

    @Option(help: "The backbone: \(NetworkSpecification.names.joined(separator: ", ")).")
    var network: String

    @Option(help: "Length of the embedding.")
    var embedding = 512

    @Option(help: "Height and width of the input: 112x112 or 112x96.")
    var input = "112x112"

    @Option(help: "Width factor (mobilefacenet).")
    var width = 1.0

    @Option(help: "Channel order: rgb or bgr.")
    var channels = "rgb"

    @Option(help: "A byte v becomes (v - mean) / scale.")
    var mean: Float = 127.5

    @Option(help: "See --mean.")
    var scale: Float = 127.5

    @Option(help: "The weights file to write.")
    var output: String

    func validate() throws {
        guard size != nil else { throw ValidationError("--input \(input): write HEIGHTxWIDTH, e.g. 112x96") }
        guard Preprocessing.ChannelOrder(rawValue: channels) != nil else {
            throw ValidationError("--channels must be rgb or bgr")
        }
        guard scale != 0, scale.isFinite, mean.isFinite else { throw ValidationError("--scale must not be 0") }
        guard (16...ModelFile.longestEmbedding).contains(embedding) else {
            throw ValidationError("--embedding must lie in 16...\(ModelFile.longestEmbedding)")
        }
        guard (0.125...8).contains(width) else { throw ValidationError("--width must lie in 0.125...8") }
    }

    private var size: (height: Int, width: Int)? {
        let parts = input.split(separator: "x").map { Int($0) ?? 0 }
        return parts.count == 2 && parts.allSatisfy { (1...112).contains($0) } ? (parts[0], parts[1]) : nil
    }

    func run() throws {
        let (height, columns) = size!
        try Command.run {
            let specification = NetworkSpecification(
                network, embeddingSize: embedding, inputHeight: height, inputWidth: columns, width: width)
            let built = try specification.build()
            let file = try WeightsFile(state)
            let match = try ModelFile.load(file, into: built)
            let head = try QualityHead.read(file, .certainty, embeddingSize: embedding)
            let separationHead = try QualityHead.read(file, .separation, embeddingSize: embedding)
            if let name = ModelFile.nonFinite(built) {
                throw ArtifactError.damaged(path: state, reason: "tensor '\(name)' holds values that are not finite")
            }
            try Output.folder(of: output)
            let preprocessing = Preprocessing(
                channelOrder: Preprocessing.ChannelOrder(rawValue: channels)!, mean: mean, scale: scale,
                crop: .init(x: (112 - columns) / 2, y: (112 - height) / 2, width: columns, height: height))
            try ModelFile.write(
                built, card: .init(specification: specification, preprocessing: preprocessing), qualityHead: head,
                separationHead: separationHead, to: output)
            print(
                "\(output): \(network), \(match.loaded.count) tensors, \(built.parameterCount) parameters"
                    + (head == nil && separationHead == nil ? "" : ", and a quality head"))
        }
    }
}

struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write the backbone of a run as safetensors with PyTorch's names.")

    @Argument(help: "A run folder or a weights file.")
    var model: String

    @Option(help: "The file to write.")
    var output: String

    func run() throws {
        try Command.run {
            let opened = try ModelFile.model(model)
            let (network, head) = (opened.network, opened.qualityHead)
            try Output.folder(of: output)
            try ModelFile.write(
                network, card: opened.card, qualityHead: head, separationHead: opened.separationHead, to: output)
            print(
                "\(output): \(opened.card.specification.name) from \(opened.path), \(network.state.count) tensors"
                    + (head == nil && opened.separationHead == nil ? "" : ", and a quality head"))
        }
    }
}

/// Runs a command that needs no ranks; ends the program with one clear error and its code.
enum Command {
    /// Under a launcher rank 0 does it alone: the others would write the same files and print the same lines.
    static func run(_ body: () throws -> Void) throws {
        if Launch.rank > 0 { Foundation.exit(0) }
        do {
            try body()
        } catch let error as ExitCodeRequest {
            Foundation.exit(error.code)
        } catch {
            Session.complain("\(error)")
            Foundation.exit(Training.ExitCode.of(error))
        }
    }
}

/// Ends a command with a code after it has said why.
struct ExitCodeRequest: Error {
    let code: Int32
}
