import Layers
import Networks
import Tensors
import TestSupport
import Testing

/// One training pass of whole backbones on two images: the small ones of the families (IResNet: see the parity tests).
@Suite struct NetworkPassTests {
    private static let specifications = [
        NetworkSpecification("mobilefacenet", embeddingSize: 64, width: 0.25),
        NetworkSpecification("mobilefacenet", embeddingSize: 64, inputWidth: 96, width: 0.25),
        NetworkSpecification("mbf", embeddingSize: 128),
        NetworkSpecification("ir18", embeddingSize: 128, inputWidth: 96),
    ]

    @Test(arguments: specifications)
    func forwardAndBackwardAreFinite(_ specification: NetworkSpecification) throws {
        let network = try specification.build()
        network.initialize(seed: 5)
        let pool = ThreadPool()
        for parameter in network.parameters {
            let gradient = Tensor(parameter.shape)
            gradient.fill(.nan)
            parameter.gradient = gradient
        }
        let count = 2
        let execution = Execution(network.graph, batch: count, purpose: .training, pool: pool)
        // Backward reads the images again: they live in a tensor, not in an array's temporary pointer.
        let images = Tensor(
            [count, specification.inputShape.count],
            sine(count * specification.inputShape.count, rate: 0.37, phase: 0.2).map { Float($0) })
        defer { withExtendedLifetime(images) {} }
        let embeddings = execution.forward(
            images.pointer, count: count, mode: .training, key: .init(seed: 1, step: 0, firstImage: 0))
        #expect(embeddings.shape == [count, specification.embeddingSize])
        #expect(embeddings.floats.allSatisfy { $0.isFinite } && embeddings.floats.contains { $0 != 0 })

        let gradient = execution.outputGradient
        for i in 0..<gradient.count { gradient.floats[i] = Float(i % 7) - 3 }
        execution.backward()
        for parameter in network.parameters where parameter.isTrained {
            #expect(parameter.gradient!.floats.allSatisfy { $0.isFinite }, "\(parameter.name)")
        }
        // What is not trained is not written either.
        for parameter in network.parameters where !parameter.isTrained {
            #expect(parameter.gradient!.floats.allSatisfy { $0.isNaN }, "\(parameter.name)")
        }
        for buffer in network.buffers where buffer.dtype == .float32 {
            #expect(buffer.value.floats.allSatisfy { $0.isFinite }, "\(buffer.name)")
        }
    }

    @Test func evaluationTreatsEveryImageAlone() throws {
        let specification = NetworkSpecification("mobilefacenet", embeddingSize: 64, width: 0.25)
        let network = try specification.build()
        network.initialize(seed: 5)
        let pool = ThreadPool()
        let execution = Execution(network.graph, batch: 3, purpose: .inference, pool: pool)
        let images = sine(3 * specification.inputShape.count, rate: 0.37, phase: 0.2).map { Float($0) }
        let together = Array(execution.forward(images, count: 3, mode: .evaluation).floats)
        for i in 0..<3 {
            let image = Array(images[i * specification.inputShape.count..<(i + 1) * specification.inputShape.count])
            let alone = execution.forward(image, count: 1, mode: .evaluation).floats.map(Double.init)
            let row = together[i * 64..<(i + 1) * 64].map(Double.init)
            #expect(relativeError(alone, row) < 1e-5)
        }
    }
}
