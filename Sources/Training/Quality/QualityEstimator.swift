import Networks

/// How a number for the quality of a face is had. In all of them a larger number means a better image.
package enum QualityEstimator: String, CaseIterable, Sendable, Codable {
    /// The length of the raw embedding.
    case norm
    /// CR-FIQA's quality head.
    case crFiqa = "cr-fiqa"
    /// A regression of annotations.
    case sddFiqa = "sdd-fiqa"
    /// A table that `acuity annotate` made.
    case annotation

    package static var names: String { allCases.map(\.rawValue).joined(separator: ", ") }

    /// What the number means, in words.
    package var scale: String {
        switch self {
        case .norm:
            "length of the raw embedding of the image as it is: not negative, its scale is the model's own; a measure of "
                + "quality for models trained to make it one (MagFace, AdaFace), and often, less so, for others"
        case .crFiqa:
            "output of the weights' quality head for the image as it is: unbounded, its scale is the model's own"
        case .sddFiqa:
            "what the weights' regression says of the image as it is: the scale of the annotation that it was trained on, 0...100"
        case .annotation:
            "100 times the distance between similarities to the own identity and to others, each round's scaled to 0...100, "
                + "mean of the rounds: comparable within one table"
        }
    }

    /// The estimator that is meant where none is named: a quality head, if the weights have one.
    package static func usual(for model: ModelFile.Model) -> QualityEstimator {
        if model.qualityHead != nil { return .crFiqa }
        return model.separationHead == nil ? .norm : .sddFiqa
    }
}

/// An estimator that works on embeddings, with what it needs of the model.
package struct EmbeddingQuality: Sendable {
    package let estimator: QualityEstimator
    private let head: QualityHead?

    /// - Parameter estimator: the usual one of the weights where nil.
    /// - Throws: `TrainingError.incompatible` where the weights have not what it needs.
    package init(_ model: ModelFile.Model, _ estimator: QualityEstimator? = nil) throws {
        let estimator = estimator ?? .usual(for: model)
        switch estimator {
        case .norm: head = nil
        case .crFiqa: head = try Self.required(.certainty, model.qualityHead, of: model, trainedWith: "CR-FIQA")
        case .sddFiqa: head = try Self.required(.separation, model.separationHead, of: model, trainedWith: "SDD-FIQA")
        case .annotation:
            throw TrainingError.incompatible(
                "--estimator annotation reads a table and takes no weights: name the table")
        }
        self.estimator = estimator
    }

    private static func required(
        _ kind: QualityHead.Kind, _ head: QualityHead?, of model: ModelFile.Model, trainedWith method: String
    ) throws -> QualityHead {
        if let head { return head }
        let other = [model.qualityHead, model.separationHead].compactMap { $0?.kind.weightName }.first
        throw TrainingError.incompatible(
            "\(model.path) has no quality head ('\(kind.weightName)', '\(kind.biasName)'): it is the "
                + "backbone \(model.card.specification.name) with \(model.network.state.count) tensors and "
                + (other.map { "'\($0)'" } ?? "nothing else")
                + "; name --estimator norm, or weights trained with \(method)")
    }

    /// Qualities of raw embeddings.
    ///
    /// - Parameters:
    ///   - embeddings: `dimension` values per image.
    ///   - name: of an image, for the error.
    /// - Throws: `TrainingError.incompatible` where a quality is not finite.
    package func qualities(of embeddings: [Float], dimension: Int, name: (Int) -> String) throws -> [Float] {
        try embeddings.withUnsafeBufferPointer { values in
            try (0..<values.count / dimension).map { image in
                let row = UnsafeBufferPointer(rebasing: values[image * dimension..<(image + 1) * dimension])
                let quality = quality(of: row)
                guard quality.isFinite else {
                    throw TrainingError.incompatible(
                        "\(name(image)): its embedding is not finite: the weights are damaged, or the image is")
                }
                return quality
            }
        }
    }

    private func quality(of embedding: UnsafeBufferPointer<Float>) -> Float {
        if let head { return head.quality(of: embedding) }
        var sum = 0.0
        for value in embedding { sum += Double(value) * Double(value) }
        return Float(sum.squareRoot())
    }
}
