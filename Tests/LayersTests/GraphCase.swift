import Layers
import Networks
import Tensors
import TestSupport
import Testing

/// A small graph that ends in vectors, made anew for every test: graphs hold their parameters.
struct GraphCase: Sendable, CustomTestStringConvertible {
    let name: String
    let input: MapShape
    let images: Int
    private let build: @Sendable (inout Graph) -> Void

    init(_ name: String, _ input: MapShape, images: Int = 3, _ build: @escaping @Sendable (inout Graph) -> Void) {
        self.name = name
        self.input = input
        self.images = images
        self.build = build
    }

    var testDescription: String { name }

    /// The graph with random parameters and running statistics.
    func graph(seed: UInt64 = 1) -> Graph {
        var graph = Graph(input: input)
        build(&graph)
        for (index, step) in graph.steps.enumerated() {
            for parameter in step.layer.parameters { fill(parameter, seed: seed, index: index) }
            guard let norm = step.layer as? Normalization else { continue }
            var stream = RandomStream(seed: seed, purpose: .test, index: UInt64(index), step: 9)
            for c in 0..<norm.channels {
                norm.runningMean.value.floats[c] = Float(stream.uniform(-0.5, 0.5))
                norm.runningVariance.value.floats[c] = Float(stream.uniform(0.5, 1.5))
            }
        }
        return graph
    }

    /// Weights of variance 1/fan-in, scales and slopes away from 0 and 1, shifts that move the kinks off the mean.
    private func fill(_ parameter: Parameter, seed: UInt64, index: Int) {
        let kind = UInt64(ParameterRole.allCases.firstIndex(of: parameter.role)!)
        var stream = RandomStream(seed: seed, purpose: .test, index: UInt64(index), step: 10 + kind)
        let fanIn = parameter.shape.dropFirst().reduce(1, *)
        let (low, high): (Double, Double)
        switch parameter.role {
        case .convolution, .linear: (low, high) = (-(3 / Double(fanIn)).squareRoot(), (3 / Double(fanIn)).squareRoot())
        case .bias, .normShift: (low, high) = (-0.5, 0.5)
        case .normScale: (low, high) = (0.5, 1.5)
        case .preluSlope: (low, high) = (0.1, 0.5)
        }
        for i in 0..<parameter.count { parameter.value.floats[i] = Float(stream.uniform(low, high)) }
    }

    /// Images, (count, channels, height, width), and the gradient of the embeddings, exact in fp32.
    func data(_ count: Int, seed: UInt64 = 1) -> (images: [Float], upstream: [Float]) {
        var stream = RandomStream(seed: seed, purpose: .test, index: 0, step: 1)
        let images = (0..<count * input.count).map { _ in Float(stream.uniform(-1, 1)) }
        var graph = Graph(input: input)
        build(&graph)
        let outputs = graph.shape(graph.output).count
        return (images, (0..<count * outputs).map { _ in Float(stream.uniform(-1, 1)) })
    }

    /// The first seed at which no activation lies within `distance` of a PReLU's kink.
    func seed(awayFromKinks distance: Double, mode: Mode, count: Int? = nil) throws -> UInt64 {
        let count = count ?? images
        let seeds: ClosedRange<UInt64> = 1...60
        let found = seeds.first { seed in
            let oracle = ReferenceExecution(graph(seed: seed))
            _ = oracle.forward(data(count, seed: seed).images.map(Double.init), count: count, mode: mode)
            return oracle.kinkDistance > distance
        }
        return try #require(found, "\(name): every seed lies near a kink")
    }
}

// MARK: - Cases

extension GraphCase {
    private static func he() -> Initializer { .kaimingNormal(fanOut: 1) }

    /// Stem to `channels`, norm and PReLU.
    private static func begin(_ graph: inout Graph, _ channels: Int, stride: Int = 1) -> Graph.Node {
        let stem = StemConvolution(
            "stem", graph.inputShape.channels, channels, kernel: 3, stride: stride, padding: 1, initializer: he())
        let x = graph.add("stem", stem, graph.image)
        return graph.add("norm0", Normalization("norm0", channels, slope: "slope0"), x)
    }

    /// 1x1 convolution to 16 channels, norm, flattening, linear layer.
    private static func end(_ graph: inout Graph, _ x: Graph.Node, bias: Bool = true) {
        let inputs = graph.shape(x).channels
        var x = graph.add("last", Convolution("last", inputs, 16, kernel: (1, 1), initializer: he()), x)
        x = graph.add("norm9", Normalization("norm9", 16), x)
        x = graph.add("flatten", Flatten(), x)
        graph.add("fc", Linear("fc", graph.shape(x).count, 16, bias: bias, initializer: he()), x)
    }

    private static func convolution(
        _ name: String, _ inputs: Int, _ outputs: Int, _ kernel: (height: Int, width: Int), stride: Int = 1,
        padding: Int = 0, groups: Int = 1, height: Int = 7, width: Int = 5
    ) -> GraphCase {
        GraphCase(name, MapShape(3, height, width)) { graph in
            var x = begin(&graph, inputs)
            x = graph.add(
                "conv",
                Convolution(
                    "conv", inputs, outputs, kernel: kernel, stride: stride, padding: padding, groups: groups,
                    initializer: he()), x)
            x = graph.add("norm1", Normalization("norm1", outputs, slope: "slope1"), x)
            end(&graph, x)
        }
    }

    static let convolutions: [GraphCase] = [
        convolution("3x3", 5, 7, (3, 3), padding: 1),
        convolution("3x3 unpadded", 5, 7, (3, 3)),
        convolution("3x3 of many channels", 17, 20, (3, 3), padding: 1, height: 9, width: 6),
        convolution("3x3 stride 2", 5, 7, (3, 3), stride: 2, padding: 1),
        convolution("3x3 stride 2, 18 to 33", 18, 33, (3, 3), stride: 2, padding: 1),
        convolution("1x1", 6, 19, (1, 1)),
        convolution("1x1 stride 2", 18, 5, (1, 1), stride: 2),
        convolution("7x7 global depthwise", 20, 20, (7, 7), groups: 20, width: 7),
        convolution("7x6 global depthwise", 5, 5, (7, 6), groups: 5, width: 6),
        convolution("depthwise", 19, 19, (3, 3), padding: 1, groups: 19),
        convolution("depthwise stride 2", 6, 6, (3, 3), stride: 2, padding: 1, groups: 6),
        convolution("2 groups", 6, 8, (3, 3), padding: 1, groups: 2),
        convolution("16 groups of 2", 32, 32, (3, 3), padding: 1, groups: 16),
    ]

    static let stems: [GraphCase] = [1, 2].map { stride in
        GraphCase("stem stride \(stride)", MapShape(3, 9, 7)) { graph in
            end(&graph, begin(&graph, 18, stride: stride), bias: stride == 1)
        }
    }

    static let norms: [GraphCase] = [Normalization.Affine.trained, .frozenScale, .absent].flatMap { affine in
        [false, true].flatMap { slope in
            [false, true].map { residual in
                let name = "norm, \(affine), \(slope ? "slope" : "no slope"), \(residual ? "residual" : "no residual")"
                return GraphCase(name, MapShape(3, 5, 7)) { graph in
                    let x = begin(&graph, 6)
                    var y = graph.add(
                        "conv", Convolution("conv", 6, 6, kernel: (3, 3), padding: 1, initializer: he()), x)
                    let norm = Normalization(
                        "norm1", 6, affine: affine, slope: slope ? "slope1" : nil, residual: residual)
                    y = residual ? graph.add("norm1", norm, y, x) : graph.add("norm1", norm, y)
                    end(&graph, y)
                }
            }
        }
    }

    static let junctions: [GraphCase] = [
        GraphCase("subsample and addition", MapShape(3, 7, 5)) { graph in
            let x = begin(&graph, 18)
            let y = graph.add(
                "conv", Convolution("conv", 18, 18, kernel: (3, 3), stride: 2, padding: 1, initializer: he()), x)
            let short = graph.add("subsample", Subsample(), x)
            end(&graph, graph.add("sum", Addition(), y, short))
        },
        GraphCase("subsample first", MapShape(3, 5, 9)) { graph in
            let x = begin(&graph, 5)
            let short = graph.add("subsample", Subsample(), x)
            let y = graph.add(
                "conv", Convolution("conv", 5, 5, kernel: (1, 1), stride: 2, initializer: he()), x)
            end(&graph, graph.add("sum", Addition(), short, y))
        },
        GraphCase("addition to itself", MapShape(3, 5, 3)) { graph in
            let x = begin(&graph, 6)
            end(&graph, graph.add("sum", Addition(), x, x))
        },
        GraphCase("norm with its own input as residual", MapShape(3, 5, 3)) { graph in
            let x = begin(&graph, 6)
            end(&graph, graph.add("norm1", Normalization("norm1", 6, slope: "slope1", residual: true), x, x))
        },
        GraphCase("three readers", MapShape(3, 5, 7)) { graph in
            let x = begin(&graph, 6)
            let a = graph.add("a", Convolution("a", 6, 6, kernel: (1, 1), initializer: he()), x)
            let b = graph.add("b", Convolution("b", 6, 6, kernel: (3, 3), padding: 1, initializer: he()), x)
            let sum = graph.add("sum", Addition(), a, b)
            end(&graph, graph.add("norm1", Normalization("norm1", 6, slope: "slope1", residual: true), sum, x))
        },
        // Enough images: over two, x̂ is ±1 whatever x is, and its derivative is rounding.
        GraphCase("norm of vectors", MapShape(3, 5, 3), images: 6) { graph in
            let x = begin(&graph, 6)
            end(&graph, x, bias: false)
            graph.add("features", Normalization("features", 16, affine: .frozenScale), graph.output)
        },
        GraphCase("dropout", MapShape(3, 5, 7)) { graph in
            let x = begin(&graph, 18)
            end(&graph, graph.add("dropout", Dropout(0.4, index: 2), x))
        },
        // The convolution may not read the gradient above the norm while it adds to the same memory.
        residualAround("1x1", kernel: (1, 1)),
        residualAround("depthwise", kernel: (3, 3), padding: 1, groups: 16),
        // With bf16 the norm reads bf16 and writes fp32: vectors and what leads to them without a norm are fp32.
        GraphCase("vectors without a norm", MapShape(3, 5, 3)) { graph in
            let x = begin(&graph, 32)
            let y = graph.add(
                "conv", Convolution("conv", 32, 32, kernel: (3, 3), padding: 1, groups: 32, initializer: he()), x)
            let z = graph.add("flatten", Flatten(), y)
            graph.add("fc", Linear("fc", graph.shape(z).count, 16, bias: false, initializer: he()), z)
        },
    ]

    /// A residual block of one convolution and its norm.
    private static func residualAround(
        _ name: String, kernel: (height: Int, width: Int), padding: Int = 0, groups: Int = 1
    ) -> GraphCase {
        GraphCase("residual around one convolution, \(name)", MapShape(3, 9, 7)) { graph in
            let x = begin(&graph, 16)
            let conv = Convolution(
                "conv", 16, 16, kernel: kernel, padding: padding, groups: groups, initializer: he())
            let y = graph.add("conv", conv, x)
            let norm = Normalization("norm1", 16, slope: "slope1", residual: true)
            end(&graph, graph.add("norm1", norm, y, x))
        }
    }

    static let all = convolutions + stems + norms + junctions

    /// Blocks as in the networks, one after the other: projection, identity (twice), pooled shortcut, depthwise
    /// bottleneck, so that residual gradients are shared over several steps.
    static let deep = blocks("deep", tapped: false)
    /// The same with a tap after every block.
    static let tapped = blocks("tapped", tapped: true)

    private static func blocks(_ name: String, tapped: Bool) -> GraphCase {
        GraphCase(name, MapShape(3, 13, 11)) { graph in
            var nodes: [Graph.Node] = []
            var x = begin(&graph, 16)
            for (name, outputs, stride, pooled) in [
                ("a", 20, 2, false), ("b", 20, 1, false), ("c", 20, 1, false), ("d", 20, 2, true), ("e", 33, 1, false),
            ] {
                x = block(&graph, name, x, outputs, stride: stride, pooled: pooled)
                nodes.append(x)
            }
            for (name, middle) in [("f", 48), ("g", 17)] {
                x = bottleneck(&graph, name, x, middle: middle)
                nodes.append(x)
            }
            if tapped { for (i, node) in nodes.enumerated() { graph.tap("tap\(i)", node) } }
            end(&graph, x)
        }
    }

    private static func block(
        _ graph: inout Graph, _ name: String, _ x: Graph.Node, _ outputs: Int, stride: Int, pooled: Bool = false
    ) -> Graph.Node {
        let inputs = graph.shape(x).channels
        var short = x
        if pooled {
            short = graph.add("\(name).pool", Subsample(), x)
        } else if stride != 1 || inputs != outputs {
            short = graph.add(
                "\(name).conv0",
                Convolution("\(name).conv0", inputs, outputs, kernel: (1, 1), stride: stride, initializer: he()), x)
            short = graph.add("\(name).norm0", Normalization("\(name).norm0", outputs), short)
        }
        var y = graph.add("\(name).norm1", Normalization("\(name).norm1", inputs), x)
        let conv1 = Convolution(
            "\(name).conv1", inputs, outputs, kernel: (3, 3), padding: 1, initializer: he())
        y = graph.add("\(name).conv1", conv1, y)
        y = graph.add("\(name).norm2", Normalization("\(name).norm2", outputs, slope: "\(name).slope"), y)
        let conv2 = Convolution(
            "\(name).conv2", outputs, outputs, kernel: (3, 3), stride: stride, padding: 1, initializer: he())
        y = graph.add("\(name).conv2", conv2, y)
        return graph.add("\(name).norm3", Normalization("\(name).norm3", outputs, residual: true), y, short)
    }

    private static func bottleneck(_ graph: inout Graph, _ name: String, _ x: Graph.Node, middle: Int) -> Graph.Node {
        let channels = graph.shape(x).channels
        var y = graph.add(
            "\(name).conv1", Convolution("\(name).conv1", channels, middle, kernel: (1, 1), initializer: he()), x)
        y = graph.add("\(name).norm1", Normalization("\(name).norm1", middle, slope: "\(name).slope1"), y)
        let conv2 = Convolution(
            "\(name).conv2", middle, middle, kernel: (3, 3), padding: 1, groups: middle, initializer: he())
        y = graph.add("\(name).conv2", conv2, y)
        y = graph.add("\(name).norm2", Normalization("\(name).norm2", middle, slope: "\(name).slope2"), y)
        y = graph.add(
            "\(name).conv3", Convolution("\(name).conv3", middle, channels, kernel: (1, 1), initializer: he()), y)
        return graph.add("\(name).norm3", Normalization("\(name).norm3", channels, residual: true), y, x)
    }
}
