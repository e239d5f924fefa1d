import CKernels
import Foundation
import Layers
import Tensors
import TestSupport
import Testing

/// What an execution may not depend on, and what it leaves alone.
@Suite(.serialized) struct ExecutionTests {
    private let pool = ThreadPool(threads: 2)

    /// The deep graph with gradients, packed.
    private func deepGraph(seed: UInt64 = 1) -> Graph {
        let graph = GraphCase.deep.graph(seed: seed)
        assignGradients(graph)
        return graph
    }

    private func run(_ execution: Execution, count: Int = 3, data seed: UInt64 = 1) -> EngineRun {
        let data = GraphCase.deep.data(count, seed: seed)
        return EngineRun(execution, images: data.images, upstream: data.upstream, mode: .training)
    }

    // MARK: - Bits

    @Test(arguments: instructionSets.map(\.rawValue), 1...3)
    func sameBitsTwiceAndAfterOtherBatches(_ isa: UInt32, _ threads: Int) {
        withInstructionSet(ak_isa(rawValue: isa)) {
            let pool = ThreadPool(threads: threads)
            func fresh() -> Execution {
                let graph = GraphCase.deep.graph()
                assignGradients(graph)
                return Execution(graph, batch: 3, purpose: .training, pool: pool)
            }
            let first = run(fresh())
            #expect(run(fresh()).bits == first.bits)

            // Another batch fills all memory with other numbers, a third one with NaN and infinities.
            let used = fresh()
            let data = GraphCase.deep.data(3, seed: 5)
            _ = EngineRun(used, images: data.images, upstream: data.upstream, mode: .training)
            let wild = data.images.indices.map { $0 % 2 == 0 ? Float.nan : .infinity }
            let poisoned = EngineRun(used, images: wild, upstream: data.upstream, mode: .evaluation)
            #expect(poisoned.outputs.allSatisfy { !$0.isFinite })
            restoreStatistics(used.graph)
            #expect(run(used).bits == first.bits)
        }
    }

    /// Puts the starting running statistics back.
    private func restoreStatistics(_ graph: Graph) {
        let original = GraphCase.deep.graph()
        for (step, from) in zip(graph.steps, original.steps) {
            for (buffer, source) in zip(step.layer.buffers, from.layer.buffers) {
                buffer.value.bytes.copyMemory(from: UnsafeRawBufferPointer(source.value.bytes))
            }
        }
    }

    @Test func twoPassesOfOneGraphAliveAtOnce() {
        let alone = [1, 2].map { seed in
            run(Execution(deepGraph(), batch: 3, purpose: .training, pool: pool), data: UInt64(seed))
        }
        let graph = deepGraph()
        let executions = (0..<2).map { _ in Execution(graph, batch: 3, purpose: .training, pool: pool) }
        let data = [1, 2].map { GraphCase.deep.data(3, seed: UInt64($0)) }
        let images = data.map { Tensor([3, GraphCase.deep.input.count], $0.images) }
        defer { withExtendedLifetime(images) {} }
        for view in 0..<2 {
            let outputs = executions[view].forward(images[view].pointer, count: 3, mode: .training)
            #expect(Array(outputs.floats) == alone[view].outputs)
        }
        // Both forwards have run: backward finds each view's own maps and batch statistics.
        for view in 0..<2 {
            _ = executions[view].outputGradient.floats.update(fromContentsOf: data[view].upstream)
            executions[view].backward(accumulate: false)
            for parameter in graph.parameters {
                #expect(Array(parameter.gradient!.floats) == alone[view].gradients[parameter.name], "\(parameter.name)")
            }
        }
    }

    @Test func inferenceWithinTheMemoryOfTraining() {
        let graph = deepGraph()
        let training = Execution(graph, batch: 3, purpose: .training, pool: pool)
        let first = run(training)
        let images = Tensor([3, GraphCase.deep.input.count], GraphCase.deep.data(3, seed: 7).images)
        defer { withExtendedLifetime(images) {} }
        func inference(_ neighbour: Execution?) -> (values: [Float], byteCount: Int) {
            let execution = Execution(graph, batch: 3, purpose: .inference, pool: pool, within: neighbour)
            return (Array(execution.forward(images.pointer, count: 3, mode: .evaluation).floats), execution.byteCount)
        }
        let alone = inference(nil)
        let within = inference(training)
        #expect(within.values == alone.values)
        #expect(within.byteCount < alone.byteCount / 10)
        // Training goes on as if nothing had been there.
        restoreStatistics(graph)
        #expect(run(training).bits == first.bits)
    }

    // MARK: - Frozen parameters

    @Test func frozenParametersKeepTheirGradientsAndChangeNoOther() {
        let free = run(Execution(deepGraph(), batch: 3, purpose: .training, pool: pool))
        let graph = deepGraph()
        let frozen = graph.parameters.filter { $0.name.hasPrefix("c.") || $0.name == "a.conv0" || $0.name == "fc.bias" }
        #expect(frozen.count > 5)
        for parameter in frozen {
            parameter.isTrained = false
            parameter.gradient!.fill(7)
        }
        let part = run(Execution(graph, batch: 3, purpose: .training, pool: pool))
        for parameter in frozen { #expect(parameter.gradient!.floats.allSatisfy { $0 == 7 }, "\(parameter.name)") }
        #expect(part.outputs == free.outputs && part.gradients.count == free.gradients.count - frozen.count)
        for (name, values) in part.gradients { #expect(values == free.gradients[name], "\(name)") }
    }

    @Test func backwardEndsAboveAFrozenTrunk() {
        let free = Execution(deepGraph(), batch: 3, purpose: .training, pool: pool)
        let complete = run(free)
        let graph = deepGraph()
        let trained = ["f.", "g.", "last", "norm9", "fc"]
        for parameter in graph.parameters where !trained.contains(where: { parameter.name.hasPrefix($0) }) {
            parameter.isTrained = false
            parameter.gradient!.fill(7)
        }
        let execution = Execution(graph, batch: 3, purpose: .training, pool: pool)
        #expect(execution.byteCount < free.byteCount)
        let part = run(execution)
        #expect(part.outputs == complete.outputs)
        for parameter in graph.parameters {
            if parameter.isTrained {
                #expect(part.gradients[parameter.name] == complete.gradients[parameter.name], "\(parameter.name)")
            } else {
                #expect(parameter.gradient!.floats.allSatisfy { $0 == 7 }, "\(parameter.name)")
            }
        }
    }

    @Test func runsNoBackwardBelowTheLowestTrainedLayer() {
        var graph = Graph(input: MapShape(3, 5, 3))
        let stem = StemConvolution("stem", 3, 16, kernel: 3, stride: 1, padding: 1, initializer: .constant(0.1))
        stem.weight.isTrained = false
        let probes = [Probe(), Probe()]
        var x = graph.add("stem", stem, graph.image)
        x = graph.add("below", probes[0], x)
        x = graph.add("norm", Normalization("norm", 16), x)
        x = graph.add("above", probes[1], x)
        graph.add("flatten", Flatten(), x)
        for parameter in graph.parameters { parameter.initialize(seed: 1) }
        assignGradients(graph)
        let execution = Execution(graph, batch: 2, purpose: .training, pool: pool)
        let images = Tensor([2, 45], [Float](repeating: 0.5, count: 90))
        defer { withExtendedLifetime(images) {} }
        execution.forward(images.pointer, count: 2, mode: .training)
        execution.outputGradient.fill(1)
        var done: [Int] = []
        execution.backward { done.append($0) }
        #expect(probes[0].backwards == 0 && probes[1].backwards == 1)
        // Buckets of gradients wait for every step, whether it has work or not.
        #expect(done == [4, 3, 2, 1, 0])
    }

    @Test func aWhollyFrozenBackboneStillTakesAnOutputGradient() {
        let graph = deepGraph()
        for parameter in graph.parameters {
            parameter.isTrained = false
            parameter.gradient!.fill(7)
        }
        let outcome = run(Execution(graph, batch: 3, purpose: .training, pool: pool))
        #expect(outcome.gradients.isEmpty && outcome.outputs.allSatisfy { $0.isFinite })
        #expect(graph.parameters.allSatisfy { $0.gradient!.floats.allSatisfy { $0 == 7 } })
    }

    // MARK: - Taps

    @Test func tapsKeepTheirActivationsUntilBackward() {
        let graph = GraphCase.tapped.graph()
        #expect(graph.taps.count == 7)
        let data = GraphCase.deep.data(3)
        let oracle = ReferenceExecution(graph)
        _ = oracle.forward(data.images.map(Double.init), count: 3, mode: .evaluation)
        let execution = Execution(graph, batch: 3, purpose: .inference, pool: pool, taps: Array(graph.taps.keys))
        execution.forward(data.images, count: 3, mode: .evaluation)
        for (name, node) in graph.taps {
            let map = execution.activation(tap: name)
            var plain = [Float](repeating: 0, count: 3 * graph.shape(node).count)
            ak_map_to_nchw(pool.handle, map, &plain)
            #expect(relativeError(plain.map(Double.init), oracle.activation(node)) < 2e-5, "\(name)")
        }
    }

    /// Gradients that an objective gives at taps join those from above, wherever norms are applied on load, chained,
    /// recomputed, or share their memory: against double precision, for every tap alone and for all.
    @Test func gradientsOfTapsJoinThoseFromAbove() {
        let graph = GraphCase.tapped.graph()
        assignGradients(graph)
        let data = GraphCase.deep.data(3)
        let names = graph.taps.keys.sorted()
        for taps in names.map({ [$0] }) + [names] {
            let oracle = ReferenceExecution(graph)
            _ = oracle.forward(data.images.map(Double.init), count: 3, mode: .training)
            let execution = Execution(graph, batch: 3, purpose: .training, pool: pool, taps: taps)
            execution.forward(data.images, count: 3, mode: .training)
            var given: [Int: [Double]] = [:]
            for (index, name) in taps.enumerated() {
                let node = graph.taps[name]!
                let values = (0..<3 * graph.shape(node).count).map { Float(sin(0.3 * Double($0) + Double(index))) }
                ak_map_from_nchw(pool.handle, values, execution.gradient(tap: name))
                given[node.index] = values.map(Double.init)
            }
            let upstream = execution.outputGradient
            for i in upstream.floats.indices { upstream.floats[i] = Float(cos(0.7 * Double(i))) }
            oracle.backward(upstream.floats.map(Double.init), taps: given)
            execution.backward()
            // Biases below a batch norm have a gradient of nothing but rounding.
            let least = 1e-3 * (oracle.gradients.values.map { norm($0) }.max() ?? 0)
            for parameter in graph.parameters where parameter.isTrained {
                let expected = oracle.gradients[parameter.name]!
                let difference = zip(parameter.gradient!.floats, expected).map { Double($0) - $1 }
                let error = norm(difference) / max(norm(expected), least)
                #expect(error < 1e-4, "\(taps.count == 1 ? taps[0] : "all"): \(parameter.name)")
            }
        }
    }
}

/// Passes maps through and counts.
private final class Probe: Layer {
    private(set) var backwards = 0

    func outputShape(of inputs: [MapShape]) -> MapShape { inputs[0] }

    func forward(_ operands: Operands, _ context: PassContext) {
        let output = operands.output
        output.data.copyMemory(
            from: operands.inputs[0].map.data, byteCount: Int(output.image) * Int(output.n) * 4)
    }

    func backward(_ operands: Operands, _ context: PassContext) {
        backwards += 1
        if case .write(let target) = operands.targets[0] {
            target.data.copyMemory(
                from: operands.outputGradient.map.data, byteCount: Int(target.image) * Int(target.n) * 4)
        }
    }
}
