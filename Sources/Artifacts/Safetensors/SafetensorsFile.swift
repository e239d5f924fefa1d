package import Tensors

/// A safetensors file, mapped into memory.
///
/// Tensors are views of the mapping where they can be: nothing is read before it is used, and what is changed in
/// memory does not reach the file. The file must not be shortened while it is mapped.
package struct SafetensorsFile: Sendable {
    package let path: String
    package let header: SafetensorsHeader
    private let buffer: AlignedBuffer

    /// - Throws: `ArtifactError` `.missing`, `.cannotRead`, or `.damaged` naming the byte or the tensor.
    package init(_ path: String, fileSystem: any FileSystem = POSIXFileSystem()) throws {
        do {
            let file = try fileSystem.openFile(path)
            header = try SafetensorsHeader(reading: file, path: path)
            buffer = try file.map()
        } catch let error as FileSystemError {
            throw ArtifactError.reading(error)
        }
        self.path = path
    }

    package var metadata: [String: String] { header.metadata }
    /// In the order of the data.
    package var names: [String] { header.entries.map(\.name) }

    /// The tensor of that name. F16 becomes fp32; the other types stay.
    ///
    /// - Throws: `ArtifactError.missing`, or `.incompatible` for an element type that Acuity does not compute with.
    package func tensor(_ name: String) throws -> Tensor {
        guard let entry = header[name] else {
            throw ArtifactError.missing(path: path, reason: "there is no tensor \(quoted(name))")
        }
        guard let dtype = entry.type.tensorType else {
            throw ArtifactError.incompatible(
                path: path,
                reason: "tensor \(quoted(name)) at byte \(entry.bytes.lowerBound) is \(entry.type.rawValue); "
                    + "convert it to F32")
        }
        let start = entry.bytes.lowerBound
        if entry.type == .float16 { return widened(entry) }
        if start % dtype.byteCount == 0 { return Tensor(entry.shape, dtype: dtype, buffer: buffer, byteOffset: start) }
        // Files of others need not be aligned.
        let copy = Tensor(entry.shape, dtype: dtype)
        copy.bytes.copyMemory(from: UnsafeRawBufferPointer(start: buffer.base + start, count: entry.bytes.count))
        return copy
    }

    private func widened(_ entry: SafetensorsHeader.Entry) -> Tensor {
        let result = Tensor(entry.shape)
        let values = result.floats
        for i in 0..<values.count {
            let bits = buffer.base.loadUnaligned(fromByteOffset: entry.bytes.lowerBound + 2 * i, as: UInt16.self)
            values[i] = Float(Float16(bitPattern: bits))
        }
        return result
    }
}
