import Layers

extension NetworkBuilder {
    /// Convolution, norm and, unless `slope` is nil, PReLU; plus a residual where there is one.
    private mutating func unit(
        _ names: (conv: String, norm: String, slope: String?), _ x: Graph.Node, _ outputs: Int,
        kernel: (height: Int, width: Int), stride: Int = 1, padding: Int = 0, groups: Int = 1,
        residual: Graph.Node? = nil,
        initializer: (_ fanIn: Int, _ fanOut: Int) -> Initializer
    ) -> Graph.Node {
        let inputs = graph.shape(x).channels
        let area = kernel.height * kernel.width
        let start = initializer(inputs / groups * area, outputs * area)
        let conv: any Layer =
            x == graph.image
            ? StemConvolution(
                "\(names.conv).weight", inputs, outputs, kernel: kernel.height, stride: stride, padding: padding,
                initializer: start)
            : Convolution(
                "\(names.conv).weight", inputs, outputs, kernel: kernel, stride: stride, padding: padding,
                groups: groups, initializer: start)
        let norm = Normalization(names.norm, outputs, slope: names.slope, residual: residual != nil)
        record(conv, norm)
        let y = graph.add(names.conv, conv, x)
        if let residual { return graph.add(names.norm, norm, y, residual) }
        return graph.add(names.norm, norm, y)
    }

    // MARK: - mobilefacenet

    /// MobileFaceNet as in its paper (Chen et al., arXiv 1804.07573, table 1): stem, depthwise 3x3, inverted residual
    /// bottlenecks, 1x1 to 512, global depthwise, linear 1x1 to the embedding. Everything starts as PyTorch's
    /// convolutions do: uniform in ±1/√fanIn.
    mutating func mobileFaceNet(embeddingSize: Int, width: Double) {
        func scaled(_ channels: Int) -> Int { max(16, Int((Double(channels) * width / 16).rounded()) * 16) }
        func start(_ fanIn: Int, _ fanOut: Int) -> Initializer { .uniform(bound: 1 / Double(fanIn).squareRoot()) }
        func names(_ prefix: String, slope: Bool = true) -> (conv: String, norm: String, slope: String?) {
            ("\(prefix).conv", "\(prefix).bn", slope ? "\(prefix).prelu.weight" : nil)
        }
        let base = scaled(64)
        var x = unit(
            names("conv1"), graph.image, base, kernel: (3, 3), stride: 2, padding: 1, initializer: start)
        x = unit(names("dw_conv1"), x, base, kernel: (3, 3), padding: 1, groups: base, initializer: start)
        // (expansion, channels, blocks, stride of the first)
        let stages = [(2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1)]
        var index = 0
        for (stage, (expansion, channels, count, stride)) in stages.enumerated() {
            for block in 0..<count {
                x = bottleneck(
                    "blocks.\(index).conv", x, scaled(channels), expansion: expansion, stride: block == 0 ? stride : 1,
                    initializer: start)
                index += 1
            }
            // The three resolutions of the body: 28x28, 14x14, 7x7.
            if [0, 2, 4].contains(stage) { graph.tap("stage\(stage / 2 + 2)", x) }
        }
        x = unit(names("conv2"), x, scaled(512), kernel: (1, 1), initializer: start)
        let shape = graph.shape(x)
        x = unit(
            names("linear7", slope: false), x, shape.channels, kernel: (shape.height, shape.width),
            groups: shape.channels, initializer: start)
        let linear = Linear(
            "linear1.conv", shape.channels, embeddingSize, bias: false, initializer: start(shape.channels, 0),
            weightShape: [embeddingSize, shape.channels, 1, 1])
        let norm = Normalization("linear1.bn", embeddingSize)
        record(linear, norm)
        x = graph.add("linear1.conv", linear, x)
        graph.add("linear1.bn", norm, x)
    }

    private mutating func bottleneck(
        _ name: String, _ x: Graph.Node, _ outputs: Int, expansion: Int, stride: Int,
        initializer: (Int, Int) -> Initializer
    ) -> Graph.Node {
        let inputs = graph.shape(x).channels
        let middle = inputs * expansion
        var y = unit(
            ("\(name).0", "\(name).1", "\(name).2.weight"), x, middle, kernel: (1, 1), initializer: initializer)
        y = unit(
            ("\(name).3", "\(name).4", "\(name).5.weight"), y, middle, kernel: (3, 3), stride: stride, padding: 1,
            groups: middle, initializer: initializer)
        return unit(
            ("\(name).6", "\(name).7", nil), y, outputs, kernel: (1, 1),
            residual: stride == 1 && inputs == outputs ? x : nil, initializer: initializer)
    }

    // MARK: - mbf

    /// arcface_torch's `mbf` (scale 2, blocks 1, 4, 6, 2) and `mbf_large` (scale 4, blocks 2, 8, 12, 4): the outer
    /// channels are scaled, the inner ones are not. Kaiming's normal, fan-out.
    mutating func mbf(blocks: [Int], scale: Int, embeddingSize: Int) {
        func start(_ fanIn: Int, _ fanOut: Int) -> Initializer { .kaimingNormal(fanOut: fanOut) }
        func names(_ prefix: String, slope: Bool = true) -> (conv: String, norm: String, slope: String?) {
            ("\(prefix).layers.0", "\(prefix).layers.1", slope ? "\(prefix).layers.2.weight" : nil)
        }
        func depthwise(
            _ builder: inout NetworkBuilder, _ prefix: String, _ x: Graph.Node, _ outputs: Int, middle: Int,
            stride: Int, residual: Bool
        ) -> Graph.Node {
            var y = builder.unit(names("\(prefix).layers.0"), x, middle, kernel: (1, 1), initializer: start)
            y = builder.unit(
                names("\(prefix).layers.1"), y, middle, kernel: (3, 3), stride: stride, padding: 1, groups: middle,
                initializer: start)
            return builder.unit(
                names("\(prefix).layers.2", slope: false), y, outputs, kernel: (1, 1), residual: residual ? x : nil,
                initializer: start)
        }
        func stack(
            _ builder: inout NetworkBuilder, _ prefix: String, _ x: Graph.Node, count: Int, middle: Int
        ) -> Graph.Node {
            (0..<count).reduce(x) { x, block in
                let channels = builder.graph.shape(x).channels
                return depthwise(
                    &builder, "\(prefix).layers.\(block)", x, channels, middle: middle, stride: 1, residual: true)
            }
        }
        let narrow = 64 * scale
        let wide = 128 * scale
        var x = unit(names("layers.0"), graph.image, narrow, kernel: (3, 3), stride: 2, padding: 1, initializer: start)
        if blocks[0] == 1 {
            x = unit(names("layers.1"), x, narrow, kernel: (3, 3), padding: 1, groups: 64, initializer: start)
        } else {
            x = stack(&self, "layers.1", x, count: blocks[0], middle: 128)
        }
        x = depthwise(&self, "layers.2", x, narrow, middle: 128, stride: 2, residual: false)
        x = stack(&self, "layers.3", x, count: blocks[1], middle: 128)
        graph.tap("stage2", x)
        x = depthwise(&self, "layers.4", x, wide, middle: 256, stride: 2, residual: false)
        x = stack(&self, "layers.5", x, count: blocks[2], middle: 256)
        graph.tap("stage3", x)
        x = depthwise(&self, "layers.6", x, wide, middle: 512, stride: 2, residual: false)
        x = stack(&self, "layers.7", x, count: blocks[3], middle: 256)
        graph.tap("stage4", x)
        x = unit(names("conv_sep"), x, 512, kernel: (1, 1), initializer: start)
        let shape = graph.shape(x)
        x = unit(
            names("features.layers.0", slope: false), x, 512, kernel: (shape.height, shape.width), groups: 512,
            initializer: start)
        let linear = Linear(
            "features.layers.2", 512, embeddingSize, bias: false,
            initializer: .kaimingNormal(fanOut: embeddingSize))
        let norm = Normalization("features.layers.3", embeddingSize)
        record(linear, norm)
        x = graph.add("features.layers.2", linear, x)
        graph.add("features.layers.3", norm, x)
    }
}
