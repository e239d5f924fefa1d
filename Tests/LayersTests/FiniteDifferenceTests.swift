import Layers
import Tensors
import TestSupport
import Testing

/// The oracle's gradients against central differences of its own forward pass, in double precision.
@Suite struct FiniteDifferenceTests {
    /// Truncation grows with h², rounding with 1/h: both stay below 1e-8 of these gradients.
    private static let h = 4e-6
    /// Far more than what a change of h in every element of a tensor moves any activation by.
    private static let kinkDistance = 2e-4

    @Test(arguments: GraphCase.all, [Mode.training, .evaluation])
    func gradientsAreDerivatives(_ graphCase: GraphCase, _ mode: Mode) throws {
        let seed = try graphCase.seed(awayFromKinks: Self.kinkDistance, mode: mode)
        let oracle = ReferenceExecution(graphCase.graph(seed: seed))
        let data = graphCase.data(graphCase.images, seed: seed)
        let images = data.images.map(Double.init)
        let upstream = data.upstream.map(Double.init)
        func forward(_ images: [Double]) -> [Double] {
            oracle.forward(images, count: graphCase.images, mode: mode, updateStatistics: false)
        }
        _ = forward(images)
        oracle.backward(upstream)
        let gradients = oracle.gradients
        let imageGradient = oracle.imageGradient
        let total = (gradients.values.map { norm($0) } + [norm(imageGradient)]).max()!

        var stream = RandomStream(seed: 3, purpose: .test, index: seed)
        func check(_ name: String, _ gradient: [Double], _ shifted: ([Double], Double) -> [Double]) {
            // One direction of random signs: the expected square of the slope along it is the squared norm.
            let direction = gradient.map { _ in stream.nextWord() & 1 == 0 ? 1.0 : -1.0 }
            let difference = zip(shifted(direction, Self.h), shifted(direction, -Self.h)).map { $0 - $1 }
            let slope = zip(difference, upstream).reduce(0) { $0 + $1.0 * $1.1 } / (2 * Self.h)
            let expected = zip(gradient, direction).reduce(0) { $0 + $1.0 * $1.1 }
            // Some gradients are zero by symmetry, as a bias's before a norm.
            let scale = max(norm(gradient), 1e-3 * total)
            #expect(abs(slope - expected) < 1e-6 * scale, "\(name): \(slope) against \(expected), scale \(scale)")
        }
        for (name, gradient) in gradients.sorted(by: { $0.key < $1.key }) {
            for _ in 0..<2 {
                check(name, gradient) { direction, h in
                    let kept = oracle.parameters[name]!
                    defer { oracle.parameters[name] = kept }
                    oracle.parameters[name] = zip(kept, direction).map { $0 + h * $1 }
                    return forward(images)
                }
            }
        }
        check("images", imageGradient) { direction, h in forward(zip(images, direction).map { $0 + h * $1 }) }
    }
}
