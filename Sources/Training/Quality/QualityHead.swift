package import Artifacts
package import Tensors

/// A linear regression of image quality from the raw embedding, beside a backbone in its weights file.
package struct QualityHead: Sendable, Equatable {
    /// What it was trained towards; the raw value is what its tensors' names begin with.
    package enum Kind: String, Sendable, CaseIterable {
        /// CR-FIQA's ratio of cosines (Boutros et al., CVPR 2023).
        case certainty = "qs"
        /// Hundredths of an annotation (SDD-FIQA, Ou et al., CVPR 2021).
        case separation = "sdd"

        package var weightName: String { rawValue + ".weight" }
        package var biasName: String { rawValue + ".bias" }
        /// A quality per unit of the layer's output.
        var scale: Double { self == .separation ? 100 : 1 }
    }

    package let kind: Kind
    /// One per component of the embedding.
    package let weight: [Float]
    package let bias: Float

    package static let names = Set(Kind.allCases.flatMap { [$0.weightName, $0.biasName] })

    package init(_ kind: Kind = .certainty, weight: [Float], bias: Float) {
        self.kind = kind
        self.weight = weight
        self.bias = bias
    }

    /// The head in a weights file: such as `qs.weight` (1, d) and `qs.bias` (1).
    ///
    /// - Returns: nil where the file has neither.
    /// - Throws: `ArtifactError.incompatible` where one is missing or of another shape, `.damaged` where a value is not
    ///   finite.
    package static func read(_ file: WeightsFile, _ kind: Kind, embeddingSize: Int) throws -> QualityHead? {
        let specs = [TensorSpec(kind.weightName, [1, embeddingSize]), TensorSpec(kind.biasName, [1])]
        guard file.file.names.contains(where: { [kind.weightName, kind.biasName].contains($0) }) else { return nil }
        let match = try file.load(specs, .partial)
        guard let weight = match.tensors[kind.weightName], let bias = match.tensors[kind.biasName] else {
            let wrong =
                match.missing.map { "'\($0.name)' is missing" }
                + match.mismatched.map { "'\($0.expected.name)' has shape \($0.shape), not \($0.expected.shape)" }
            throw ArtifactError.incompatible(
                path: file.path, reason: "its quality head is not one: \(wrong.joined(separator: ", "))")
        }
        let head = QualityHead(kind, weight: [Float](weight.floats), bias: bias.floats[0])
        guard head.bias.isFinite, head.weight.allSatisfy(\.isFinite) else {
            throw ArtifactError.damaged(path: file.path, reason: "its quality head holds values that are not finite")
        }
        return head
    }

    /// As they stand in a file.
    package var tensors: [(name: String, tensor: Tensor)] {
        [(kind.weightName, Tensor([1, weight.count], weight)), (kind.biasName, Tensor([1], [bias]))]
    }

    /// The quality of a raw embedding, summed in double precision: unbounded, larger for better.
    package func quality(of embedding: UnsafeBufferPointer<Float>) -> Float {
        precondition(embedding.count == weight.count, "a head of \(weight.count), an embedding of \(embedding.count)")
        var sum = Double(bias)
        for i in weight.indices { sum += Double(weight[i]) * Double(embedding[i]) }
        return Float(kind.scale * sum)
    }
}
