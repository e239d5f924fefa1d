import Evaluation
package import FaceData
package import Recipes
import Tensors

/// Opens the pair sets that recipes and commands name.
package enum VerificationSets {
    /// - Throws: `FaceDataError` naming the file and line; `EvaluationError`; `TrainingError`.
    package static func open(_ section: PairSetSection) throws -> VerificationSet {
        if section.path == "synthetic" {
            guard section.degrade == nil else {
                throw TrainingError.incompatible("evaluation set '\(section.name)': synthetic pairs take no 'degrade'")
            }
            return synthetic(section)
        }
        let files: PairSet
        if let pairs = section.pairs {
            files = try PairSet.text(pairs, folder: section.path)
        } else if section.path.hasSuffix(".bin") {
            files = try PairSet.bin(section.path)
        } else {
            throw TrainingError.incompatible(
                "evaluation set '\(section.path)': name a .bin file, or give a 'pairs' file for an image folder")
        }
        let hasFolds = files.foldCount == 10 || (section.pairs != nil && files.foldCount > 1)
        let folds = hasFolds ? try Folds(listed: files.pairs.map(\.fold), folds: files.foldCount) : nil
        return try degraded(files, section, folds: folds)
    }

    /// The variant that `degrade` and `sides` name.
    package static func variant(_ section: PairSetSection) throws -> PairVariant {
        guard let degrade = section.degrade else { return .original }
        let kernels = try kernels(section)
        guard let side = Int(degrade) else {
            guard kernels == nil else {
                throw TrainingError.incompatible(
                    "evaluation set '\(section.name)': 'down' and 'up' go with a side in pixels, not with the table \(degrade)"
                )
            }
            return .mixed(try DegradationTable(degrade))
        }
        guard (1...112).contains(side) else {
            throw TrainingError.incompatible("degrade = \(side): the side must lie in 1...112 pixels")
        }
        return .reduced(side: side, sides(section), kernels: kernels)
    }

    /// The images of a pair that `sides` names.
    package static func sides(_ section: PairSetSection) -> PairVariant.Sides {
        switch section.sides {
        case .first: .first
        case .one: .one
        case .both: .both
        }
    }

    /// The kernels that `down` and `up` name: `box` and `bicubic` where one of them is missing; nil where both are.
    package static func kernels(_ section: PairSetSection) throws -> PairVariant.Kernels? {
        func kernel(_ name: String?, _ standard: ResizeKernel) throws -> ResizeKernel {
            guard let name else { return standard }
            guard let kernel = ResizeKernel(rawValue: name) else {
                let names = ResizeKernel.allCases.map(\.rawValue).joined(separator: ", ")
                throw TrainingError.incompatible(
                    "evaluation set '\(section.name)': no kernel '\(name)'; there are \(names)")
            }
            return kernel
        }
        if section.down == nil, section.up == nil { return nil }
        return PairVariant.Kernels(down: try kernel(section.down, .box), up: try kernel(section.up, .bicubic))
    }

    private static func degraded(_ files: PairSet, _ section: PairSetSection, folds: Folds?) throws -> VerificationSet {
        let variant = try variant(section)
        // With one degraded side an image has two appearances: 2i is it on the first side, 2i + 1 on the second.
        let sides = variant.isSideIndependent ? 1 : 2
        let pairs = files.pairs.map {
            VerificationPair($0.first * sides, $0.second * sides + sides - 1, same: $0.isSame)
        }
        return compact(
            section.name, pairs, folds: folds, degradation: variant.words, key: { files.key(of: $0 / sides) }
        ) { index in
            let place = index / sides
            let degradation = try variant.degradation(of: files.key(of: place), isSecond: index % sides == 1)
            return degradation.apply(to: try files.image(at: place))
        }
    }

    /// Balanced pairs of synthetic identities: genuine and impostor in turn, images and identities drawn per pair.
    package static func synthetic(_ section: PairSetSection) -> VerificationSet {
        let source = SyntheticSource(
            SyntheticFaces(
                seed: section.synthetic.seed, options: .init(variation: Float(section.synthetic.variation))),
            identities: section.synthetic.firstIdentity..<section.synthetic.firstIdentity
                + section.synthetic.identities,
            imagesPerIdentity: max(2, section.synthetic.imagesPerIdentity))
        let identities = section.synthetic.identities
        let images = source.imagesPerIdentity
        var pairs: [VerificationPair] = []
        var random = RandomStream(
            seed: section.synthetic.seed, purpose: .pairs, index: UInt64(section.synthetic.firstIdentity))
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
        return compact(section.name, pairs, folds: nil, degradation: "none", key: { source.key(of: $0) }) {
            source.attributed($0).0
        }
    }

    /// Only the images that occur in pairs, renumbered in the order they occur.
    static func compact(
        _ name: String, _ pairs: [VerificationPair], folds: Folds?, degradation: String,
        key: @escaping @Sendable (Int) -> String, image: @escaping @Sendable (Int) throws -> RGBImage
    ) -> VerificationSet {
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
        return VerificationSet(
            name: name, imageCount: order.count, pairs: renumbered, folds: folds, degradation: degradation,
            key: { key(order[$0]) }, image: { try image(order[$0]) })
    }
}
