package import Tensors

/// The keys of a weights file's `__metadata__`: what a command must know before it may use the weights.
package enum WeightsKey {
    /// The network's name in recipes: "iresnet50".
    package static let network = "acuity.network"
    /// Channels, rows and columns of the input: "3x112x112".
    package static let input = "acuity.input"
    /// The length of the embedding: "512".
    package static let embedding = "acuity.embedding"
    /// JSON text: channel order, scale, mean, crop, size (docs/formats/safetensors.md).
    package static let preprocessing = "acuity.preprocessing"
    /// The version of Acuity that wrote the file.
    package static let version = "acuity.version"
    /// "pt": other tools take the names and layouts for PyTorch's.
    package static let format = "format"
}

/// A network's weights: a safetensors file with PyTorch's names and `WeightsKey`s.
package struct WeightsFile: Sendable {
    package let file: SafetensorsFile

    /// - Throws: `ArtifactError` `.missing`, `.cannotRead` or `.damaged`.
    package init(_ path: String, fileSystem: any FileSystem = POSIXFileSystem()) throws {
        file = try SafetensorsFile(path, fileSystem: fileSystem)
    }

    package var path: String { file.path }
    package var metadata: [String: String] { file.metadata }

    /// The value of a key that must be there.
    ///
    /// - Throws: `ArtifactError.incompatible`, naming the key.
    package func required(_ key: String) throws -> String {
        guard let value = metadata[key] else {
            throw ArtifactError.incompatible(
                path: path,
                reason: "its metadata lacks \(quoted(key)); say it on import, or write the file with Acuity")
        }
        return value
    }

    /// Writes weights so that the path never holds a part of them; `format` is added.
    ///
    /// - Throws: `ArtifactError.cannotWrite`.
    package static func write(
        _ path: String, _ tensors: [(name: String, tensor: Tensor)], metadata: [String: String],
        fileSystem: any FileSystem = POSIXFileSystem()
    ) throws {
        let metadata = metadata.merging([WeightsKey.format: "pt"]) { own, _ in own }
        try SafetensorsWriter.write(path, tensors, metadata: metadata, fileSystem: fileSystem)
    }

    /// Reads the tensors that a network expects.
    ///
    /// Floating-point types are converted to an expected fp32. Batch norm's counter `num_batches_tracked` has no
    /// effect on results, so it is never missed: where it is expected and absent it becomes zero.
    ///
    /// - Parameters:
    ///   - mode: `.strict` throws when anything is missing, unexpected or of another shape or type; `.partial` loads what
    ///     fits and reports the rest.
    ///   - beside: names of tensors that may be there beside those expected, and are not reported.
    /// - Throws: `ArtifactError.incompatible`, naming all tensors that do not fit.
    package func load(
        _ expected: [TensorSpec], _ mode: WeightsMatch.Mode, beside: Set<String> = []
    ) throws -> WeightsMatch {
        let match = try WeightsMatch(expected, beside: beside, in: file)
        if mode == .strict && !match.isComplete {
            throw ArtifactError.incompatible(path: path, reason: match.difference)
        }
        return match
    }
}

/// What a weights file gives to a network that expects certain tensors.
package struct WeightsMatch: Sendable {
    package enum Mode: Sendable { case strict, partial }

    /// A tensor that is there under another shape or type.
    package struct Mismatch: Sendable, Equatable {
        package let expected: TensorSpec
        package let shape: [Int]
        package let type: SafetensorsType
    }

    /// By name; views of the file where no conversion was needed.
    package private(set) var tensors: [String: Tensor] = [:]
    /// Expected and found, in the order expected.
    package private(set) var loaded: [String] = []
    /// Expected, but not in the file.
    package private(set) var missing: [TensorSpec] = []
    /// In the file, but not expected.
    package private(set) var unexpected: [String] = []
    package private(set) var mismatched: [Mismatch] = []

    package var isComplete: Bool { missing.isEmpty && unexpected.isEmpty && mismatched.isEmpty }

    private static let counter = "num_batches_tracked"

    private static func isCounter(_ name: String) -> Bool { name == counter || name.hasSuffix("." + counter) }

    init(_ expected: [TensorSpec], beside: Set<String>, in file: SafetensorsFile) throws {
        var names = Set<String>()
        for spec in expected {
            precondition(names.insert(spec.name).inserted, "'\(spec.name)' is expected twice")
            guard let entry = file.header[spec.name] else {
                if Self.isCounter(spec.name) {
                    tensors[spec.name] = Tensor(spec.shape, dtype: spec.dtype)
                } else {
                    missing.append(spec)
                }
                continue
            }
            guard let tensor = try Self.tensor(entry, as: spec, in: file) else {
                mismatched.append(Mismatch(expected: spec, shape: entry.shape, type: entry.type))
                continue
            }
            tensors[spec.name] = tensor
            loaded.append(spec.name)
        }
        unexpected = file.names.filter { !names.contains($0) && !Self.isCounter($0) && !beside.contains($0) }
    }

    private static func tensor(
        _ entry: SafetensorsHeader.Entry, as spec: TensorSpec, in file: SafetensorsFile
    ) throws -> Tensor? {
        // Some writers cannot store a tensor without axes.
        let sameShape = entry.shape == spec.shape || (isCounter(spec.name) && [[], [1]].contains(entry.shape))
        guard sameShape, entry.type.tensorType != nil else { return nil }
        let tensor = try file.tensor(entry.name).reshaped(spec.shape)
        if tensor.dtype == spec.dtype { return tensor }
        return spec.dtype == .float32 ? tensor.asFloat32() : nil
    }

    /// All that does not fit, one tensor a line; empty when everything does.
    package var difference: String {
        var lines: [String] = []
        lines += missing.map { "missing: \(quoted($0.name)) \($0.shape)" }
        lines += mismatched.map {
            "another shape or type: \(quoted($0.expected.name)) is \($0.type.rawValue) \($0.shape), expected "
                + "\(SafetensorsType($0.expected.dtype).rawValue) \($0.expected.shape)"
        }
        lines += unexpected.map { "unexpected: \(quoted($0))" }
        guard !lines.isEmpty else { return "" }
        let counts = "\(missing.count) missing, \(mismatched.count) misshapen, \(unexpected.count) unexpected tensors"
        return ([counts] + lines).joined(separator: "\n  ")
    }
}
