internal import Crypto
internal import FoundationEssentials
package import Tensors

/// A committed checkpoint, open for reading.
package struct Checkpoint: Sendable {
    package static let stateFileName = "state.json"
    private static let stateLimit = 256 << 20

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

    private func path(_ file: String) -> String { joinedPath(folder, file) }

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
            .compactMap { problem($0.element, hash: true) }
    }

    /// As `verify`, but without reading the files' bytes.
    package func verifySizes() -> [ArtifactError] {
        manifest.files.compactMap { problem($0, hash: false) }
    }

    private func problem(_ entry: FileEntry, hash: Bool) -> ArtifactError? {
        let path = path(entry.name)
        do {
            let file = try fileSystem.openFile(path)
            guard file.byteCount == entry.byteCount else {
                return .damaged(
                    path: path, reason: "it has \(file.byteCount) bytes, the manifest says \(entry.byteCount)")
            }
            guard try !hash || Self.sha256(file) == entry.sha256 else {
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
        let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
        defer { piece.deallocate() }
        var offset = 0
        while offset < file.byteCount {
            let part = UnsafeMutableRawBufferPointer(rebasing: piece.prefix(file.byteCount - offset))
            try file.read(at: offset, into: part)
            hash.update(bufferPointer: UnsafeRawBufferPointer(part))
            offset += part.count
        }
        return hexadecimal(hash.finalize())
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
        guard let parts = manifest.shards[name] else {
            throw ArtifactError.missing(path: folder, reason: "there is no sharded tensor \(quoted(name))")
        }
        let first = parts[0].tensor
        guard let total = first.rows?.total, range.lowerBound >= 0, range.upperBound <= total else {
            throw ArtifactError.incompatible(
                path: folder,
                reason: "tensor \(quoted(name)) has \(first.rows?.total ?? 0) rows, \(range) are wanted; "
                    + "is the list of classes still the same?")
        }
        guard let dtype = first.type.tensorType, dtype.byteCount == first.type.byteCount else {
            throw ArtifactError.incompatible(path: folder, reason: "tensor \(quoted(name)) is \(first.type.rawValue)")
        }
        let result = Tensor([range.count] + first.shape.dropFirst(), dtype: dtype)
        for (file, tensor) in parts {
            let overlap = tensor.rows!.range.clamped(to: range)
            if overlap.isEmpty || result.count == 0 { continue }
            let rows = result.rows(overlap.lowerBound - range.lowerBound..<overlap.upperBound - range.lowerBound)
            try read(overlap, of: tensor, in: file, into: rows)
        }
        return result
    }

    private func read(
        _ overlap: Range<Int>, of tensor: FileEntry.TensorEntry, in file: FileEntry, into rows: Tensor
    ) throws {
        let path = path(file.name)
        do {
            let source = try fileSystem.openFile(path)
            let header = try SafetensorsHeader(reading: source, path: path)
            guard let entry = header[tensor.name], entry.type == tensor.type, entry.shape == tensor.shape else {
                throw ArtifactError.damaged(
                    path: path, reason: "tensor \(quoted(tensor.name)) is not as the manifest says")
            }
            let rowBytes = rows.byteCount / overlap.count
            let skipped = overlap.lowerBound - tensor.rows!.range.lowerBound
            try source.read(at: entry.bytes.lowerBound + skipped * rowBytes, into: rows.bytes)
        } catch let error as FileSystemError {
            throw ArtifactError.reading(error)
        }
    }
}
