import Layers

extension NetworkBuilder {
    /// The IR family of AdaFace, QGFace and CurricularFace: as IResNet, but an identity shortcut with a stride is a
    /// 1x1 max-pool, the final 1-d norm has no γ and β, and everything starts from Kaiming's normal (fan-out).
    mutating func ir(blocks: [Int], embeddingSize: Int, dropout: Float) {
        let stem = StemConvolution(
            "input_layer.0.weight", 3, 64, kernel: 3, stride: 1, padding: 1,
            initializer: .kaimingNormal(fanOut: 64 * 9))
        let stemNorm = Normalization("input_layer.1", 64, slope: "input_layer.2.weight")
        record(stem, stemNorm)
        var x = graph.add("input_layer.0", stem, graph.image)
        x = graph.add("input_layer.1", stemNorm, x)
        var channels = 64
        var index = 0
        for (stage, count) in blocks.enumerated() {
            let outputs = 64 << stage
            for block in 0..<count {
                x = irBlock("body.\(index)", x, channels, outputs, stride: block == 0 ? 2 : 1)
                channels = outputs
                index += 1
            }
            graph.tap("stage\(stage + 1)", x)
        }
        let shape = graph.shape(x)
        let norm = Normalization("output_layer.0", 512)
        let linear = Linear(
            "output_layer.3", shape.count, embeddingSize, bias: true,
            initializer: .kaimingNormal(fanOut: embeddingSize))
        let features = Normalization("output_layer.4", embeddingSize, affine: .absent)
        record(norm, linear, features)
        x = graph.add("output_layer.0", norm, x)
        embed(x, dropout: dropout, linear: linear, norm: features)
    }

    private mutating func irBlock(
        _ name: String, _ x: Graph.Node, _ inputs: Int, _ outputs: Int, stride: Int
    ) -> Graph.Node {
        let initializer = Initializer.kaimingNormal(fanOut: outputs * 9)
        var shortcut = x
        var projection: (Convolution, Normalization)?
        if inputs != outputs {
            let conv = Convolution(
                "\(name).shortcut_layer.0.weight", inputs, outputs, kernel: (1, 1), stride: stride,
                initializer: .kaimingNormal(fanOut: outputs))
            let norm = Normalization("\(name).shortcut_layer.1", outputs)
            projection = (conv, norm)
            shortcut = graph.add("\(name).shortcut_layer.0", conv, x)
            shortcut = graph.add("\(name).shortcut_layer.1", norm, shortcut)
        } else if stride == 2 {
            shortcut = graph.add("\(name).shortcut_layer", Subsample(), x)
        }
        let norm1 = Normalization("\(name).res_layer.0", inputs)
        let conv1 = Convolution(
            "\(name).res_layer.1.weight", inputs, outputs, kernel: (3, 3), padding: 1, initializer: initializer)
        let norm2 = Normalization("\(name).res_layer.2", outputs, slope: "\(name).res_layer.3.weight")
        let conv2 = Convolution(
            "\(name).res_layer.4.weight", outputs, outputs, kernel: (3, 3), stride: stride, padding: 1,
            initializer: initializer)
        let norm3 = Normalization("\(name).res_layer.5", outputs, residual: true)
        // The published module declares its shortcut before its residual branch.
        if let (conv, norm) = projection { record(conv, norm) }
        record(norm1, conv1, norm2, conv2, norm3)
        var y = graph.add("\(name).res_layer.0", norm1, x)
        y = graph.add("\(name).res_layer.1", conv1, y)
        y = graph.add("\(name).res_layer.2", norm2, y)
        y = graph.add("\(name).res_layer.4", conv2, y)
        return graph.add("\(name).res_layer.5", norm3, y, shortcut)
    }
}
