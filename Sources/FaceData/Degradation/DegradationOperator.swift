internal import Tensors

/// A kind of degradation with the ranges that its parameters are drawn from: uniformly, unless it says otherwise.
package enum DegradationOperator: Sendable, Equatable {
    case reduce(Reduction)
    /// Standard deviation in pixels.
    case blur(sigma: ClosedRange<Double>)
    /// Pixels and degrees.
    case motion(length: ClosedRange<Double>, angle: ClosedRange<Double>)
    /// Pixels.
    case defocus(radius: ClosedRange<Double>)
    case jpeg(quality: ClosedRange<Int>)
    case brightness(factor: ClosedRange<Double>)
    /// Log-uniform: half and double are equally far.
    case gamma(exponent: ClosedRange<Double>)
    case contrast(factor: ClosedRange<Double>)
    case saturation(factor: ClosedRange<Double>)
    /// Brightness, contrast and saturation, each by a factor from U(max(0, 1 - v), 1 + v), in random order; as
    /// torchvision's ColorJitter without hue.
    case jitter(brightness: Double, contrast: Double, saturation: Double)
    /// Standard deviation in units of 1/255.
    case noise(sigma: ClosedRange<Double>)
    /// Log-uniform.
    case shotNoise(photons: ClosedRange<Double>)
    /// Area as a share of the image, width by height (log-uniform), as torchvision's RandomResizedCrop; resized to the
    /// whole, or left at its place on black.
    case crop(area: ClosedRange<Double>, aspect: ClosedRange<Double>, resized: ResizeKernel?)
    case occlude(area: ClosedRange<Double>, aspect: ClosedRange<Double>, fill: Fill)
    /// Degrees.
    case rotate(angle: ClosedRange<Double>)
    case grey

    /// How far an image is reduced before it is enlarged again, and with what.
    package struct Reduction: Sendable, Equatable {
        package enum Side: Sendable, Equatable {
            /// Of the longer side, in pixels.
            case pixels(ClosedRange<Int>)
            /// One of these.
            case choice([Int])
            /// int(U·side), of either side.
            case share(ClosedRange<Double>)
        }

        package var side: Side
        /// One of these, drawn for itself each.
        package var down: [ResizeKernel]
        package var up: [ResizeKernel]
        /// Compression of the small image.
        package var quality: ClosedRange<Int>?
        package var qualityProbability: Double

        package init(
            side: Side, down: [ResizeKernel], up: [ResizeKernel], quality: ClosedRange<Int>? = nil,
            qualityProbability: Double = 1
        ) {
            precondition(!down.isEmpty && !up.isEmpty, "a reduction without kernels")
            self.side = side
            self.down = down
            self.up = up
            self.quality = quality
            self.qualityProbability = qualityProbability
        }

        fileprivate func draw(width: Int, height: Int, _ random: inout RandomStream) -> Degradation.Resampling {
            let size: (width: Int, height: Int)
            switch side {
            case .pixels(let range): size = Self.scaled(width, height, to: random.whole(range))
            case .choice(let sides): size = Self.scaled(width, height, to: sides[random.below(sides.count)])
            case .share(let range):
                let share = random.uniform(range.lowerBound, range.upperBound)
                size = (max(1, Int(share * Double(width))), max(1, Int(share * Double(height))))
            }
            let shrinking = down[random.below(down.count)]
            let enlarging = up[random.below(up.count)]
            var drawn: Int?
            if let quality {
                let isCompressed = random.uniform(0, 1) < qualityProbability
                let value = random.whole(quality)
                drawn = isCompressed ? value : nil
            }
            return Degradation.Resampling(
                width: size.width, height: size.height, down: shrinking, up: enlarging, quality: drawn)
        }

        private static func scaled(_ width: Int, _ height: Int, to side: Int) -> (width: Int, height: Int) {
            let longer = max(width, height)
            func scaled(_ length: Int) -> Int { max(1, (length * side + longer / 2) / longer) }
            return (scaled(width), scaled(height))
        }
    }

    package enum Fill: String, Sendable, CaseIterable { case black, grey, white, mean, noise }

    package var name: String {
        switch self {
        case .reduce: "reduce"
        case .blur: "blur"
        case .motion: "motion"
        case .defocus: "defocus"
        case .jpeg: "jpeg"
        case .brightness: "brightness"
        case .gamma: "gamma"
        case .contrast: "contrast"
        case .saturation: "saturation"
        case .jitter: "jitter"
        case .noise: "noise"
        case .shotNoise: "shot_noise"
        case .crop: "crop"
        case .occlude: "occlude"
        case .rotate: "rotate"
        case .grey: "grey"
        }
    }

    /// What an image of this size gets.
    func draw(width: Int, height: Int, _ random: inout RandomStream) -> [Degradation] {
        switch self {
        case .reduce(let plan): [.resample(plan.draw(width: width, height: height, &random))]
        case .blur(let sigma): [.blur(sigma: random.uniform(sigma))]
        case .motion(let length, let angle):
            [.motion(length: random.uniform(length), angle: random.uniform(angle))]
        case .defocus(let radius): [.defocus(radius: random.uniform(radius))]
        case .jpeg(let quality): [.jpeg(quality: random.whole(quality))]
        case .brightness(let factor): [.brightness(random.uniform(factor))]
        case .gamma(let exponent): [.gamma(random.logUniform(exponent))]
        case .contrast(let factor): [.contrast(random.uniform(factor))]
        case .saturation(let factor): [.saturation(random.uniform(factor))]
        case .jitter(let brightness, let contrast, let saturation):
            Self.drawJitter(brightness, contrast, saturation, &random)
        case .noise(let sigma): [.noise(sigma: random.uniform(sigma), seed: random.next())]
        case .shotNoise(let photons): [.shotNoise(photons: random.logUniform(photons), seed: random.next())]
        case .crop(let area, let aspect, let kernel):
            [.crop(.random(in: (width, height), share: area, ratio: aspect, &random), resized: kernel)]
        case .occlude(let area, let aspect, let fill):
            [
                .occlude(
                    .random(in: (width, height), share: area, ratio: aspect, &random), Self.drawFill(fill, &random))
            ]
        case .rotate(let angle): [.rotate(degrees: random.uniform(angle))]
        case .grey: [.grey]
        }
    }

    private static func drawJitter(
        _ brightness: Double, _ contrast: Double, _ saturation: Double, _ random: inout RandomStream
    ) -> [Degradation] {
        func factor(_ amount: Double) -> Double { random.uniform(max(0, 1 - amount), 1 + amount) }
        var steps: [Degradation] = []
        if brightness > 0 { steps.append(.brightness(factor(brightness))) }
        if contrast > 0 { steps.append(.contrast(factor(contrast))) }
        if saturation > 0 { steps.append(.saturation(factor(saturation))) }
        for last in steps.indices.dropFirst().reversed() { steps.swapAt(last, random.below(last + 1)) }
        return steps
    }

    private static func drawFill(_ fill: Fill, _ random: inout RandomStream) -> Degradation.Fill {
        switch fill {
        case .black: .black
        case .grey: .grey
        case .white: .white
        case .mean: .mean
        case .noise: .noise(seed: random.next())
        }
    }
}

extension RandomStream {
    fileprivate mutating func uniform(_ range: ClosedRange<Double>) -> Double {
        uniform(range.lowerBound, range.upperBound)
    }

    fileprivate mutating func whole(_ range: ClosedRange<Int>) -> Int { range.lowerBound + below(range.count) }
}
