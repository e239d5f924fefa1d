internal import Crypto
internal import FoundationEssentials
package import Tensors

/// A committed checkpoint, open for reading.
package struct Checkpoint: Sendable {
    package static let stateFileName = "state.json"
    private static let stateLimit = 256 << 20
    private static let textLimit = 1 << 30

    package let name: CheckpointName
    package let folder: String
    package let manifest: CheckpointManifest
    private let fileSystem: any FileSystem

    /// Reads the manifest, not yet the files.
    ///
    /// - Throws: `ArtifactError` `.missing` (no folder or no manifest), `.cannotRead`, `.damaged`, `.incompatible`.
    init(_ name: CheckpointName, folder: String, fileSystem: any FileSystem) throws {
        self.name = name
        self.folder = folder
        self.fileSystem = fileSystem
        let path = joinedPath(folder, CheckpointManifest.fileName)
        do {
            guard try fileSystem.kind(of: folder) == .directory else {
                throw ArtifactError.missing(path: folder, reason: "there is no such checkpoint folder")
            }
            let bytes = try fileSystem.readFile(path, atMost: CheckpointManifest.byteLimit)
            manifest = try CheckpointManifest(parsing: bytes, path: path)
        } catch let error as FileSystemError {
            throw ArtifactError.reading(error)
        }
        guard manifest.step == name.step else {
            throw ArtifactError.damaged(path: path, reason: "it is of step \(manifest.step): was the folder renamed?")
        }
    }

    package var step: Int { name.step }
    package var byteCount: Int { manifest.files.reduce(0) { $0 + $1.byteCount } }

    func path(_ file: String) -> String { joinedPath(folder, file) }

    private func entry(_ file: String) throws -> FileEntry {
        guard let entry = manifest.files.first(where: { $0.name == file }) else {
            throw ArtifactError.missing(path: path(file), reason: "the checkpoint has no such file")
        }
        return entry
    }

    // MARK: Verifying

    /// Compares files with the manifest: kind, size, SHA-256.
    ///
    /// - Parameters:
    ///   - share: which of `shares` equal parts of the work to do, so that ranks can divide it.
    /// - Returns: one error per file that is missing, unreadable or different.
    package func verify(share: Int = 0, of shares: Int = 1) -> [ArtifactError] {
        manifest.files.enumerated().filter { $0.offset % shares == share }
            .compactMap { Self.problem($0.element, at: path($0.element.name), hash: true, fileSystem) }
    }

    /// As `verify`, but without reading the files' bytes.
    package func verifySizes() -> [ArtifactError] {
        manifest.files.compactMap { Self.problem($0, at: path($0.name), hash: false, fileSystem) }
    }

    /// Compares a file of a checkpoint's folder with the manifest; others are nobody's.
    ///
    /// - Throws: `ArtifactError` where it is not what the checkpoint was saved with.
    package static func verify(file path: String, fileSystem: any FileSystem = POSIXFileSystem()) throws {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        let folder = parts.dropLast().joined(separator: "/")
        guard parts.count > 1, CheckpointName(String(parts[parts.count - 2])) != nil else { return }
        let list = joinedPath(folder, CheckpointManifest.fileName)
        let manifest: CheckpointManifest
        do {
            guard try fileSystem.kind(of: list) == .regular else { return }
            manifest = try CheckpointManifest(
                parsing: fileSystem.readFile(list, atMost: CheckpointManifest.byteLimit), path: list)
        } catch let error as FileSystemError {
            throw ArtifactError.reading(error)
        }
        guard let name = parts.last, let entry = manifest.files.first(where: { $0.name == name }) else { return }
        if let problem = problem(entry, at: path, hash: true, fileSystem) { throw problem }
    }

    private static func problem(
        _ entry: FileEntry, at path: String, hash: Bool, _ fileSystem: any FileSystem
    ) -> ArtifactError? {
        do {
            let file = try fileSystem.openFile(path)
            guard file.byteCount == entry.byteCount else {
                return .damaged(
                    path: path, reason: "it has \(file.byteCount) bytes, the manifest says \(entry.byteCount)")
            }
            guard try !hash || sha256(file) == entry.sha256 else {
                return .damaged(path: path, reason: "its SHA-256 is not the manifest's")
            }
            return nil
        } catch let error as FileSystemError {
            return .reading(error)
        } catch {
            return .cannotRead(path: path, reason: "\(error)")
        }
    }

    private static func sha256(_ file: any ReadableFile) throws -> String {
        var hash = SHA256()
        try forEachPiece(of: file) { hash.update(bufferPointer: $0) }
        return hexadecimal(hash.finalize())
    }

    private static func forEachPiece(
        of file: any ReadableFile, _ body: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
        defer { piece.deallocate() }
        var offset = 0
        while offset < file.byteCount {
            let part = UnsafeMutableRawBufferPointer(rebasing: piece.prefix(file.byteCount - offset))
            try file.read(at: offset, into: part)
            try body(UnsafeRawBufferPointer(part))
            offset += part.count
        }
    }

    /// Passes the bytes of one of the files on.
    ///
    /// - Throws: `ArtifactError` while it is opened, then `FileSystemError`, and what `body` throws.
    func read(_ file: FileEntry, _ body: (UnsafeRawBufferPointer) throws -> Void) throws {
        let opened: any ReadableFile
        do {
            opened = try fileSystem.openFile(path(file.name))
        } catch let error as FileSystemError {
            throw ArtifactError.reading(error)
        }
        try Self.forEachPiece(of: opened, body)
    }

    // MARK: Reading

    /// A file of tensors, mapped.
    ///
    /// - Throws: `ArtifactError`.
    package func tensors(_ file: String) throws -> SafetensorsFile {
        let entry = try entry(file)
        let tensors = try SafetensorsFile(path(file), fileSystem: fileSystem)
        for tensor in entry.tensors {
            guard let found = tensors.header[tensor.name], found.type == tensor.type, found.shape == tensor.shape else {
                throw ArtifactError.damaged(
                    path: path(file), reason: "tensor \(quoted(tensor.name)) is not as the manifest says")
            }
        }
        return tensors
    }

    /// The scalar state that `CheckpointFiles.addState` wrote.
    ///
    /// - Throws: `ArtifactError`; `.incompatible`, naming the key, when the state is not of type `State`.
    package func state<State: Decodable>(_ type: State.Type, from file: String = stateFileName) throws -> State {
        let path = path(file)
        _ = try entry(file)
        let decoder = JSONDecoder()
        decoder.nonConformingFloatDecodingStrategy = .convertFromString(
            positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
        do {
            return try decoder.decode(type, from: Data(try fileSystem.readFile(path, atMost: Self.stateLimit)))
        } catch let error as FileSystemError {
            throw ArtifactError.reading(error)
        } catch let error as DecodingError {
            throw ArtifactError.incompatible(path: path, reason: Self.reason(error))
        }
    }

    /// The texts that `CheckpointFiles.addTexts` wrote, one after the other with their places.
    ///
    /// - Throws: `ArtifactError`; what `body` throws.
    package func texts(_ file: String, _ body: (Int, String) throws -> Void) throws {
        _ = try entry(file)
        let path = path(file)
        do {
            var scanner = JSONScanner(try fileSystem.readFile(path, atMost: Self.textLimit))
            try scanner.array { scanner, index in try body(index, try scanner.string()) }
            try scanner.finish(padding: [0x0A])
        } catch let error as FileSystemError {
            throw ArtifactError.reading(error)
        } catch let failure as JSONScanner.Failure {
            throw ArtifactError.damaged(path: path, reason: "byte \(failure.offset): \(failure.reason)")
        }
    }

    private static func reason(_ error: DecodingError) -> String {
        func key(_ path: [any CodingKey]) -> String { quoted(path.map(\.stringValue).joined(separator: ".")) }
        return switch error {
        case .keyNotFound(let missing, let context): "the key \(key(context.codingPath + [missing])) is missing"
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            "the key \(key(context.codingPath)): \(context.debugDescription)"
        case .dataCorrupted(let context): "the key \(key(context.codingPath)): \(context.debugDescription)"
        @unknown default: "\(error)"
        }
    }

    /// The tensors that are sharded by rows, by name: whole shape and type.
    package var shardedTensors: [String: TensorSpec] {
        manifest.shards.reduce(into: [:]) { result, shard in
            let first = shard.value[0].tensor
            guard let dtype = first.type.tensorType, let total = first.rows?.total else { return }
            result[shard.key] = TensorSpec(shard.key, [total] + first.shape.dropFirst(), dtype)
        }
    }

    /// Rows `range` of a sharded tensor, from however many files hold them; no other rows are read.
    ///
    /// - Returns: shape (range.count, …), in memory of its own.
    /// - Throws: `ArtifactError`: `.missing` without such a tensor, `.incompatible` when it has fewer rows.
    package func readRows(_ name: String, _ range: Range<Int>) throws -> Tensor {
        let rows = try rows(of: name)
        try rows.check(range)
        let result = Tensor([range.count] + rows.spec.shape.dropFirst(), dtype: rows.spec.dtype)
        try rows.read(range, into: result)
        return result
    }

    /// The same into memory that is there already: a large tensor is not held twice.
    ///
    /// - Parameter target: (range.count, …), of the stored type.
    /// - Throws: `ArtifactError`: `.missing` without such a tensor, `.incompatible` when it has fewer rows, or rows of
    ///   another shape or type.
    package func readRows(_ name: String, _ range: Range<Int>, into target: Tensor) throws {
        try rows(of: name).read(range, into: target)
    }

    /// A sharded tensor, open for reading many stretches of its rows.
    ///
    /// - Throws: `ArtifactError`: `.missing` without such a tensor, `.incompatible` when its type is none of ours.
    package func rows(of name: String) throws -> ShardedRows {
        guard let parts = manifest.shards[name] else {
            throw ArtifactError.missing(path: folder, reason: "there is no sharded tensor \(quoted(name))")
        }
        let first = parts[0].tensor
        guard let dtype = first.type.tensorType, dtype.byteCount == first.type.byteCount else {
            throw ArtifactError.incompatible(path: folder, reason: "tensor \(quoted(name)) is \(first.type.rawValue)")
        }
        let spec = TensorSpec(name, [first.rows!.total] + first.shape.dropFirst(), dtype)
        return ShardedRows(spec, parts: parts, folder: folder, fileSystem: fileSystem)
    }
}
