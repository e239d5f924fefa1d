package import Artifacts
package import FaceData
import Foundation
package import Layers
package import Networks
import Objectives
import Tensors

/// A backbone's weights on disk with everything that a command must know to use them: network, sizes, preprocessing.
package enum ModelFile {
    /// The version that files and `--version` state.
    package static let version = "0.1.0"

    /// What a weights file says about itself.
    package struct Card: Sendable, Equatable {
        package var specification: NetworkSpecification
        package var preprocessing: Preprocessing

        package init(specification: NetworkSpecification, preprocessing: Preprocessing) {
            self.specification = specification
            self.preprocessing = preprocessing
        }

        /// As `__metadata__` of a safetensors file.
        package var metadata: [String: String] {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys]
            func json(_ value: some Encodable) -> String {
                guard let data = try? encoder.encode(value) else { preconditionFailure("a card has no JSON") }
                return String(decoding: data, as: UTF8.self)
            }
            return [
                WeightsKey.network: specification.name,
                WeightsKey.input: "3x\(specification.inputHeight)x\(specification.inputWidth)",
                WeightsKey.embedding: "\(specification.embeddingSize)",
                WeightsKey.preprocessing: json(preprocessing),
                WeightsKey.version: ModelFile.version,
                Self.specificationKey: json(specification),
            ]
        }

        /// The complete specification, width factor and dropout included, as JSON.
        package static let specificationKey = "acuity.specification"
    }

    /// - Throws: `ArtifactError.incompatible` when the file lacks its card; `acuity import` writes one.
    package static func card(of file: WeightsFile) throws -> Card {
        func decode<T: Decodable>(_ key: String, as type: T.Type) throws -> T {
            let text = try file.required(key)
            do {
                return try JSONDecoder().decode(type, from: Data(text.utf8))
            } catch {
                throw ArtifactError.incompatible(
                    path: file.path, reason: "its metadata '\(key)' does not parse: \(text)")
            }
        }
        let card = Card(
            specification: try decode(Card.specificationKey, as: NetworkSpecification.self),
            preprocessing: try decode(WeightsKey.preprocessing, as: Preprocessing.self))
        if let problem = problem(card) {
            throw ArtifactError.incompatible(path: file.path, reason: "its metadata is not usable: \(problem)")
        }
        return card
    }

    /// The longest embedding that is built: what a file or an option says becomes memory.
    package static let longestEmbedding = 8192

    /// What no network could be built or fed with.
    private static func problem(_ card: Card) -> String? {
        let preprocessing = card.preprocessing
        let crop = preprocessing.crop
        let sides = 1...4096
        guard sides.contains(preprocessing.faceWidth), sides.contains(preprocessing.faceHeight) else {
            return "a face of \(preprocessing.faceWidth)x\(preprocessing.faceHeight)"
        }
        guard (0..<preprocessing.faceWidth).contains(crop.x), (0..<preprocessing.faceHeight).contains(crop.y),
            (1...preprocessing.faceWidth - crop.x).contains(crop.width),
            (1...preprocessing.faceHeight - crop.y).contains(crop.height)
        else { return "the crop does not lie within the face" }
        guard preprocessing.mean.isFinite, preprocessing.scale.isFinite, preprocessing.scale != 0 else {
            return "(v - \(preprocessing.mean)) / \(preprocessing.scale)"
        }
        let specification = card.specification
        guard crop.width == specification.inputWidth, crop.height == specification.inputHeight else {
            return "the crop is not the network's input"
        }
        guard (1...longestEmbedding).contains(specification.embeddingSize) else {
            return "embeddings of length \(specification.embeddingSize)"
        }
        return nil
    }

    /// Copies a file's tensors into a network's state. Parameters of objectives beside the backbone are let pass
    /// (`QualityHead.read`).
    ///
    /// - Parameter others: parameters of objectives that the file holds as well.
    /// - Returns: what was loaded and what was not.
    /// - Throws: `ArtifactError`, naming every tensor that does not fit (`.strict`).
    @discardableResult
    package static func load(
        _ file: WeightsFile, into network: Network, beside others: [Parameter] = [],
        _ mode: WeightsMatch.Mode = .strict
    ) throws -> WeightsMatch {
        let entries = network.state + others.map { .parameter($0) }
        let beside = QualityHead.names.union(EmbeddingPredictor.names).subtracting(others.map(\.name))
        let match = try file.load(
            entries.map { TensorSpec($0.name, $0.value.shape, $0.value.dtype) }, mode, beside: beside)
        for entry in entries {
            guard let tensor = match.tensors[entry.name] else { continue }
            entry.value.bytes.copyMemory(from: UnsafeRawBufferPointer(tensor.bytes))
        }
        return match
    }

    /// The first tensor of a network that holds a NaN or an infinity.
    package static func nonFinite(_ network: Network) -> String? {
        network.state.first { entry in
            entry.value.dtype == .float32 && !entry.value.floats.allSatisfy(\.isFinite)
        }?.name
    }

    /// The weights file that a path means: itself, or that of a run folder's newest sound checkpoint.
    ///
    /// - Parameters:
    ///   - coordination: of ranks that ask together and share the work.
    ///   - warn: gets a sentence about each damaged checkpoint that was passed over.
    /// - Throws: `ArtifactError` where a folder holds no checkpoint, or only some of the ranks see it; errors of the
    ///   coordination.
    package static func location(
        _ path: String, with coordination: CheckpointCoordination = .alone, warn: (String) -> Void = { _ in }
    ) throws -> String {
        var isFolder: ObjCBool = false
        _ = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
        // Ranks that open a checkpoint together must all do so.
        let isEverywhere = try coordination.confirm(isFolder.boolValue)
        let isNowhere = try coordination.confirm(!isFolder.boolValue)
        if isNowhere { return path }
        guard isEverywhere else {
            throw ArtifactError.incompatible(
                path: path, reason: "only some of the hosts have this folder; it must be one that all see")
        }
        let opened = try CheckpointStore(runFolder: path).open(with: coordination)
        opened.warnings.forEach(warn)
        return opened.checkpoint.folder + "/" + CheckpointContents.modelFile
    }

    /// Opens a weights file, or the newest checkpoint of a run folder, and builds its network.
    ///
    /// - Throws: `ArtifactError`, `NetworkError`.
    package static func open(_ path: String) throws -> (network: Network, card: Card, path: String) {
        let model = try model(path)
        return (model.network, model.card, model.path)
    }

    /// A backbone with what belongs to it.
    package struct Model {
        package let network: Network
        package let card: Card
        /// The file that was opened.
        package let path: String
        /// Where the file has one.
        package let qualityHead: QualityHead?
        package let separationHead: QualityHead?
    }

    /// As `open`, with the quality head that the file may hold.
    ///
    /// - Throws: `ArtifactError`, `NetworkError`.
    package static func model(_ path: String) throws -> Model {
        let location = try location(path)
        try Checkpoint.verify(file: location)
        let file = try WeightsFile(location)
        let card = try card(of: file)
        let network = try card.specification.build()
        try load(file, into: network)
        func head(_ kind: QualityHead.Kind) throws -> QualityHead? {
            try QualityHead.read(file, kind, embeddingSize: card.specification.embeddingSize)
        }
        return Model(
            network: network, card: card, path: location, qualityHead: try head(.certainty),
            separationHead: try head(.separation))
    }

    /// Writes a network's state under its names, and the quality heads' if there are any.
    package static func write(
        _ network: Network, card: Card, qualityHead: QualityHead? = nil, separationHead: QualityHead? = nil,
        to path: String
    ) throws {
        let backbone = network.state.map { (name: $0.name, tensor: $0.value) }
        let heads = [qualityHead, separationHead].compactMap(\.self)
        try WeightsFile.write(path, backbone + heads.flatMap(\.tensors), metadata: card.metadata)
    }
}
