import Networks

/// How a number for the quality of a face is had. In all of them a larger number means a better image.
package enum QualityEstimator: String, CaseIterable, Sendable, Codable {
    /// The length of the raw embedding.
    case norm
    /// CR-FIQA's quality head.
    case crFiqa = "cr-fiqa"
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
        case .annotation:
            "100 times the distance between similarities to the own identity and to others, each round's scaled to 0...100, "
                + "mean of the rounds: comparable within one table"
        }
    }

    /// The estimator that is meant where none is named: the quality head, if the weights have one.
    package static func usual(for model: ModelFile.Model) -> QualityEstimator {
        model.qualityHead == nil ? .norm : .crFiqa
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
        case .crFiqa:
            guard let found = model.qualityHead else {
                throw TrainingError.incompatible(
                    "\(model.path) has no quality head ('\(QualityHead.weightName)', '\(QualityHead.biasName)'): it is the "
                        + "backbone \(model.card.specification.name) with \(model.network.state.count) tensors and nothing "
                        + "else; name --estimator norm, or weights trained with CR-FIQA")
            }
            head = found
        case .annotation:
            throw TrainingError.incompatible(
                "--estimator annotation reads a table and takes no weights: name the table")
        }
        self.estimator = estimator
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
