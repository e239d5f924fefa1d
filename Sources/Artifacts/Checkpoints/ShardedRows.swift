package import Tensors

/// The rows of a tensor that is sharded over the files of a checkpoint. Files are opened when they are first needed and
/// stay open.
package final class ShardedRows {
    /// The whole tensor.
    package let spec: TensorSpec
    private let folder: String
    private let fileSystem: any FileSystem
    private let parts: [(file: FileEntry, tensor: FileEntry.TensorEntry)]
    /// By part, the file and where the tensor's elements begin in it.
    private var opened: [(file: any ReadableFile, start: Int)?]

    init(
        _ spec: TensorSpec, parts: [(file: FileEntry, tensor: FileEntry.TensorEntry)], folder: String,
        fileSystem: any FileSystem
    ) {
        self.spec = spec
        self.folder = folder
        self.fileSystem = fileSystem
        self.parts = parts.sorted { $0.tensor.rows!.range.lowerBound < $1.tensor.rows!.range.lowerBound }
        opened = Array(repeating: nil, count: parts.count)
    }

    func check(_ range: Range<Int>) throws {
        guard range.lowerBound >= 0, range.upperBound <= spec.shape[0] else {
            throw ArtifactError.incompatible(
                path: folder,
                reason: "tensor \(quoted(spec.name)) has \(spec.shape[0]) rows, \(range) are wanted; "
                    + "is the list of classes still the same?")
        }
    }

    /// Reads rows `range` into memory that is there already, and nothing else.
    ///
    /// - Parameter target: (range.count, …), of the stored type.
    /// - Throws: `ArtifactError`: `.incompatible` when there are fewer rows, or rows of another shape or type.
    package func read(_ range: Range<Int>, into target: Tensor) throws {
        try check(range)
        let shape = [range.count] + spec.shape.dropFirst()
        guard target.shape == shape, target.dtype == spec.dtype else {
            throw ArtifactError.incompatible(
                path: folder,
                reason: "rows of tensor \(quoted(spec.name)) are \(spec.dtype) \(shape), wanted are \(target.dtype) "
                    + "\(target.shape)")
        }
        guard target.count > 0 else { return }
        for index in parts.indices {
            let stored = parts[index].tensor.rows!.range
            let overlap = stored.clamped(to: range)
            if overlap.isEmpty { continue }
            let rows = target.rows(overlap.lowerBound - range.lowerBound..<overlap.upperBound - range.lowerBound)
            let skipped = (overlap.lowerBound - stored.lowerBound) * (rows.byteCount / overlap.count)
            do {
                let (file, start) = try open(index)
                try file.read(at: start + skipped, into: rows.bytes)
            } catch let error as FileSystemError {
                throw ArtifactError.reading(error)
            }
        }
    }

    private func open(_ index: Int) throws -> (file: any ReadableFile, start: Int) {
        if let already = opened[index] { return already }
        let (entry, tensor) = parts[index]
        let path = joinedPath(folder, entry.name)
        let file = try fileSystem.openFile(path)
        let header = try SafetensorsHeader(reading: file, path: path)
        guard let found = header[tensor.name], found.type == tensor.type, found.shape == tensor.shape else {
            throw ArtifactError.damaged(
                path: path, reason: "tensor \(quoted(tensor.name)) is not as the manifest says")
        }
        opened[index] = (file, found.bytes.lowerBound)
        return (file, found.bytes.lowerBound)
    }
}
