package import Tensors

/// Which degradation each image file of a folder or list gets.
package enum DegradationPlan: Sendable {
    /// Drawn anew for each image, from the seed and the image's name: other files in the folder change nothing.
    case drawn(DegradationRecipe, seed: UInt64, epoch: Int)
    case same(Degradation)
    /// As a table says.
    case listed(DegradationTable)

    /// - Parameters:
    ///   - name: as in the folder or list.
    ///   - width: of the image.
    /// - Throws: when a table does not list the image.
    package func steps(for name: String, width: Int, height: Int) throws(FaceDataError) -> [Degradation] {
        switch self {
        case .drawn(let recipe, let seed, let epoch):
            var random = RandomStream(
                seed: seed, purpose: .degradation, index: name.stableHash, step: UInt64(max(0, epoch)))
            return recipe.draw(width: width, height: height, &random)
        case .same(let degradation): return [degradation]
        case .listed(let table): return [try table.degradation(of: name)]
        }
    }

    /// The image of that name, degraded.
    package func apply(
        to image: RGBImage, name: String, scratch: ImageScratch
    ) throws(FaceDataError) -> RGBImage {
        try steps(for: name, width: image.width, height: image.height).reduce(image) {
            $1.apply(to: $0, scratch: scratch)
        }
    }

    /// What a report says of an image: its operators with their parameters.
    package func report(for name: String, width: Int, height: Int) throws(FaceDataError) -> String {
        let steps = try steps(for: name, width: width, height: height).filter { $0 != .none }
        return steps.isEmpty ? "none" : steps.map(\.description).joined(separator: "; ")
    }
}
