package import Tensors

/// Writes safetensors files, tensor by tensor.
package enum SafetensorsWriter {
    /// Writes the head and then each tensor as `provide` gives it. Nothing is held back, nothing is made durable: that
    /// is the caller's part.
    ///
    /// - Parameters:
    ///   - tensors: their names, all different, shapes and types. They are asked for in the order of the data: larger
    ///     elements first, else as given.
    ///   - metadata: strings for `__metadata__`.
    /// - Throws: `FileSystemError`, and what `provide` throws.
    package static func write(
        to file: any WritableFile, _ tensors: [TensorSpec], metadata: [String: String] = [:],
        provide: (TensorSpec) throws -> Tensor
    ) throws {
        let ordered = SafetensorsHeader.fileOrder(tensors)
        try SafetensorsHeader.encode(ordered, metadata: metadata).withUnsafeBytes { try file.write($0) }
        for spec in ordered {
            let tensor = try provide(spec)
            precondition(
                tensor.shape == spec.shape && tensor.dtype == spec.dtype,
                "'\(spec.name)' is \(tensor.dtype) \(tensor.shape), announced as \(spec.dtype) \(spec.shape)")
            // The pointer alone does not keep alive what `provide` may have made for this call.
            try withExtendedLifetime(tensor.buffer) {
                if tensor.count > 0 { try file.write(UnsafeRawBufferPointer(tensor.bytes)) }
            }
        }
    }

    /// Writes a whole file so that the path never holds a part of it, and makes it durable.
    ///
    /// - Throws: `ArtifactError.cannotWrite`.
    package static func write(
        _ path: String, _ tensors: [(name: String, tensor: Tensor)], metadata: [String: String] = [:],
        fileSystem: any FileSystem = POSIXFileSystem()
    ) throws {
        let specs = tensors.map { TensorSpec($0.name, $0.tensor.shape, $0.tensor.dtype) }
        let byName = Dictionary(uniqueKeysWithValues: tensors.map { ($0.name, $0.tensor) })
        do {
            try fileSystem.writeAtomically(path) { file in
                try write(to: file, specs, metadata: metadata) { byName[$0.name]! }
            }
        } catch let error as FileSystemError {
            throw ArtifactError.writing(error)
        }
    }
}
