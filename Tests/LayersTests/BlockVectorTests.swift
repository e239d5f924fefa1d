import Layers
import Networks
import Tensors
import TestSupport
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// One IBasicBlock 2→3 with stride 2 against published-method values computed independently in double precision.
@Suite struct BlockVectorTests {
    private let graph: Graph
    private let input = sine(2 * 2 * 4 * 4, rate: 0.37, phase: 0.2)

    init() {
        var builder = NetworkBuilder(MapShape(2, 4, 4))
        _ = builder.iBasicBlock("b", builder.graph.image, 2, 3, stride: 2)
        graph = builder.graph
        func fill(_ name: String, _ a: Double, _ b: Double, _ c: Double) {
            let parameter = graph.parameters.first { $0.name == "b.\(name)" }!
            let values = sine(parameter.count, amplitude: a, rate: b, phase: 0.5, offset: c)
            for (i, value) in values.enumerated() { parameter.value.floats[i] = Float(value) }
        }
        fill("conv1.weight", 0.3, 1, 0)
        fill("conv2.weight", 0.3, 0.7, 0)
        fill("downsample.0.weight", 0.5, 0.9, 0)
        for (k, norm) in ["bn1", "bn2", "bn3", "downsample.1"].enumerated() {
            fill("\(norm).weight", 0.2, 1.1 + Double(k), 1)
            fill("\(norm).bias", 0.1, 0.6 + Double(k), 0)
        }
        fill("prelu.weight", 0.05, 1, 0.25)
    }

    @Test func oracleReproducesTheVectors() {
        let oracle = ReferenceExecution(graph)
        // The vectors were made with double-precision parameters: refill without the rounding of fp32.
        for parameter in graph.parameters { refine(parameter, in: oracle) }
        let output = oracle.forward(input, count: 2, mode: .training)
        #expect(abs(output.reduce(0, +) - 0.4957098559) < 1e-9)
        #expect(abs(output.reduce(0) { $0 + $1 * $1 } - 52.9412132536) < 1e-8)
        #expect(abs(output[0] - 0.1002076966) < 1e-9 && abs(output[1] - 2.6737687693) < 1e-9)
        let upstream = (0..<output.count).map { cos(0.3 * Double($0)) }
        #expect(abs(zip(output, upstream).reduce(0) { $0 + $1.0 * $1.1 } + 0.7334196696) < 1e-9)
        oracle.backward(upstream)
        let expected: [(String, Double, Double)] = [
            ("conv1.weight", 111.5784941404, -11.8209789082), ("conv2.weight", 14.8610077614, 1.0276421969),
            ("prelu.weight", 3.5946777823, -1.2348829750), ("bn1.weight", 3.0184799105, 2.2288465424),
            ("bn2.bias", 1.6654660314, -1.4739102277), ("bn3.weight", 5.2549892791, 2.5686468719),
            ("downsample.0.weight", 0.6482763281, -0.2532868755),
        ]
        for (name, length, first) in expected {
            let gradient = oracle.gradients["b.\(name)"]!
            #expect(abs(norm(gradient) - length) < 1e-8 * max(1, length), "\(name)")
            #expect(abs(gradient[0] - first) < 1e-8 * max(1, abs(first)), "\(name)")
        }
        #expect(abs(norm(oracle.imageGradient) - 32.8584247755) < 1e-7)
        #expect(abs(oracle.imageGradient[0] + 0.0929055594) < 1e-8)
        let mean = oracle.statistics["b.bn1.running_mean"]!
        #expect(abs(mean[0] - 0.0028985922) < 1e-9 && abs(mean[1] - 0.0044678881) < 1e-9)
        let variance = oracle.statistics["b.bn1.running_var"]!
        #expect(abs(variance[0] - 0.9526853052) < 1e-9 && abs(variance[1] - 0.9509010895) < 1e-9)
        let evaluated = oracle.forward(input, count: 2, mode: .evaluation)
        #expect(abs(evaluated.reduce(0, +) + 1.4182382190) < 1e-9)
        #expect(abs(evaluated.reduce(0) { $0 + $1 * $1 } - 3.8326899191) < 1e-9)
    }

    private func refine(_ parameter: Parameter, in oracle: ReferenceExecution) {
        let single = oracle.parameters[parameter.name]!
        let formulas: [(Double, Double, Double)] =
            [(0.3, 1, 0), (0.3, 0.7, 0), (0.5, 0.9, 0), (0.05, 1, 0.25)]
            + (0..<4).flatMap { [(0.2, 1.1 + Double($0), 1), (0.1, 0.6 + Double($0), 0)] }
        for (a, b, c) in formulas {
            let exact = sine(single.count, amplitude: a, rate: b, phase: 0.5, offset: c)
            if zip(exact, single).allSatisfy({ abs($0 - $1) < 1e-6 }) {
                oracle.parameters[parameter.name] = exact
                return
            }
        }
        Issue.record("\(parameter.name) follows no formula")
    }
}
