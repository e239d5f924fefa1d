package import Layers

/// A backbone: a graph from images to embeddings, with its state in the order and under the names of its state dict.
package final class Network {
    package let specification: NetworkSpecification
    package let graph: Graph
    /// Parameters and buffers in state-dict order.
    package let state: [StateEntry]

    init(_ specification: NetworkSpecification, graph: Graph, state: [StateEntry]) {
        self.specification = specification
        self.graph = graph
        self.state = state
        let names = Set(state.map(\.name))
        precondition(names.count == state.count, "state names repeat")
    }

    package var parameters: [Parameter] {
        state.compactMap { if case .parameter(let parameter) = $0 { parameter } else { nil } }
    }

    package var buffers: [StateBuffer] {
        state.compactMap { if case .buffer(let buffer) = $0 { buffer } else { nil } }
    }

    /// Draws all starting values and resets the running statistics.
    package func initialize(seed: UInt64) {
        for parameter in parameters { parameter.initialize(seed: seed) }
        for buffer in buffers { buffer.reset() }
    }

    /// Elements of all parameters, trained or not.
    package var parameterCount: Int { parameters.reduce(0) { $0 + $1.count } }
    package var trainedParameterCount: Int { parameters.reduce(0) { $0 + ($1.isTrained ? $1.count : 0) } }
}

/// Everything that decides a backbone's shape.
package struct NetworkSpecification: Sendable, Hashable, Codable {
    /// One of `NetworkSpecification.names`.
    package var name: String
    package var embeddingSize: Int
    package var inputHeight: Int
    package var inputWidth: Int
    /// Scales the channels of `mobilefacenet` (1 is the paper's), rounded to multiples of 16.
    package var width: Double
    /// Dropout before the embedding layer of IResNet and IR.
    package var dropout: Double

    package init(
        _ name: String, embeddingSize: Int = 512, inputHeight: Int = 112, inputWidth: Int = 112, width: Double = 1,
        dropout: Double? = nil
    ) {
        self.name = name
        self.embeddingSize = embeddingSize
        self.inputHeight = inputHeight
        self.inputWidth = inputWidth
        self.width = width
        self.dropout = dropout ?? Self.defaultDropout(name)
    }

    package static let iresnetBlocks: [String: [Int]] = [
        "iresnet18": [2, 2, 2, 2], "iresnet34": [3, 4, 6, 3], "iresnet50": [3, 4, 14, 3], "iresnet100": [3, 13, 30, 3],
        "iresnet200": [6, 26, 60, 6],
    ]
    package static let irBlocks: [String: [Int]] = [
        "ir18": [2, 2, 2, 2], "ir34": [3, 4, 6, 3], "ir50": [3, 4, 14, 3], "ir101": [3, 13, 30, 3],
    ]
    /// All backbones.
    package static let names =
        ["iresnet18", "iresnet34", "iresnet50", "iresnet100", "iresnet200", "ir18", "ir34", "ir50", "ir101"]
        + ["mobilefacenet", "mbf", "mbf_large"]

    /// The published training's dropout: 0 for arcface_torch's IResNet, 0.4 for AdaFace's IR.
    package static func defaultDropout(_ name: String) -> Double { irBlocks[name] == nil ? 0 : 0.4 }

    package var inputShape: MapShape { MapShape(3, inputHeight, inputWidth) }

    /// Builds the backbone with zero parameters; call `initialize` or load a state.
    ///
    /// - Throws: `NetworkError` for an unknown name or a size that the backbone does not take.
    package func build() throws -> Network {
        guard inputHeight == 112, inputWidth == 112 || inputWidth == 96 else {
            throw NetworkError.inputSize(inputHeight, inputWidth)
        }
        guard embeddingSize > 0, embeddingSize % 16 == 0 else { throw NetworkError.embeddingSize(embeddingSize) }
        guard (0..<1).contains(dropout) else { throw NetworkError.dropout(dropout) }
        guard width > 0, width <= 8 else { throw NetworkError.width(width) }
        if width != 1, name != "mobilefacenet" { throw NetworkError.noWidth(name) }
        var builder = NetworkBuilder(inputShape)
        if let blocks = Self.iresnetBlocks[name] {
            builder.iresnet(blocks: blocks, embeddingSize: embeddingSize, dropout: Float(dropout))
        } else if let blocks = Self.irBlocks[name] {
            builder.ir(blocks: blocks, embeddingSize: embeddingSize, dropout: Float(dropout))
        } else {
            switch name {
            case "mobilefacenet": builder.mobileFaceNet(embeddingSize: embeddingSize, width: width)
            case "mbf": builder.mbf(blocks: [1, 4, 6, 2], scale: 2, embeddingSize: embeddingSize)
            case "mbf_large": builder.mbf(blocks: [2, 8, 12, 4], scale: 4, embeddingSize: embeddingSize)
            default: throw NetworkError.unknown(name)
            }
        }
        return Network(self, graph: builder.graph, state: builder.state)
    }
}

/// A specification that names no network.
package enum NetworkError: Error, Equatable, CustomStringConvertible {
    case unknown(String)
    case inputSize(Int, Int)
    case embeddingSize(Int)
    case width(Double)
    case noWidth(String)
    case dropout(Double)

    package var description: String {
        switch self {
        case .unknown(let name):
            "there is no backbone '\(name)'; the backbones are \(NetworkSpecification.names.joined(separator: ", "))"
        case .inputSize(let height, let width): "input of \(height)x\(width): backbones take 112x112 or 112x96"
        case .embeddingSize(let size): "embedding size \(size): it must be a positive multiple of 16"
        case .width(let width): "width factor \(width): it must lie in (0, 8]"
        case .noWidth(let name): "the backbone '\(name)' has no width factor; only mobilefacenet has"
        case .dropout(let probability): "dropout \(probability): it must lie in [0, 1)"
        }
    }
}
