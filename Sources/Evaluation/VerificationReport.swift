/// What was compared and how: a figure without these facts cannot be compared with another.
package struct VerificationFacts: Sendable, Equatable, Codable {
    /// The name of the pair list.
    package let dataset: String
    package let flip: FlipFusion
    /// What was done to the images first, e.g. "none", "lfw@16, second image".
    package let degradation: String
    /// What was compared, e.g. "embedding", "pixel correlation".
    package let score: String

    package init(dataset: String, flip: FlipFusion, degradation: String = "none", score: String = "embedding") {
        self.dataset = dataset
        self.flip = flip
        self.degradation = degradation
        self.score = score
    }
}

/// All figures of 1:1 verification on one pair list.
package struct VerificationReport: Sendable, Equatable, Codable {
    package let facts: VerificationFacts
    package let pairs: Int
    package let genuinePairs: Int
    package let impostorPairs: Int
    package let folds: Int
    package let foldRule: Folds.Rule
    package let foldSizes: [Int]
    /// By insightface's rule: the figure to compare with published ones.
    package let accuracy: PairVerification.Accuracy
    /// With thresholds not bound to a grid.
    package let exactAccuracy: PairVerification.Accuracy
    /// insightface's interpolated thresholds; empty where a fold lacks one kind of pair.
    package let foldedTAR: [PairVerification.FoldedTAR]
    /// Over all pairs at one threshold.
    package let tar: [PairVerification.TAR]
    package let equalErrorRate: Double
    /// Area under the ROC curve.
    package let areaUnderCurve: Double
    /// Mean norm of the raw embeddings ("XNorm"); nil where scores alone were given.
    package let meanNorm: Double?
    package let roc: ROCCurve
    package let histogram: ScoreHistogram

    /// - Parameters:
    ///   - folds: ten contiguous ones by default.
    ///   - targetFARs: each in (0, 1).
    ///   - replicates: bootstrap samples for the intervals of `tar`; 0 for none.
    /// - Throws: `EvaluationError.tooFewItems`.
    package init(
        _ scores: PairScores, facts: VerificationFacts, folds: Folds? = nil,
        targetFARs: [Double] = [0.1, 0.01, 0.001], meanNorm: Double? = nil, replicates: Int = 1000, seed: UInt64 = 0
    ) throws(EvaluationError) {
        let folds = if let folds { folds } else { try Folds(contiguous: scores.count) }
        self.facts = facts
        pairs = scores.count
        genuinePairs = scores.genuineCount
        impostorPairs = scores.impostorCount
        self.folds = folds.count
        foldRule = folds.rule
        foldSizes = folds.sizes
        accuracy = PairVerification.gridAccuracy(scores, folds: folds)
        exactAccuracy = PairVerification.exactAccuracy(scores, folds: folds)
        foldedTAR = targetFARs.compactMap { PairVerification.foldedTAR(scores, folds: folds, targetFAR: $0) }
        tar = PairVerification.tar(scores, targetFARs: targetFARs, replicates: replicates, seed: seed)
        roc = try ROCCurve(scores)
        equalErrorRate = roc.equalErrorRate
        areaUnderCurve = roc.area
        self.meanNorm = meanNorm
        histogram = ScoreHistogram(scores)
    }
}

/// Counts of genuine and impostor similarities in equal bins.
package struct ScoreHistogram: Sendable, Equatable, Codable {
    package let lowerBound: Double
    package let upperBound: Double
    package let genuine: [Int]
    package let impostor: [Int]

    /// Cosine similarities in `bins` bins over `range`; what lies outside is counted in the outer bins.
    package init(_ scores: PairScores, bins: Int = 80, range: ClosedRange<Double> = -1...1) {
        precondition(bins > 0 && range.lowerBound < range.upperBound, "\(bins) bins over \(range)")
        lowerBound = range.lowerBound
        upperBound = range.upperBound
        var counts = [[Int](repeating: 0, count: bins), [Int](repeating: 0, count: bins)]
        let scale = Double(bins) / (range.upperBound - range.lowerBound)
        for (similarity, same) in zip(scores.similarities, scores.same) {
            let place = min(max((similarity - range.lowerBound) * scale, 0), Double(bins - 1))
            counts[same ? 0 : 1][Int(place)] += 1
        }
        genuine = counts[0]
        impostor = counts[1]
    }
}
