package import Layers

extension NetworkBuilder {
    /// arcface_torch's IResNet: block = BN, 3x3, BN, PReLU, 3x3 (stride), BN, plus the shortcut; names and
    /// initialisation as published.
    mutating func iresnet(blocks: [Int], embeddingSize: Int, dropout: Float) {
        let stem = StemConvolution(
            "conv1.weight", 3, 64, kernel: 3, stride: 1, padding: 1, initializer: .normal(standardDeviation: 0.1))
        let stemNorm = Normalization("bn1", 64, slope: "prelu.weight")
        record(stem, stemNorm)
        var x = graph.add("conv1", stem, graph.image)
        x = graph.add("bn1", stemNorm, x)
        var channels = 64
        for (stage, count) in blocks.enumerated() {
            let outputs = 64 << stage
            for block in 0..<count {
                x = iBasicBlock(
                    "layer\(stage + 1).\(block)", x, channels, outputs, stride: block == 0 ? 2 : 1)
                channels = outputs
            }
            graph.tap("stage\(stage + 1)", x)
        }
        let shape = graph.shape(x)
        let norm = Normalization("bn2", 512)
        // PyTorch's default for a linear layer: uniform in ±1/√inputs, weight and bias.
        let bound = 1 / Double(shape.count).squareRoot()
        let linear = Linear(
            "fc", shape.count, embeddingSize, bias: true, initializer: .uniform(bound: bound),
            biasInitializer: .uniform(bound: bound))
        let features = Normalization("features", embeddingSize, affine: .frozenScale)
        record(norm, linear, features)
        x = graph.add("bn2", norm, x)
        embed(x, dropout: dropout, linear: linear, norm: features)
    }

    /// One block, its parameters named under `name`; the shortcut is a strided 1x1 convolution with a norm where the
    /// shape changes.
    package mutating func iBasicBlock(
        _ name: String, _ x: Graph.Node, _ inputs: Int, _ outputs: Int, stride: Int
    ) -> Graph.Node {
        let normal = Initializer.normal(standardDeviation: 0.1)
        let norm1 = Normalization("\(name).bn1", inputs)
        let conv1 = Convolution(
            "\(name).conv1.weight", inputs, outputs, kernel: (3, 3), padding: 1, initializer: normal)
        let norm2 = Normalization("\(name).bn2", outputs, slope: "\(name).prelu.weight")
        let conv2 = Convolution(
            "\(name).conv2.weight", outputs, outputs, kernel: (3, 3), stride: stride, padding: 1, initializer: normal)
        let norm3 = Normalization("\(name).bn3", outputs, residual: true)
        record(norm1, conv1, norm2, conv2, norm3)

        var shortcut = x
        if stride != 1 || inputs != outputs {
            let conv = Convolution(
                "\(name).downsample.0.weight", inputs, outputs, kernel: (1, 1), stride: stride, initializer: normal)
            let norm = Normalization("\(name).downsample.1", outputs)
            record(conv, norm)
            shortcut = graph.add("\(name).downsample.0", conv, x)
            shortcut = graph.add("\(name).downsample.1", norm, shortcut)
        }
        var y = graph.add("\(name).bn1", norm1, x)
        y = graph.add("\(name).conv1", conv1, y)
        y = graph.add("\(name).bn2", norm2, y)
        y = graph.add("\(name).conv2", conv2, y)
        return graph.add("\(name).bn3", norm3, y, shortcut)
    }
}
