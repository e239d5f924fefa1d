import Layers
import Tensors
import TestSupport
import Testing

@Suite struct DropoutTests {
    private static let input = MapShape(3, 5, 7)

    /// A stem that copies the three image channels to the first three of 16, then dropout, then vectors.
    private func graph(_ probability: Float, index: UInt64 = 0) -> Graph {
        var graph = Graph(input: Self.input)
        let stem = StemConvolution("stem", 3, 16, kernel: 3, stride: 1, padding: 1, initializer: .constant(0))
        for c in 0..<16 { stem.weight.value.floats[(c * 3 + c % 3) * 9 + 4] = 1 }
        var x = graph.add("stem", stem, graph.image)
        x = graph.add("dropout", Dropout(probability, index: index), x)
        graph.add("flatten", Flatten(), x)
        assignGradients(graph)
        return graph
    }

    /// Outputs of a batch of ones: 0 or 1/(1 − p).
    private func outputs(
        _ graph: Graph, _ pool: ThreadPool, count: Int, mode: Mode = .training, key: Execution.Key
    ) -> [Float] {
        let execution = Execution(graph, batch: count, purpose: .inference, pool: pool)
        let ones = [Float](repeating: 1, count: count * Self.input.count)
        return Array(execution.forward(ones, count: count, mode: mode, key: key).floats)
    }

    private let key = Execution.Key(seed: 11, step: 3, firstImage: 6)

    @Test func theMaskDependsNeitherOnThreadsNorOnRanks() {
        let graph = graph(0.4)
        let whole = outputs(graph, ThreadPool(threads: 1), count: 6, key: key)
        for threads in 2...3 {
            #expect(outputs(graph, ThreadPool(threads: threads), count: 6, key: key) == whole)
        }
        // Six images on one rank, or two on each of three, or four and two.
        let pool = ThreadPool(threads: 2)
        for sizes in [[2, 2, 2], [4, 2], [1, 5]] {
            var joined: [Float] = []
            var own = key
            for size in sizes {
                joined += outputs(graph, pool, count: size, key: own)
                own.firstImage += UInt64(size)
            }
            #expect(joined == whole, "\(sizes)")
        }
    }

    @Test func everyKeyHasAMaskOfItsOwn() {
        let pool = ThreadPool(threads: 1)
        let whole = outputs(graph(0.4), pool, count: 3, key: key)
        var others = [outputs(graph(0.4, index: 1), pool, count: 3, key: key)]
        for (seed, step, first) in [(12, 3, 6), (11, 4, 6), (11, 3, 9)] as [(UInt64, UInt64, UInt64)] {
            others.append(outputs(graph(0.4), pool, count: 3, key: .init(seed: seed, step: step, firstImage: first)))
        }
        for other in others {
            // Two independent masks agree in p² + (1 − p)² = 52 % of the units; 1680 units: σ = 1.2 %.
            let agreeing = Double(zip(whole, other).count { $0 == $1 }) / Double(whole.count)
            #expect(abs(agreeing - 0.52) < 0.06)
        }
    }

    @Test(arguments: [Float(0.1), 0.4, 0.5, 0.9])
    func keepsTheExpectation(_ probability: Float) {
        let values = outputs(graph(probability), ThreadPool(threads: 2), count: 64, key: key)
        let kept = 1 / (1 - probability)
        #expect(values.allSatisfy { $0 == 0 || abs($0 - kept) < 1e-6 * kept })
        // The mean of n units has the standard deviation √(p/((1 − p)·n)).
        let p = Double(probability)
        let deviation = (p / ((1 - p) * Double(values.count))).squareRoot()
        let mean = values.reduce(0.0) { $0 + Double($1) } / Double(values.count)
        #expect(abs(mean - 1) < 4 * deviation)
    }

    @Test func backwardUsesTheSameMask() {
        let graph = graph(0.4)
        let pool = ThreadPool(threads: 2)
        let execution = Execution(graph, batch: 4, purpose: .training, pool: pool)
        let ones = Tensor([4, Self.input.count])
        ones.fill(1)
        defer { withExtendedLifetime(ones) {} }
        let outputs = Array(execution.forward(ones.pointer, count: 4, mode: .training, key: key).floats)
        execution.outputGradient.fill(1)
        execution.backward()
        // On images of ones the gradient of a central weight is the sum of its channel's masked units: the output's.
        let area = Self.input.height * Self.input.width
        let gradient = graph.parameters[0].gradient!.floats
        for c in 0..<16 {
            let sum = (0..<4).reduce(Float(0)) { sum, image in
                outputs[(image * 16 + c) * area..<(image * 16 + c + 1) * area].reduce(sum, +)
            }
            for source in 0..<3 { #expect(abs(gradient[(c * 3 + source) * 9 + 4] - sum) < 1e-3) }
        }
    }

    @Test func evaluationLeavesMapsAlone() {
        let pool = ThreadPool(threads: 2)
        let values = outputs(graph(0.9), pool, count: 4, mode: .evaluation, key: key)
        #expect(values.allSatisfy { $0 == 1 })
        #expect(outputs(graph(0), pool, count: 4, mode: .training, key: key) == values)
    }
}
