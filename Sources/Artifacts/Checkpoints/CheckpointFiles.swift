internal import Crypto
internal import FoundationEssentials
package import Tensors

/// A tensor to be stored: the whole of it, or this rank's rows.
package struct CheckpointTensor: Sendable {
    package let name: String
    package let tensor: Tensor
    package let rows: ShardRows?

    package init(_ name: String, _ tensor: Tensor, rows: ShardRows? = nil) {
        if let rows {
            precondition(
                tensor.shape.first == rows.range.count, "'\(name)': rows \(rows.range), but shape \(tensor.shape)")
        }
        self.name = name
        self.tensor = tensor
        self.rows = rows
    }
}

/// The files of one rank in a checkpoint being written. Each is durable when the function that adds it returns.
package final class CheckpointFiles {
    package let rank: Int
    package let worldSize: Int
    private let folder: String
    private let fileSystem: any FileSystem
    private(set) var entries: [FileEntry] = []

    init(folder: String, rank: Int, worldSize: Int, fileSystem: any FileSystem) {
        self.folder = folder
        self.rank = rank
        self.worldSize = worldSize
        self.fileSystem = fileSystem
    }

    /// "head-00001-of-00004.safetensors" for rank 1 of 4.
    package static func shardName(_ stem: String, rank: Int, worldSize: Int) -> String {
        func padded(_ number: Int) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
        }
        return "\(stem)-\(padded(rank))-of-\(padded(worldSize)).safetensors"
    }

    /// Adds a safetensors file. File names must differ over all ranks.
    ///
    /// - Throws: `FileSystemError`.
    package func addTensors(
        _ name: String, _ tensors: [CheckpointTensor], metadata: [String: String] = [:]
    ) throws {
        var metadata = metadata
        for tensor in tensors {
            if let rows = tensor.rows { metadata[ShardRows.key(tensor.name)] = rows.text }
        }
        let byName = Dictionary(uniqueKeysWithValues: tensors.map { ($0.name, $0.tensor) })
        let specs = tensors.map { TensorSpec($0.name, $0.tensor.shape, $0.tensor.dtype) }
        let listed = tensors.map {
            FileEntry.TensorEntry(
                name: $0.name, type: SafetensorsType($0.tensor.dtype), shape: $0.tensor.shape, rows: $0.rows)
        }
        try add(name, listed) { file in
            try SafetensorsWriter.write(to: file, specs, metadata: metadata) { byName[$0.name]! }
        }
    }

    /// Adds this rank's file of a tensor that all ranks share, "head-00001-of-00004.safetensors".
    ///
    /// - Throws: `FileSystemError`.
    package func addShard(_ stem: String, _ tensors: [CheckpointTensor], metadata: [String: String] = [:]) throws {
        try addTensors(
            Self.shardName(stem, rank: rank, worldSize: worldSize), tensors, metadata: metadata)
    }

    /// Adds a JSON file of scalar state: the step, the seed, the quarantine list. Numbers that are not finite are
    /// stored as text.
    ///
    /// - Throws: `FileSystemError`, and `EncodingError` for a value that has no JSON.
    package func addState(_ state: some Encodable, as name: String = Checkpoint.stateFileName) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
        let text = try encoder.encode(state)
        try add(name, []) { file in
            try [UInt8](text).withUnsafeBytes { try file.write($0) }
        }
    }

    /// Adds a JSON array of texts, one a line: as many as there are classes, so they are written as they come.
    ///
    /// - Throws: `FileSystemError`.
    package func addTexts(_ name: String, count: Int, _ text: (Int) -> String) throws {
        try add(name, []) { file in
            var piece: [UInt8] = Array("[".utf8)
            for index in 0..<count {
                piece += Array(((index == 0 ? "\n" : ",\n") + JSONText.string(text(index))).utf8)
                guard piece.count >= 1 << 20 else { continue }
                try piece.withUnsafeBytes { try file.write($0) }
                piece.removeAll(keepingCapacity: true)
            }
            piece += Array("\n]\n".utf8)
            try piece.withUnsafeBytes { try file.write($0) }
        }
    }

    /// Adds a file of another checkpoint as it is.
    ///
    /// - Throws: `FileSystemError`; `ArtifactError.damaged` when its bytes are no longer those of its manifest.
    package func addCopy(of file: FileEntry, from checkpoint: Checkpoint) throws {
        try add(file.name, file.tensors) { target in
            try checkpoint.read(file) { try target.write($0) }
        }
        guard entries[entries.count - 1].sha256 == file.sha256 else {
            throw ArtifactError.damaged(
                path: checkpoint.path(file.name), reason: "its SHA-256 is not the manifest's")
        }
    }

    private func add(
        _ name: String, _ tensors: [FileEntry.TensorEntry], _ body: (any WritableFile) throws -> Void
    ) throws {
        precondition(isPlainFileName(name), "'\(name)' is not a plain file name")
        precondition(!entries.contains { $0.name == name }, "the checkpoint file '\(name)' is added twice")
        var hash = SHA256()
        var byteCount = 0
        try fileSystem.writeFile(joinedPath(folder, name)) { file in
            let hashing = HashingFile(file)
            try body(hashing)
            hash = hashing.hash
            byteCount = hashing.byteCount
        }
        entries.append(
            FileEntry(
                name: name, rank: rank, byteCount: byteCount, sha256: hexadecimal(hash.finalize()), tensors: tensors))
    }
}

/// Passes bytes on to a file and hashes them while they are in the cache.
private final class HashingFile: WritableFile {
    private let file: any WritableFile
    private(set) var hash = SHA256()
    private(set) var byteCount = 0

    init(_ file: any WritableFile) {
        self.file = file
    }

    func write(_ bytes: UnsafeRawBufferPointer) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(1 << 20))
            hash.update(bufferPointer: piece)
            try file.write(piece)
            rest = rest.dropFirst(piece.count)
        }
        byteCount += bytes.count
    }

    func synchronise() throws { try file.synchronise() }
    func close() throws { try file.close() }
}
