import Artifacts
import Tensors
import Testing

@Suite struct WeightsFileTests {
    let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func written(_ tensors: [(name: String, tensor: Tensor)]) throws -> WeightsFile {
        let path = folder.file("weights.safetensors")
        try WeightsFile.write(path, tensors, metadata: [WeightsKey.network: "tiny", WeightsKey.input: "3x112x96"])
        return try WeightsFile(path)
    }

    private let expected = [
        TensorSpec("conv1.weight", [2, 3]), TensorSpec("bn1.weight", [2]),
        TensorSpec("bn1.num_batches_tracked", [], .int64),
    ]

    @Test func carriesItsMetadata() throws {
        let weights = try written([("a", Tensor([1]))])
        #expect(weights.metadata == ["acuity.network": "tiny", "acuity.input": "3x112x96", "format": "pt"])
        #expect(try weights.required(WeightsKey.network) == "tiny")
        let error = try #require(try artifactError { _ = try weights.required(WeightsKey.preprocessing) })
        #expect("\(error)".contains("'acuity.preprocessing'") && error.path == weights.path)
    }

    @Test func loadsWhatFits() throws {
        let counter = Tensor([], dtype: .int64)
        counter.int64s[0] = 12
        let weights = try written([
            ("bn1.num_batches_tracked", counter), ("bn1.weight", Tensor([2], [5, 6])),
            ("conv1.weight", Tensor([2, 3], [1, 2, 3, 4, 5, 6])),
        ])
        let match = try weights.load(expected, .strict)
        #expect(match.isComplete && match.difference == "")
        #expect(match.loaded == expected.map(\.name))
        #expect(match.tensors["conv1.weight"]?.values == [1, 2, 3, 4, 5, 6])
        #expect(match.tensors["bn1.num_batches_tracked"]?.int64Values == [12])
    }

    @Test func theBatchCounterIsNeverMissed() throws {
        let one = Tensor([1], dtype: .int64)
        one.int64s[0] = 3
        let conv = (name: "conv1.weight", tensor: Tensor([2, 3]))
        let norm = (name: "bn1.weight", tensor: Tensor([2]))
        let without = try written([conv, norm]).load(expected, .strict)
        #expect(without.tensors["bn1.num_batches_tracked"]?.int64Values == [0])
        let flat = try written([conv, norm, ("bn1.num_batches_tracked", one)]).load(expected, .strict)
        #expect(flat.tensors["bn1.num_batches_tracked"]?.shape == [])
        let unasked = try written([conv, norm, ("bn1.num_batches_tracked", one)])
        #expect(try unasked.load(Array(expected.prefix(2)), .strict).unexpected == [])
    }

    @Test func strictNamesEveryDifferenceInOneError() throws {
        let weights = try written([
            ("bn1.weight", Tensor([3])), ("fc.weight", Tensor([1])), ("fc.bias", Tensor([1])),
            ("prelu.weight", Tensor([2], dtype: .int32)),
        ])
        let expected = expected + [TensorSpec("prelu.weight", [2]), TensorSpec("features.bias", [4])]
        let error = try #require(try artifactError { _ = try weights.load(expected, .strict) })
        guard case .incompatible(weights.path, let reason) = error else {
            Issue.record("\(error)")
            return
        }
        for line in [
            "2 missing, 2 misshapen, 2 unexpected", "missing: 'conv1.weight' [2, 3]", "missing: 'features.bias' [4]",
            "'bn1.weight' is F32 [3], expected F32 [2]", "'prelu.weight' is I32 [2], expected F32 [2]",
            "unexpected: 'fc.weight'", "unexpected: 'fc.bias'",
        ] {
            #expect(reason.contains(line), "\(reason)")
        }
        let match = try weights.load(expected, .partial)
        #expect(match.loaded == [])
        #expect(match.missing.map(\.name) == ["conv1.weight", "features.bias"])
        #expect(match.mismatched.map(\.expected.name) == ["bn1.weight", "prelu.weight"])
        #expect(match.unexpected == ["fc.weight", "fc.bias"])
        #expect(match.tensors.keys.sorted() == ["bn1.num_batches_tracked"])
    }

    @Test func convertsFloatingPointTypes() throws {
        let path = try folder.write("python.safetensors", pythonFile)
        let weights = try WeightsFile(path)
        let wanted = [TensorSpec("half", [7]), TensorSpec("brain", [2, 2]), TensorSpec("double", [2])]
        let match = try weights.load(wanted, .partial)
        #expect(match.loaded == ["half", "brain", "double"])
        #expect(match.tensors.values.allSatisfy { $0.dtype == .float32 })
        #expect(match.tensors["double"]?.values == [1.0 / 3, -.infinity])
        #expect(match.unexpected.contains("flags") && !match.unexpected.contains("bn1.num_batches_tracked"))
    }
}
