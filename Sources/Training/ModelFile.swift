package import Artifacts
package import FaceData
import Foundation
import Layers
package import Networks
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
                throw ArtifactError.incompatible(path: file.path, reason: "its metadata '\(key)' does not parse: \(text)")
            }
        }
        return Card(
            specification: try decode(Card.specificationKey, as: NetworkSpecification.self),
            preprocessing: try decode(WeightsKey.preprocessing, as: Preprocessing.self))
    }

    /// The tensors a network expects.
    package static func specs(_ network: Network) -> [TensorSpec] {
        network.state.map { TensorSpec($0.name, $0.value.shape, $0.value.dtype) }
    }

    /// Copies a file's tensors into a network's state.
    ///
    /// - Returns: what was loaded and what was not.
    /// - Throws: `ArtifactError`, naming every tensor that does not fit (`.strict`).
    @discardableResult
    package static func load(
        _ file: WeightsFile, into network: Network, _ mode: WeightsMatch.Mode = .strict
    ) throws -> WeightsMatch {
        let match = try file.load(specs(network), mode)
        for entry in network.state {
            guard let tensor = match.tensors[entry.name] else { continue }
            entry.value.bytes.copyMemory(from: UnsafeRawBufferPointer(tensor.bytes))
        }
        return match
    }

    /// Opens a weights file, or the newest checkpoint of a run folder, and builds its network.
    ///
    /// - Throws: `ArtifactError`, `NetworkError`.
    package static func open(_ path: String) throws -> (network: Network, card: Card, path: String) {
        var isFolder: ObjCBool = false
        var location = path
        if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue {
            let opened = try CheckpointStore(runFolder: path).open()
            location = opened.checkpoint.folder + "/" + CheckpointContents.modelFile
        }
        let file = try WeightsFile(location)
        let card = try card(of: file)
        let network = try card.specification.build()
        try load(file, into: network)
        return (network, card, location)
    }

    /// Writes a network's state under its names.
    package static func write(_ network: Network, card: Card, to path: String) throws {
        try WeightsFile.write(
            path, network.state.map { (name: $0.name, tensor: $0.value) }, metadata: card.metadata)
    }
}
