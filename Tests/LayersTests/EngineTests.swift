import CKernels
import Layers
import Tensors
import TestSupport
import Testing

/// The fp32 engine against the oracle on small graphs with odd sizes, for every instruction set and 1 to 3 threads.
@Suite(.serialized) struct EngineTests {
    /// Ten times the activations' rounding errors here, so that both take the same side of every PReLU.
    private static let kinkDistance = 5e-5
    /// Rounding alone is about 1e-6; Winograd's transforms of 4x4 tiles cost up to one decimal more.
    private static let tolerance = 2e-5

    @Test(arguments: GraphCase.all + [GraphCase.deep], [Mode.training, .evaluation])
    func agreesWithTheOracle(_ graphCase: GraphCase, _ mode: Mode) throws {
        let seed = try graphCase.seed(awayFromKinks: Self.kinkDistance, mode: mode)
        let data = graphCase.data(graphCase.images, seed: seed)
        let oracle = ReferenceExecution(graphCase.graph(seed: seed))
        let expected = oracle.forward(data.images.map(Double.init), count: graphCase.images, mode: mode)
        oracle.backward(data.upstream.map(Double.init))
        for isa in instructionSets {
            withInstructionSet(isa) {
                for threads in 1...3 {
                    let pool = ThreadPool(threads: threads)
                    let graph = graphCase.graph(seed: seed)
                    assignGradients(graph)
                    let execution = Execution(graph, batch: graphCase.images, purpose: .training, pool: pool)
                    let run = EngineRun(execution, images: data.images, upstream: data.upstream, mode: mode)
                    let comment = "\(String(cString: ak_isa_name(isa))), \(threads) threads"
                    run.expect(oracle, expected, tolerance: Self.tolerance, comment)
                }
            }
        }
    }

    /// bf16 keeps eight bits of a value, 4e-3 at each map: what counts is the gradient as a whole. A single small tensor may
    /// be a sum that cancels; a wrong formula differs by the order of one there too.
    @Test(arguments: GraphCase.all + [GraphCase.deep], [Mode.training, .evaluation])
    func bf16AgreesWithTheOracle(_ graphCase: GraphCase, _ mode: Mode) {
        let data = graphCase.data(graphCase.images)
        let oracle = ReferenceExecution(graphCase.graph())
        let expected = oracle.forward(data.images.map(Double.init), count: graphCase.images, mode: mode)
        oracle.backward(data.upstream.map(Double.init))
        let depth = graphCase.name == "deep" ? 4.0 : 1
        for isa in instructionSets {
            withInstructionSet(isa) {
                for threads in 1...2 {
                    let pool = ThreadPool(threads: threads)
                    let graph = graphCase.graph()
                    assignGradients(graph)
                    let execution = Execution(
                        graph, batch: graphCase.images, purpose: .training, precision: .bf16, pool: pool)
                    let run = EngineRun(execution, images: data.images, upstream: data.upstream, mode: mode)
                    let comment = "\(String(cString: ak_isa_name(isa))), \(threads) threads"
                    run.expect(oracle, expected, tolerance: 0.4, comment)
                    let outputError = relativeError(run.outputs.map(Double.init), expected)
                    #expect(outputError < 0.02 * depth, "\(comment): outputs differ by \(outputError)")
                    let names = run.gradients.keys.sorted()
                    let error = relativeError(
                        names.flatMap { run.gradients[$0]!.map(Double.init) }, names.flatMap { oracle.gradients[$0]! })
                    #expect(error < 0.05 * depth, "\(comment): the gradient differs by \(error)")
                }
            }
        }
    }

    @Test func bf16HalvesTheMaps() {
        let pool = ThreadPool(threads: 1)
        let sizes = Precision.allCases.map { precision in
            Execution(GraphCase.deep.graph(), batch: 64, purpose: .training, precision: precision, pool: pool).byteCount
        }
        #expect(sizes[1] * 10 < sizes[0] * 7)
    }

    @Test(arguments: [GraphCase.deep] + GraphCase.junctions)
    func inferenceGivesTheOutputsOfATrainingExecution(_ graphCase: GraphCase) {
        let pool = ThreadPool(threads: 2)
        let graph = graphCase.graph()
        let data = graphCase.data(graphCase.images)
        let outputs = [Execution.Purpose.training, .inference].map { purpose in
            let execution = Execution(graph, batch: graphCase.images, purpose: purpose, pool: pool)
            return Array(execution.forward(data.images, count: graphCase.images, mode: .evaluation).floats)
        }
        #expect(outputs[0] == outputs[1])
    }

    @Test(arguments: GraphCase.all + [GraphCase.deep])
    func accumulatesOverMicroBatches(_ graphCase: GraphCase) throws {
        // Evaluation mode: without batch statistics the gradient of two batches is the sum of theirs.
        let seed = try graphCase.seed(awayFromKinks: Self.kinkDistance, mode: .evaluation, count: 2 * graphCase.images)
        let count = graphCase.images
        let data = graphCase.data(2 * count, seed: seed)
        let oracle = ReferenceExecution(graphCase.graph(seed: seed))
        let expected = oracle.forward(data.images.map(Double.init), count: 2 * count, mode: .evaluation)
        oracle.backward(data.upstream.map(Double.init))

        let pool = ThreadPool(threads: 2)
        let graph = graphCase.graph(seed: seed)
        assignGradients(graph)
        let execution = Execution(graph, batch: count, purpose: .training, pool: pool)
        var runs: [EngineRun] = []
        for part in 0..<2 {
            let images = part * data.images.count / 2..<(part + 1) * data.images.count / 2
            let upstream = part * data.upstream.count / 2..<(part + 1) * data.upstream.count / 2
            runs.append(
                EngineRun(
                    execution, images: Array(data.images[images]), upstream: Array(data.upstream[upstream]),
                    mode: .evaluation, accumulate: part > 0))
        }
        var whole = runs[1]
        whole.outputs = runs[0].outputs + runs[1].outputs
        whole.expect(oracle, expected, tolerance: Self.tolerance, "two micro-batches")
    }

    @Test(arguments: [GraphCase.deep] + GraphCase.junctions, [1, 3])
    func takesFewerImagesThanItsBatch(_ graphCase: GraphCase, _ threads: Int) throws {
        let count = 4
        let seed = try graphCase.seed(awayFromKinks: Self.kinkDistance, mode: .training, count: count)
        let data = graphCase.data(count, seed: seed)
        let oracle = ReferenceExecution(graphCase.graph(seed: seed))
        let expected = oracle.forward(data.images.map(Double.init), count: count, mode: .training)
        oracle.backward(data.upstream.map(Double.init))

        let pool = ThreadPool(threads: threads)
        let graph = graphCase.graph(seed: seed)
        assignGradients(graph)
        let execution = Execution(graph, batch: 5, purpose: .training, pool: pool)
        // A full batch first, whose maps lie where the small one's will.
        let full = graphCase.data(5, seed: 77)
        _ = EngineRun(execution, images: full.images, upstream: full.upstream, mode: .evaluation)
        let run = EngineRun(execution, images: data.images, upstream: data.upstream, mode: .training)
        run.expect(oracle, expected, tolerance: Self.tolerance, "4 of 5 images")
    }

    @Test func countsTrainingPasses() {
        let pool = ThreadPool(threads: 1)
        let graph = GraphCase.deep.graph()
        let data = GraphCase.deep.data(2)
        let execution = Execution(graph, batch: 2, purpose: .inference, pool: pool)
        for mode in [Mode.training, .training, .evaluation, .training] {
            execution.forward(data.images, count: 2, mode: mode)
        }
        let counters = graph.steps.flatMap { $0.layer.buffers }.filter { $0.dtype == .int64 }
        #expect(!counters.isEmpty && counters.allSatisfy { $0.value.int64s[0] == 3 })
    }
}
