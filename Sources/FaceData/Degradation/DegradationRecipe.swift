package import Tensors

/// Operators in a row, each with a probability of its own: what makes a degraded view of a face.
package struct DegradationRecipe: Sendable, Equatable {
    package struct Stage: Sendable, Equatable {
        package var probability: Double
        package var operation: DegradationOperator

        package init(_ operation: DegradationOperator, probability: Double = 1) {
            self.probability = probability
            self.operation = operation
        }
    }

    package var name: String
    package var stages: [Stage]

    package init(_ name: String, _ stages: [Stage]) {
        self.name = name
        self.stages = stages
    }

    /// What an image of this size gets. Every stage draws from a stream of its own that begins with a number of `random`,
    /// so that a change to one stage leaves the draws of the others as they are.
    package func draw(width: Int, height: Int, _ random: inout RandomStream) -> [Degradation] {
        var steps: [Degradation] = []
        for stage in stages {
            var own = RandomStream(seed: random.next(), purpose: .degradation, index: 0)
            guard own.uniform(0, 1) < stage.probability else { continue }
            steps += stage.operation.draw(width: width, height: height, &own)
        }
        return steps
    }

    /// The image degraded: a pure function of the image, the recipe and the stream.
    package func apply(to image: RGBImage, _ random: inout RandomStream, scratch: ImageScratch) -> RGBImage {
        draw(width: image.width, height: image.height, &random).reduce(image) { $1.apply(to: $0, scratch: scratch) }
    }
}

extension DegradationRecipe: CustomStringConvertible {
    package var description: String {
        func text(_ stage: Stage) -> String {
            stage.probability == 1 ? stage.operation.name : "\(stage.operation.name) (p \(stage.probability))"
        }
        return "\(name): " + stages.map(text).joined(separator: ", ")
    }
}

// MARK: - By name

extension DegradationRecipe {
    package static let all = [adaFace, qgFace, ccFace]

    package static func named(_ name: String) -> DegradationRecipe? { all.first { $0.name == name } }

    /// AdaFace's augmentation (Kim et al., CVPR 2022, and its code): crop, low resolution, photometry, each with
    /// probability 0.2. The crop stays at its place on black; the side is int(U(0.2, 1)·112) with two of OpenCV's five
    /// interpolations.
    package static let adaFace = DegradationRecipe(
        "adaface",
        [
            Stage(.crop(area: 0.2...1, aspect: 0.75...1.333, resized: nil), probability: 0.2),
            Stage(
                .reduce(
                    .init(side: .share(0.2...1), down: ResizeKernel.openCV, up: ResizeKernel.openCV)),
                probability: 0.2),
            Stage(.jitter(brightness: 0.5, contrast: 0.5, saturation: 0.5), probability: 0.2),
        ])

    /// QGFace's low-quality view (its code; the probabilities are those of a port that mirrors the paper): always reduced
    /// to int(U(0.1, 0.5)·112), compressed there with quality 75 and enlarged, with two of Pillow's kernels; then with
    /// probability 0.2 each crop, photometry, rotation. The flip follows as for any view; the high-quality view is the
    /// untouched face.
    package static let qgFace: DegradationRecipe = {
        let kernels: [ResizeKernel] = [.bicubic, .bilinear, .nearest, .box, .lanczos3]
        return DegradationRecipe(
            "qgface",
            [
                Stage(.reduce(.init(side: .share(0.1...0.5), down: kernels, up: kernels, quality: 75...75))),
                Stage(.crop(area: 0.8...1, aspect: 0.75...1.33, resized: .bilinear), probability: 0.2),
                Stage(.jitter(brightness: 0.2, contrast: 0.2, saturation: 0.2), probability: 0.2),
                Stage(.rotate(angle: -45...45), probability: 0.2),
            ])
    }()

    /// The low-resolution view of a reconstruction of CCFace, whose own parameters are not published: a side from 8 to 56
    /// pixels, compressed half the time with quality 60 to 95, enlarged with a random kernel.
    package static let ccFace = DegradationRecipe(
        "ccface",
        [
            Stage(
                .reduce(
                    .init(
                        side: .pixels(8...56), down: [.bicubic, .area, .bilinear, .lanczos3],
                        up: [.nearest, .bilinear, .bicubic, .lanczos3], quality: 60...95, qualityProbability: 0.5)))
        ])
}

// MARK: - In the loader

extension View {
    /// A view degraded by a recipe. What a face gets depends on (seed, record, epoch, view) and the recipe alone.
    package static func degraded(
        _ recipe: DegradationRecipe, _ subject: Subject = .record, flipsAlone: Bool = false
    ) -> View {
        let pool = ImageScratchPool()
        return View(subject, flipsAlone: flipsAlone) { image, context in
            var random = context.random(.degradation)
            return pool.with { recipe.apply(to: image, &random, scratch: $0) }
        }
    }
}
