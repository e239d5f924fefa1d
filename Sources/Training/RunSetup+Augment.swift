package import FaceData
package import Recipes

/// What `data.augment` means.
extension RunSetup {
    /// nil where nothing is to be done.
    package static func degradation(_ section: AugmentSection) -> DegradationRecipe? {
        if section.isNone { return nil }
        guard section.pipeline.isEmpty else {
            return DegradationRecipe(
                "pipeline", section.pipeline.map { .init(operation($0), probability: $0.probability) })
        }
        guard let recipe = DegradationRecipe.named(section.recipe.rawValue) else {
            preconditionFailure("no degradation recipe '\(section.recipe.rawValue)'")
        }
        return recipe
    }

    /// The images that a batch holds per record: the record itself; its degraded copy, where an objective compares the two;
    /// another image of its identity, where one teaches.
    package static func views(_ recipe: Recipe) -> [View] {
        let augmentation = degradation(recipe.data.augment)
        var views = [augmentation.map { View.degraded($0) } ?? View()]
        if let degraded = degradedView(recipe) {
            // QGFace mirrors each of its views by itself, CCFace both alike.
            views.append(.degraded(degraded, flipsAlone: recipe.objectives.resolution == nil))
        }
        if recipe.objectives.distillation != nil {
            views.append(augmentation.map { View.degraded($0, .partner) } ?? View(.partner))
        }
        return views
    }

    /// What is done to images, in words; nil where nothing is.
    ///
    /// - Parameter inFull: with the operators, not the names of recipes alone.
    package static func augmentation(_ recipe: Recipe, inFull: Bool = true) -> String? {
        func text(_ recipe: DegradationRecipe) -> String { inFull ? "\(recipe)" : recipe.name }
        let parts = [
            degradation(recipe.data.augment).map { "augmentation " + text($0) },
            degradedView(recipe).map { "degraded copies " + text($0) },
        ].compactMap(\.self)
        return parts.isEmpty ? nil : parts.joined(separator: "; ")
    }

    /// What is done to the degraded copy of a record (`data.degraded`, by default as the objective's paper has it); nil
    /// where no objective asks for one.
    package static func degradedView(_ recipe: Recipe) -> DegradationRecipe? {
        guard recipe.objectives.comparesDegraded else { return nil }
        if let given = recipe.data.degraded.flatMap({ degradation($0) }) { return given }
        return recipe.objectives.contrast == nil ? .ccFace : .qgFace
    }

    private static func operation(_ section: AugmentOperator) -> DegradationOperator {
        func range(_ key: String) -> ClosedRange<Double> {
            guard let range = section.range(key) else {
                preconditionFailure("\(section.name.rawValue) has no \(key)")
            }
            return range
        }
        return switch section.name {
        case .reduce: .reduce(reduction(section))
        case .blur: .blur(sigma: range("sigma"))
        case .motion: .motion(length: range("length"), angle: range("angle"))
        case .defocus: .defocus(radius: range("radius"))
        case .noise: .noise(sigma: range("sigma"))
        case .shotNoise: .shotNoise(photons: range("photons"))
        case .jpeg: .jpeg(quality: whole(range("quality")))
        case .brightness: .brightness(factor: range("factor"))
        case .gamma: .gamma(exponent: range("exponent"))
        case .contrast: .contrast(factor: range("factor"))
        case .saturation: .saturation(factor: range("factor"))
        case .jitter:
            .jitter(
                brightness: range("brightness").lowerBound, contrast: range("contrast").lowerBound,
                saturation: range("saturation").lowerBound)
        case .crop:
            .crop(area: range("area"), aspect: range("aspect"), resized: section.resizes ? .bilinear : nil)
        case .occlude: .occlude(area: range("area"), aspect: range("aspect"), fill: fill(section.fill))
        case .rotate: .rotate(angle: range("angle"))
        case .grey: .grey
        }
    }

    private static func reduction(_ section: AugmentOperator) -> DegradationOperator.Reduction {
        let side: DegradationOperator.Reduction.Side
        if let range = section.range("side") {
            side = .pixels(whole(range))
        } else if let range = section.range("scale") {
            side = .share(range)
        } else {
            side = .choice(section.sides)
        }
        return DegradationOperator.Reduction(
            side: side, down: kernels(section.down), up: kernels(section.up),
            quality: section.range("jpeg").map { whole($0) },
            qualityProbability: section.range("jpeg_p")?.lowerBound ?? 1)
    }

    private static func kernels(_ names: [String]) -> [ResizeKernel] {
        names.map { name in
            guard let kernel = ResizeKernel(rawValue: name) else { preconditionFailure("no kernel '\(name)'") }
            return kernel
        }
    }

    private static func fill(_ fill: AugmentOperator.Fill) -> DegradationOperator.Fill {
        switch fill {
        case .black: .black
        case .grey: .grey
        case .white: .white
        case .mean: .mean
        case .noise: .noise
        }
    }

    private static func whole(_ range: ClosedRange<Double>) -> ClosedRange<Int> {
        Int(range.lowerBound)...Int(range.upperBound)
    }
}
