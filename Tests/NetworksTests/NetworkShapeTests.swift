import Layers
import Networks
import Tensors
import Testing

@Suite struct NetworkShapeTests {
    /// Counts published for the reference implementations (total, trainable, state-dict entries).
    @Test(arguments: [
        ("iresnet18", 24_025_600, 24_025_088, 187), ("iresnet34", 34_139_328, 34_138_816, 331),
        ("iresnet50", 43_590_848, 43_590_336, 475), ("iresnet100", 65_156_160, 65_155_648, 925),
        ("mbf", 2_059_520, 2_059_520, 333),
    ])
    func countsMatchThePublishedModels(_ name: String, _ total: Int, _ trained: Int, _ entries: Int) throws {
        let network = try NetworkSpecification(name).build()
        #expect(network.parameterCount == total)
        #expect(network.trainedParameterCount == trained)
        #expect(network.state.count == entries)
    }

    @Test(arguments: NetworkSpecification.names, [112, 96])
    func everyBackboneBuildsForBothInputs(_ name: String, _ width: Int) throws {
        let network = try NetworkSpecification(name, embeddingSize: 128, inputWidth: width).build()
        #expect(network.graph.shape(network.graph.output) == MapShape(128, 1, 1))
        #expect(network.graph.taps.count >= 3)
    }

    @Test func namesOfTheStateDict() throws {
        let iresnet = try NetworkSpecification("iresnet18").build().state.map(\.name)
        #expect(
            Array(iresnet.prefix(8)) == [
                "conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var",
                "bn1.num_batches_tracked", "prelu.weight", "layer1.0.bn1.weight",
            ])
        #expect(iresnet.contains("layer1.0.downsample.0.weight"))
        #expect(iresnet.suffix(5).first == "features.weight")
        let mbf = try NetworkSpecification("mbf").build().state.map(\.name)
        #expect(mbf.contains("layers.3.layers.2.layers.1.layers.0.weight"))
        #expect(mbf.contains("features.layers.2.weight"))
        let mobile = try NetworkSpecification("mobilefacenet").build().state.map(\.name)
        #expect(mobile.contains("blocks.14.conv.7.running_var"))
        #expect(mobile.contains("dw_conv1.prelu.weight"))
        #expect(mobile.contains("linear1.conv.weight"))
    }

    @Test func widthScalesMobileFaceNet() throws {
        let full = try NetworkSpecification("mobilefacenet").build()
        let half = try NetworkSpecification("mobilefacenet", width: 0.5).build()
        #expect(half.parameterCount < full.parameterCount / 2)
    }

    @Test func refusesWhatItCannotBuild() {
        #expect(throws: NetworkError.unknown("resnet")) { try NetworkSpecification("resnet").build() }
        #expect(throws: NetworkError.embeddingSize(100)) {
            try NetworkSpecification("mbf", embeddingSize: 100).build()
        }
        #expect(throws: NetworkError.noWidth("mbf")) { try NetworkSpecification("mbf", width: 2).build() }
        #expect(throws: NetworkError.inputSize(128, 128)) {
            try NetworkSpecification("mbf", inputHeight: 128, inputWidth: 128).build()
        }
    }

    @Test func startingValuesDependOnSeedAndNameOnly() throws {
        let a = try NetworkSpecification("mobilefacenet", width: 0.5).build()
        let b = try NetworkSpecification("mobilefacenet", width: 0.5).build()
        a.initialize(seed: 7)
        b.initialize(seed: 7)
        for (x, y) in zip(a.parameters, b.parameters) { #expect(x.value.floats.elementsEqual(y.value.floats)) }
        b.initialize(seed: 8)
        #expect(!a.parameters[0].value.floats.elementsEqual(b.parameters[0].value.floats))
    }
}
