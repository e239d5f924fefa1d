import Evaluation
import FaceData
package import Recipes
import Tensors

/// Opens the pair sets that recipes and commands name.
package enum PairSets {
    /// - Throws: `FaceDataError` naming the file and line; `EvaluationError`.
    package static func open(_ section: PairSetSection) throws -> PairSet {
        if section.path == "synthetic" { return synthetic(section) }
        preconditionFailure("not reached until files are read")
    }

    /// Balanced pairs of synthetic identities: genuine and impostor in turn, images and identities drawn per pair.
    package static func synthetic(_ section: PairSetSection) -> PairSet {
        let source = SyntheticSource(
            SyntheticFaces(seed: section.synthetic.seed),
            identities: section.synthetic.firstIdentity..<section.synthetic.firstIdentity + section.synthetic.identities,
            imagesPerIdentity: max(2, section.synthetic.imagesPerIdentity))
        let identities = section.synthetic.identities
        let images = source.imagesPerIdentity
        var pairs: [VerificationPair] = []
        var random = RandomStream(seed: section.synthetic.seed, purpose: .pairs, index: UInt64(section.synthetic.firstIdentity))
        for index in 0..<section.pairCount {
            let a = random.below(identities)
            let first = random.below(images)
            if index % 2 == 0 || identities == 1 {
                let second = (first + 1 + random.below(images - 1)) % images
                pairs.append(VerificationPair(a * images + first, a * images + second, same: true))
            } else {
                let b = (a + 1 + random.below(identities - 1)) % identities
                pairs.append(VerificationPair(a * images + first, b * images + random.below(images), same: false))
            }
        }
        return compact(section.name, pairs, folds: nil, degradation: "none") { source.attributed($0).0 }
    }

    /// Only the images that occur in pairs, renumbered in the order they occur.
    static func compact(
        _ name: String, _ pairs: [VerificationPair], folds: Folds?, degradation: String,
        image: @escaping @Sendable (Int) throws -> RGBImage
    ) -> PairSet {
        var places: [Int: Int] = [:]
        var used: [Int] = []
        func place(_ index: Int) -> Int {
            if let known = places[index] { return known }
            places[index] = used.count
            used.append(index)
            return used.count - 1
        }
        let renumbered = pairs.map { VerificationPair(place($0.first), place($0.second), same: $0.same) }
        let order = used
        return PairSet(
            name: name, imageCount: order.count, pairs: renumbered, folds: folds, degradation: degradation,
            image: { try image(order[$0]) })
    }
}
