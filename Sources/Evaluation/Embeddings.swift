package import Tensors

/// How the embeddings of an image and of its mirror image are made one.
package enum FlipFusion: String, Sendable, Codable {
    /// The image alone.
    case none
    /// f(I) + f(mirror of I) of the raw outputs, so that the longer vector weighs more (insightface, AdaFace, QGFace).
    case sum
    /// Both normalised and joined to twice the width (CR-FIQA, MagFace).
    case concatenation
}

/// Embeddings, one row per image.
package struct Embeddings: Sendable, Equatable {
    package let count: Int
    package let dimension: Int
    /// count x dimension, row-major.
    package let values: [Float]

    package init(_ values: [Float], dimension: Int) {
        precondition(
            dimension > 0 && values.count % dimension == 0, "\(values.count) values for embeddings of \(dimension)")
        self.values = values
        self.dimension = dimension
        count = values.count / dimension
    }

    /// Copies a count x dimension tensor.
    package init(_ tensor: Tensor) {
        precondition(tensor.shape.count == 2, "embeddings of shape \(tensor.shape)")
        self.init([Float](tensor.floats), dimension: tensor.shape[1])
    }

    /// Euclidean norm of each row.
    ///
    /// - Throws: `EvaluationError.nonFiniteEmbedding`.
    package func norms() throws(EvaluationError) -> [Double] {
        var norms = [Double](repeating: 0, count: count)
        for row in 0..<count {
            var sum = 0.0
            for i in row * dimension..<(row + 1) * dimension { sum += Double(values[i]) * Double(values[i]) }
            guard sum.isFinite else { throw .nonFiniteEmbedding(row: row) }
            norms[row] = sum.squareRoot()
        }
        return norms
    }

    /// Rows of unit length: x / max(|x|, 1e-12).
    ///
    /// - Throws: `EvaluationError.nonFiniteEmbedding`.
    package func normalised() throws(EvaluationError) -> Embeddings {
        let norms = try norms()
        var unit = values
        for row in 0..<count {
            let scale = 1 / max(norms[row], 1e-12)
            for i in row * dimension..<(row + 1) * dimension { unit[i] = Float(Double(values[i]) * scale) }
        }
        return Embeddings(unit, dimension: dimension)
    }

    /// Inner product of two rows, in double precision; the cosine where the rows are unit vectors.
    package func similarity(_ first: Int, _ second: Int) -> Double {
        similarity(first, self, second)
    }

    /// Inner product of a row with a row of other embeddings, in double precision.
    package func similarity(_ row: Int, _ other: Embeddings, _ otherRow: Int) -> Double {
        precondition(dimension == other.dimension, "embeddings of \(dimension) and \(other.dimension)")
        var sum = 0.0
        for i in 0..<dimension {
            sum += Double(values[row * dimension + i]) * Double(other.values[otherRow * dimension + i])
        }
        return sum
    }

    /// Squared Euclidean distance of two rows, in double precision: 0...4 for unit vectors.
    package func squaredDistance(_ first: Int, _ second: Int) -> Double {
        var sum = 0.0
        for i in 0..<dimension {
            let difference = Double(values[first * dimension + i]) - Double(values[second * dimension + i])
            sum += difference * difference
        }
        return sum
    }
}

/// Embeddings ready to be compared, with what was done to them.
package struct FusedEmbeddings: Sendable {
    /// Rows of unit length; twice the width for `FlipFusion.concatenation`.
    package let unit: Embeddings
    package let fusion: FlipFusion
    /// insightface's "XNorm": the mean norm of the raw outputs, over the images and, where used, their mirror images.
    package let meanNorm: Double

    /// - Parameters:
    ///   - raw: the network's outputs for the images, not normalised.
    ///   - mirrored: its outputs for the mirror images, in the same order; unused for `FlipFusion.none`.
    /// - Throws: `EvaluationError.nonFiniteEmbedding`.
    package init(
        raw: Embeddings, mirrored: Embeddings? = nil, fusion: FlipFusion = .sum
    ) throws(EvaluationError) {
        self.fusion = fusion
        let norms = try raw.norms()
        guard fusion != .none else {
            unit = try raw.normalised()
            meanNorm = norms.reduce(0, +) / Double(max(1, norms.count))
            return
        }
        guard let mirrored, mirrored.count == raw.count, mirrored.dimension == raw.dimension else {
            preconditionFailure("flip fusion needs the mirror images' embeddings, one for each image")
        }
        let both = norms + (try mirrored.norms())
        meanNorm = both.reduce(0, +) / Double(max(1, both.count))
        if fusion == .sum {
            let sums = zip(raw.values, mirrored.values).map { $0 + $1 }
            unit = try Embeddings(sums, dimension: raw.dimension).normalised()
        } else {
            let (plain, flipped) = (try raw.normalised(), try mirrored.normalised())
            var joined: [Float] = []
            joined.reserveCapacity(2 * raw.values.count)
            for row in 0..<raw.count {
                let range = row * raw.dimension..<(row + 1) * raw.dimension
                joined += plain.values[range]
                joined += flipped.values[range]
            }
            unit = try Embeddings(joined, dimension: 2 * raw.dimension).normalised()
        }
    }
}
