/// Person re-identification figures by the rules of Market-1501 (Zheng et al., ICCV 2015) and, for mINP, of AGW (Ye et
/// al., PAMI 2021): gallery images of the query's identity from the query's own camera are left out.
package struct Reidentification: Sendable, Equatable, Codable {
    package let queries: Int
    /// Queries with a match from another camera: those that the means are over.
    package let validQueries: Int
    /// At k - 1 the fraction of valid queries with a match among the first k.
    package let matchCharacteristic: [Double]
    /// Average precision of each valid query, in their order.
    package let averagePrecision: [Double]
    /// Inverse negative penalty of each valid query: matches over the rank of the last one.
    package let inverseNegativePenalty: [Double]
    /// mAP.
    package let meanAveragePrecision: Double
    /// mINP.
    package let meanInverseNegativePenalty: Double

    /// Who is in an image, and which camera took it.
    package struct Sighting: Sendable, Equatable {
        package let identity: Int
        package let camera: Int

        package init(identity: Int, camera: Int) {
            self.identity = identity
            self.camera = camera
        }
    }

    /// - Parameters:
    ///   - distances: queries x gallery, row-major; smaller for more alike (squared distances of unit embeddings).
    ///     Equal distances keep the gallery's order.
    ///   - maximumRank: the length of the match characteristic.
    /// - Throws: `EvaluationError.noValidQuery`; `.nonFiniteScore` with the place in `distances`.
    package init(
        distances: [Double], queries: [Sighting], gallery: [Sighting], maximumRank: Int = 50
    ) throws(EvaluationError) {
        precondition(distances.count == queries.count * gallery.count, "one distance per query and gallery image")
        if let place = distances.firstIndex(where: { !$0.isFinite }) { throw .nonFiniteScore(pair: place) }
        var firstRanks = [Int](repeating: 0, count: maximumRank)
        var (precisions, penalties): ([Double], [Double]) = ([], [])
        for (row, query) in queries.enumerated() {
            let base = row * gallery.count
            let ranked = gallery.indices
                .filter { gallery[$0] != query }
                .sorted { (distances[base + $0], $0) < (distances[base + $1], $1) }
            let hits = ranked.indices.filter { gallery[ranked[$0]].identity == query.identity }
            guard let first = hits.first, let last = hits.last else { continue }
            if first < maximumRank { firstRanks[first] += 1 }
            let precision = hits.enumerated().map { Double($0.offset + 1) / Double($0.element + 1) }
            precisions.append(Statistics.mean(precision))
            penalties.append(Double(hits.count) / Double(last + 1))
        }
        guard !precisions.isEmpty else { throw .noValidQuery }
        self.queries = queries.count
        validQueries = precisions.count
        averagePrecision = precisions
        inverseNegativePenalty = penalties
        meanAveragePrecision = Statistics.mean(precisions)
        meanInverseNegativePenalty = Statistics.mean(penalties)
        var total = 0
        matchCharacteristic = firstRanks.map { count in
            total += count
            return Double(total) / Double(precisions.count)
        }
    }
}
