import Layers
import Networks
import Recipes
import Tensors
import Testing
import Training

@Suite struct ParameterArenaTests {
    private func graph(freezing prefix: String? = nil) throws -> Graph {
        let network = try NetworkSpecification("mobilefacenet", embeddingSize: 32, width: 0.25).build()
        network.initialize(seed: 3)
        for parameter in network.parameters where prefix.map({ parameter.name.hasPrefix($0) }) ?? false {
            parameter.isTrained = false
        }
        return network.graph
    }

    private func arena(
        _ graph: Graph, bucketBytes: Int = 4 << 20, exempt: [String] = [], factors: [String: Double] = [:]
    ) -> ParameterArena {
        var optimizer = OptimizerSection()
        optimizer.weightDecay = 5e-4
        optimizer.decayExempt = exempt
        var start = StartSection()
        start.learningRateFactors = factors
        return ParameterArena(graph, bucketBytes: bucketBytes, optimizer: optimizer, start: start)
    }

    @Test func keepsTheValuesAndLaysThemSideBySide() throws {
        let graph = try graph()
        let before = graph.parameters.map { Array($0.value.floats) }
        let arena = arena(graph)
        var end = 0
        for (parameter, range) in arena.parameters {
            #expect(range.lowerBound >= end && range.lowerBound % 16 == 0 && range.count == parameter.count)
            #expect(parameter.value.pointer == arena.values.pointer + range.lowerBound)
            end = range.upperBound
        }
        #expect(arena.parameters.count == graph.parameters.count && arena.count >= end)
        for (parameter, values) in zip(graph.parameters, before) { #expect(Array(parameter.value.floats) == values) }
    }

    @Test(arguments: [1, 1 << 16, 1 << 30])
    func everyBucketIsCompleteWhenItsStepHasPassed(_ bucketBytes: Int) throws {
        for frozen in [nil, "conv1", "blocks.14"] {
            let graph = try graph(freezing: frozen)
            let arena = arena(graph, bucketBytes: bucketBytes)
            // Contiguous, in order, covering everything.
            #expect(arena.buckets.first!.lowerBound == 0 && arena.buckets.last!.upperBound == arena.count)
            for (a, b) in zip(arena.buckets, arena.buckets.dropFirst()) { #expect(a.upperBound == b.lowerBound) }
            #expect(arena.bucketAfterStep.values.sorted() == Array(arena.buckets.indices))
            for (parameter, range) in arena.parameters {
                let bucket = arena.buckets.firstIndex { $0.contains(range.lowerBound) }!
                #expect(range.upperBound <= arena.buckets[bucket].upperBound)
                let owner = graph.steps.firstIndex { $0.layer.parameters.contains { $0 === parameter } }!
                let ready = arena.bucketAfterStep.first { $0.value == bucket }!.key
                #expect(ready <= owner, "\(parameter.name) is reduced before its gradient is there")
            }
        }
    }

    @Test func decayAndRatesByGroup() throws {
        let graph = try graph()
        func constants(_ arena: ParameterArena, _ name: String) -> ParameterArena.Run {
            let place = arena.parameters.first { $0.parameter.name == name }!.range
            return arena.runs.first { place.clamped(to: $0.range) == place }!
        }
        let plain = arena(graph)
        #expect(plain.runs.count == 1 && plain.runs[0].range == 0..<plain.parameters.last!.range.upperBound)
        #expect(plain.runs[0].decay == 5e-4 && plain.runs[0].rateFactor == 1)

        let exempt = arena(graph, exempt: ["norm", "prelu"])
        for (parameter, _) in exempt.parameters {
            let spared = [.normScale, .normShift, .preluSlope].contains(parameter.role)
            #expect(constants(exempt, parameter.name).decay == (spared ? 0 : 5e-4), "\(parameter.name)")
        }
        // The runs cover every parameter once and in order.
        for (a, b) in zip(exempt.runs, exempt.runs.dropFirst()) { #expect(a.range.upperBound <= b.range.lowerBound) }

        let factors = arena(graph, factors: ["blocks.": 0.1, "blocks.14": 0.5, "conv1": 0])
        #expect(constants(factors, "blocks.1.conv.0.weight").rateFactor == 0.1)
        #expect(constants(factors, "blocks.14.conv.0.weight").rateFactor == 0.5)
        #expect(constants(factors, "conv1.conv.weight").rateFactor == 0)
        #expect(constants(factors, "linear1.conv.weight").rateFactor == 1)
        #expect(factors.groupDescriptions.count == 4)
    }

    @Test func gradientsArriveInTheArenasOrder() throws {
        let graph = try graph()
        let arena = arena(graph)
        let memory = Tensor([arena.count])
        arena.bind(gradients: memory.pointer, owner: memory.buffer)
        for (index, (parameter, _)) in arena.parameters.enumerated() { parameter.gradient!.fill(Float(index + 1)) }
        for (index, (_, range)) in arena.parameters.enumerated() {
            #expect(memory.floats[range].allSatisfy { $0 == Float(index + 1) })
            #expect(arena.momentum(of: index).count == range.count)
        }
    }

    /// Momentum, decay and a rate that changes: PyTorch's rule in three updates.
    @Test func stochasticGradientDescent() {
        let pool = ThreadPool(threads: 1)
        let p = Tensor([1], [1])
        let v = Tensor([1])
        for (g, rate, expected) in [(0.5, 0.1, 0.94995), (-0.2, 0.1, 0.9248575025), (0.1, 0.01, 0.9215945534)] {
            let gradient = Tensor([1], [Float(g)])
            Vectors.sgd(
                pool, parameters: p.floats, velocity: v.floats, gradient: gradient.floats,
                rate: Float(rate), momentum: 0.9, decay: 5e-4)
            #expect(abs(Double(p.floats[0]) - expected) < 2e-7)
        }
    }
}
