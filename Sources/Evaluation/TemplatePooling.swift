/// A template of IJB-B or IJB-C: one subject seen in several media (stills, video frames).
package struct TemplatePooling: Sendable, Equatable {
    /// Template numbers, ascending; row i of `embeddings` is template i of these.
    package let templates: [Int]
    /// Unit length.
    package let embeddings: Embeddings

    /// Pools image embeddings into templates: the mean over the images of a medium, the sum over the media of a
    /// template, then unit length. A medium belongs to a template: the same number in another is another medium.
    ///
    /// - Parameters:
    ///   - images: embeddings as they shall weigh: raw flip sums let the norm be a weight (insightface's "N1"), unit
    ///     rows do not ("N0"). Which was used belongs beside the figure.
    ///   - weights: a factor per image, insightface's detector score ("D1"); none for 1 ("D0").
    /// - Throws: `EvaluationError.nonFiniteEmbedding`.
    package init(
        images: Embeddings, templates: [Int], media: [Int], weights: [Double]? = nil
    ) throws(EvaluationError) {
        precondition(
            images.count == templates.count && images.count == media.count, "one template and medium per image")
        precondition(weights.map { $0.count == images.count } ?? true, "one weight per image")
        _ = try images.norms()
        let order = (0..<images.count).sorted { (templates[$0], media[$0], $0) < (templates[$1], media[$1], $1) }
        let dimension = images.dimension
        var (names, pooled): ([Int], [Double]) = ([], [])
        var start = 0
        while start < order.count {
            let (template, medium) = (templates[order[start]], media[order[start]])
            var end = start
            while end < order.count, templates[order[end]] == template, media[order[end]] == medium { end += 1 }
            if names.last != template {
                names.append(template)
                pooled += [Double](repeating: 0, count: dimension)
            }
            let base = pooled.count - dimension
            for image in order[start..<end] {
                let weight = (weights?[image] ?? 1) / Double(end - start)
                for i in 0..<dimension { pooled[base + i] += weight * Double(images.values[image * dimension + i]) }
            }
            start = end
        }
        self.templates = names
        embeddings = try Embeddings(pooled.map { Float($0) }, dimension: dimension).normalised()
    }
}
