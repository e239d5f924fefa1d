/// What evaluation refuses: input that a data set, a pair list or a diverged network can cause.
package enum EvaluationError: Error, Equatable, CustomStringConvertible {
    /// An embedding holds a value that is not finite.
    case nonFiniteEmbedding(row: Int)
    /// A pair's distance or similarity is not finite.
    case nonFiniteScore(pair: Int)
    /// One kind of pair is missing, so that no error rate can be formed.
    case oneKindOnly(genuine: Int, impostor: Int)
    /// Fewer items than folds.
    case tooFewItems(items: Int, folds: Int)
    /// A fold number outside 0..<folds, or a fold that no pair belongs to.
    case badFold(fold: Int, folds: Int)
    /// Two images that are compared pixel by pixel differ in size.
    case sizesDiffer(first: String, second: String)
    /// A probe whose identity has no image in the gallery of a closed-set search.
    case probeWithoutMate(probe: Int, identity: Int)
    /// No query has a match in the gallery that another camera took.
    case noValidQuery
    /// Fewer than two identities that have two images: nothing to compare an image with.
    case tooFewIdentities(found: Int)
    /// The quality of an image is not finite.
    case nonFiniteQuality(image: Int)

    package var description: String {
        switch self {
        case .nonFiniteEmbedding(let row):
            "embedding of image \(row) is not finite: the weights or the input are damaged; check the run's loss"
        case .nonFiniteScore(let pair):
            "score of pair \(pair) is not finite: check the embeddings of its two images"
        case .oneKindOnly(let genuine, let impostor):
            "\(genuine) genuine and \(impostor) impostor pairs: verification needs both kinds; check the pair list"
        case .tooFewItems(let items, let folds):
            "\(items) pairs cannot be split into \(folds) folds: use fewer folds or more pairs"
        case .badFold(let fold, let folds):
            "fold \(fold) of \(folds) is out of range or empty: number the folds from 0 and give each at least one pair"
        case .sizesDiffer(let first, let second):
            "images of \(first) and \(second) pixels cannot be correlated: align or resize them to one size first"
        case .probeWithoutMate(let probe, let identity):
            "probe \(probe) has identity \(identity), which the gallery lacks: closed-set identification needs a mate"
                + " for each probe; drop the probe or add the identity"
        case .noValidQuery:
            "no query has a gallery match from another camera: check identities and camera numbers"
        case .tooFewIdentities(let found):
            "\(found) identities have two images or more: each image is compared with others of its identity and with those"
                + " of other identities, so at least two such identities are needed"
        case .nonFiniteQuality(let image):
            "the quality of image \(image) is not finite: check the weights or the table that it comes from"
        }
    }
}
