internal import Crypto

/// Which rows of a tensor that is sharded over the ranks a file holds.
package struct ShardRows: Sendable, Hashable {
    /// Global row indices.
    package let range: Range<Int>
    /// Rows of the whole tensor.
    package let total: Int

    package init(_ range: Range<Int>, of total: Int) {
        precondition(range.lowerBound >= 0 && range.upperBound <= total, "rows \(range) of \(total)")
        self.range = range
        self.total = total
    }

    /// As it stands in a file's metadata: "from,to,total".
    var text: String { "\(range.lowerBound),\(range.upperBound),\(total)" }
    /// The key of a tensor's rows in a file's metadata.
    static func key(_ tensor: String) -> String { "acuity.rows." + tensor }
}

/// One file of a checkpoint, as the manifest lists it.
package struct FileEntry: Sendable, Equatable {
    package struct TensorEntry: Sendable, Equatable {
        package let name: String
        package let type: SafetensorsType
        /// The shape in this file.
        package let shape: [Int]
        /// nil: the whole tensor, or this rank's own.
        package let rows: ShardRows?
    }

    package let name: String
    /// Who wrote it.
    package let rank: Int
    package let byteCount: Int
    /// Lower-case hexadecimal digits.
    package let sha256: String
    package let tensors: [TensorEntry]
}

/// The list of a checkpoint's files, written after all of them: a folder without one is no checkpoint. The format:
/// docs/formats/checkpoint.md.
package struct CheckpointManifest: Sendable, Equatable {
    package static let fileName = "manifest.json"
    package static let version = 1
    static let byteLimit = 100_000_000

    package let step: Int
    package let worldSize: Int
    /// SHA-256 of the resolved configuration, or whatever the caller wants to compare.
    package let configHash: String
    /// By rank, then in the order written.
    package let files: [FileEntry]

    package init(step: Int, worldSize: Int, configHash: String, files: [FileEntry]) {
        self.step = step
        self.worldSize = worldSize
        self.configHash = configHash
        self.files = files
    }

    /// Which parts of the sharded tensors lie where, by tensor.
    var shards: [String: [(file: FileEntry, tensor: FileEntry.TensorEntry)]] {
        var shards: [String: [(file: FileEntry, tensor: FileEntry.TensorEntry)]] = [:]
        for file in files {
            for tensor in file.tensors where tensor.rows != nil {
                shards[tensor.name, default: []].append((file, tensor))
            }
        }
        return shards
    }

    /// Why the manifest cannot be right; nil when it can.
    func problem() -> String? {
        var names = Set<String>([Self.fileName])
        for file in files {
            if !isPlainFileName(file.name) { return "\(quoted(file.name)) is not a plain file name" }
            if !names.insert(file.name).inserted { return "the file \(quoted(file.name)) is there twice" }
            if file.rank >= worldSize { return "\(quoted(file.name)) is of rank \(file.rank) of \(worldSize)" }
        }
        for (name, parts) in shards.sorted(by: { $0.key < $1.key }) {
            if let problem = Self.problem(parts.map(\.tensor)) { return "tensor \(quoted(name)): \(problem)" }
        }
        return nil
    }

    /// The shards of one tensor must agree in type, row shape and total, and hold each row once.
    private static func problem(_ parts: [FileEntry.TensorEntry]) -> String? {
        let first = parts[0]
        let total = first.rows!.total
        var end = 0
        let ordered = parts.sorted { a, b in
            (a.rows!.range.lowerBound, a.rows!.range.upperBound) < (b.rows!.range.lowerBound, b.rows!.range.upperBound)
        }
        for part in ordered {
            let rows = part.rows!
            guard part.type == first.type, part.shape.dropFirst() == first.shape.dropFirst(), rows.total == total,
                part.shape.first == rows.range.count
            else { return "its parts differ in type, shape or number of rows" }
            guard rows.range.lowerBound == end else {
                return "rows \(min(end, rows.range.lowerBound))..<\(max(end, rows.range.lowerBound)) are "
                    + (rows.range.lowerBound > end ? "in no file" : "in two files")
            }
            end = rows.range.upperBound
        }
        return end == total ? nil : "rows \(end)..<\(total) are in no file"
    }
}

/// A relative name without separators that cannot leave its folder or hide in it.
func isPlainFileName(_ name: String) -> Bool {
    let allowed = name.utf8.allSatisfy { byte in
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F: true
        default: false
        }
    }
    return allowed && !name.isEmpty && name.utf8.count <= 200 && !name.hasPrefix(".")
}

func hexadecimal(_ digest: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(decoding: digest.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}

func isSHA256(_ text: String) -> Bool {
    text.utf8.count == 64 && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
}

// MARK: - JSON text

extension CheckpointManifest {
    private static let format = "acuity-checkpoint"

    /// The last lines, which hold the SHA-256 of all bytes before them.
    package static func seal(_ body: [UInt8]) -> [UInt8] {
        Array("  \"checksum\": \"\(hexadecimal(SHA256.hash(data: body)))\"\n}\n".utf8)
    }

    package func encode() -> [UInt8] {
        var text = "{\n"
        text += "  \"format\": \(JSONText.string(Self.format)),\n"
        text += "  \"version\": \(Self.version),\n"
        text += "  \"step\": \(step),\n"
        text += "  \"world_size\": \(worldSize),\n"
        text += "  \"config\": \(JSONText.string(configHash)),\n"
        text += "  \"files\": \(FileEntry.text(files)),\n"
        let body = Array(text.utf8)
        return body + Self.seal(body)
    }

    /// - Throws: `ArtifactError.damaged`, or `.incompatible` for a sound manifest of another version.
    package init(parsing bytes: [UInt8], path: String) throws {
        let sealLength = Self.seal([]).count
        guard bytes.count > sealLength, bytes.suffix(sealLength) == Self.seal(bytes.dropLast(sealLength))[...] else {
            throw ArtifactError.damaged(path: path, reason: "its checksum does not agree with its bytes")
        }
        var scanner = JSONScanner(bytes)
        do {
            try self.init(&scanner, path: path)
        } catch let failure as JSONScanner.Failure {
            throw ArtifactError.damaged(path: path, reason: "byte \(failure.offset): \(failure.reason)")
        }
        if let problem = problem() { throw ArtifactError.damaged(path: path, reason: problem) }
    }

    private init(_ scanner: inout JSONScanner, path: String) throws {
        var format: String?
        var step: Int?
        var worldSize: Int?
        var config: String?
        var files: [FileEntry]?
        try scanner.object { scanner, key in
            switch key {
            case "format": format = try scanner.string()
            case "version":
                let version = try scanner.count()
                guard version == Self.version else {
                    throw ArtifactError.incompatible(
                        path: path,
                        reason: "checkpoint format \(version), this program reads \(Self.version); use the program "
                            + "that wrote it")
                }
            case "step": step = try scanner.count()
            case "world_size": worldSize = try scanner.count()
            case "config": config = try scanner.string()
            case "files": files = try FileEntry.list(&scanner)
            case "checksum": _ = try scanner.string()
            default: throw scanner.failure("unknown key \(quoted(key))")
            }
        }
        try scanner.finish(padding: [0x0A])
        guard format == Self.format, let step, let worldSize, let config, let files else {
            throw scanner.failure("format, step, world_size, config or files are missing", at: 0)
        }
        self.init(step: step, worldSize: worldSize, configHash: config, files: files)
    }
}

extension FileEntry {
    /// The list as a JSON array: what ranks send to rank 0.
    static func encode(_ files: [FileEntry]) -> [UInt8] { Array(text(files).utf8) }

    /// - Throws: `JSONScanner.Failure`.
    static func decode(_ bytes: [UInt8]) throws -> [FileEntry] {
        var scanner = JSONScanner(bytes)
        let files = try list(&scanner)
        try scanner.finish(padding: [])
        return files
    }

    static func text(_ files: [FileEntry]) -> String {
        files.isEmpty ? "[]" : "[\n    " + files.map(\.text).joined(separator: ",\n    ") + "\n  ]"
    }

    private var text: String {
        var text = "{\"name\": \(JSONText.string(name)), \"rank\": \(rank), \"size\": \(byteCount), "
        text += "\"sha256\": \(JSONText.string(sha256)), \"tensors\": ["
        let lines = tensors.map { tensor in
            var line = "{\"name\": \(JSONText.string(tensor.name)), \"dtype\": \"\(tensor.type.rawValue)\", "
            line += "\"shape\": \(JSONText.counts(tensor.shape))"
            if let rows = tensor.rows {
                let range = JSONText.counts([rows.range.lowerBound, rows.range.upperBound])
                line += ", \"rows\": \(range), \"total_rows\": \(rows.total)"
            }
            return line + "}"
        }
        if !lines.isEmpty { text += "\n      " + lines.joined(separator: ",\n      ") }
        return text + "]}"
    }

    static func list(_ scanner: inout JSONScanner) throws -> [FileEntry] {
        var files: [FileEntry] = []
        try scanner.array { scanner, _ in files.append(try FileEntry(&scanner)) }
        return files
    }

    private init(_ scanner: inout JSONScanner) throws {
        var name: String?
        var rank: Int?
        var size: Int?
        var sha256: String?
        var tensors: [TensorEntry] = []
        let start = scanner.position
        try scanner.object { scanner, key in
            switch key {
            case "name": name = try scanner.string()
            case "rank": rank = try scanner.count()
            case "size": size = try scanner.count()
            case "sha256": sha256 = try scanner.string()
            case "tensors": try scanner.array { scanner, _ in tensors.append(try TensorEntry(&scanner)) }
            default: throw scanner.failure("unknown key \(quoted(key))")
            }
        }
        guard let name, let rank, let size, let sha256, isSHA256(sha256) else {
            throw scanner.failure("a file needs name, rank, size and sha256", at: start)
        }
        self.init(name: name, rank: rank, byteCount: size, sha256: sha256, tensors: tensors)
    }
}

extension FileEntry.TensorEntry {
    fileprivate init(_ scanner: inout JSONScanner) throws {
        var name: String?
        var type: SafetensorsType?
        var shape: [Int]?
        var rows: [Int]?
        var total: Int?
        let start = scanner.position
        try scanner.object { scanner, key in
            switch key {
            case "name": name = try scanner.string()
            case "dtype": type = SafetensorsType(rawValue: try scanner.string())
            case "shape": shape = try scanner.counts(atMost: SafetensorsHeader.rankLimit)
            case "rows": rows = try scanner.counts(atMost: 2)
            case "total_rows": total = try scanner.count()
            default: throw scanner.failure("unknown key \(quoted(key))")
            }
        }
        guard let name, let type, let shape, checkedSize(shape, elementSize: type.byteCount) != nil else {
            throw scanner.failure("a tensor needs name, dtype and shape", at: start)
        }
        var shard: ShardRows?
        if rows != nil || total != nil {
            guard let rows, let total, rows.count == 2, rows[0] <= rows[1], rows[1] <= total,
                let whole = checkedSize([total] + shape.dropFirst(), elementSize: type.byteCount), whole >= 0
            else { throw scanner.failure("tensor \(quoted(name)): rows and total_rows do not agree", at: start) }
            shard = ShardRows(rows[0]..<rows[1], of: total)
        }
        self.init(name: name, type: type, shape: shape, rows: shard)
    }
}
