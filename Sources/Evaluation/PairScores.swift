/// Two images to be compared, by their rows in the embeddings.
package struct VerificationPair: Sendable, Equatable {
    package let first: Int
    package let second: Int
    package let same: Bool

    package init(_ first: Int, _ second: Int, same: Bool) {
        self.first = first
        self.second = second
        self.same = same
    }
}

/// Scored pairs, finite and of both kinds.
package struct PairScores: Sendable, Equatable {
    /// Squared Euclidean distance of the unit embeddings, 0...4: 2 - 2 cos.
    package let distances: [Double]
    /// Whether both images show one identity (a genuine pair; otherwise an impostor pair).
    package let same: [Bool]

    package var count: Int { distances.count }
    package var genuineCount: Int { same.count { $0 } }
    package var impostorCount: Int { count - genuineCount }

    /// - Throws: `EvaluationError.nonFiniteScore`, `.oneKindOnly`.
    package init(distances: [Double], same: [Bool]) throws(EvaluationError) {
        precondition(distances.count == same.count, "\(distances.count) distances for \(same.count) pairs")
        if let pair = distances.firstIndex(where: { !$0.isFinite }) { throw .nonFiniteScore(pair: pair) }
        let genuine = same.count { $0 }
        guard genuine > 0, genuine < same.count else {
            throw .oneKindOnly(genuine: genuine, impostor: same.count - genuine)
        }
        self.distances = distances
        self.same = same
    }

    /// From cosine similarities.
    ///
    /// - Throws: as `init(distances:same:)`.
    package init(similarities: [Double], same: [Bool]) throws(EvaluationError) {
        try self.init(distances: similarities.map { 2 - 2 * $0 }, same: same)
    }

    /// From embeddings of unit length.
    ///
    /// - Throws: as `init(distances:same:)`.
    package init(unit embeddings: Embeddings, pairs: [VerificationPair]) throws(EvaluationError) {
        try self.init(
            distances: pairs.map { embeddings.squaredDistance($0.first, $0.second) }, same: pairs.map(\.same))
    }

    /// Cosine similarities.
    package var similarities: [Double] { distances.map { 1 - $0 / 2 } }

    /// Ascending distances of one kind of pair.
    package func sortedDistances(genuine: Bool) -> [Double] {
        zip(distances, same).filter { $0.1 == genuine }.map(\.0).sorted()
    }
}
