internal import Tensors

#if _endian(big)
    #error("safetensors data is little-endian and used in place: a big-endian host needs a byte swap")
#endif

/// The head of a safetensors file: what tensors it holds, and where. The format: docs/formats/safetensors.md.
package struct SafetensorsHeader: Sendable, Equatable {
    package struct Entry: Sendable, Equatable {
        package let name: String
        package let type: SafetensorsType
        package let shape: [Int]
        /// Where the elements lie, in bytes from the start of the file.
        package let bytes: Range<Int>

        package init(name: String, type: SafetensorsType, shape: [Int], bytes: Range<Int>) {
            self.name = name
            self.type = type
            self.shape = shape
            self.bytes = bytes
        }
    }

    /// In the order of the data.
    package let entries: [Entry]
    package let metadata: [String: String]
    /// Where the data starts, in bytes from the start of the file.
    package let dataStart: Int
    private let positions: [String: Int]

    /// The format's limit on the JSON text.
    package static let lengthLimit = 100_000_000
    /// NumPy's limit; PyTorch has none, but no weights come near.
    static let rankLimit = 64
    static let alignment = 64

    package subscript(_ name: String) -> Entry? { positions[name].map { entries[$0] } }

    private init(entries: [Entry], metadata: [String: String], dataStart: Int) {
        self.entries = entries
        self.metadata = metadata
        self.dataStart = dataStart
        positions = Dictionary(uniqueKeysWithValues: entries.enumerated().map { ($1.name, $0) })
    }
}

// MARK: - Reading

extension SafetensorsHeader {
    /// Reads and checks the head of an open file.
    ///
    /// - Throws: `ArtifactError.damaged`, naming the byte or the tensor, unless the JSON is sound, each tensor's extent
    ///   agrees with its shape and type, and the tensors cover the data without hole, overlap or rest.
    package init(reading file: any ReadableFile, path: String) throws {
        guard file.byteCount >= 8 else {
            throw ArtifactError.damaged(
                path: path, reason: "\(file.byteCount) bytes are too few for a safetensors file; it may be cut short")
        }
        let prefix = try file.bytes(0..<8)
        let length = prefix.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length >= 2 && length <= UInt64(Self.lengthLimit) else {
            throw ArtifactError.damaged(
                path: path,
                reason: "byte 0: a header of \(length) bytes, where 2 to \(Self.lengthLimit) are allowed; "
                    + "is it a safetensors file?")
        }
        guard Int(length) <= file.byteCount - 8 else {
            throw ArtifactError.damaged(
                path: path,
                reason: "byte 0: a header of \(length) bytes in a file of \(file.byteCount); it may be cut short")
        }
        let dataStart = 8 + Int(length)
        do {
            try self.init(parsing: try file.bytes(8..<dataStart), fileSize: file.byteCount)
        } catch let failure as JSONScanner.Failure {
            throw ArtifactError.damaged(path: path, reason: "byte \(8 + failure.offset): \(failure.reason)")
        } catch let failure as LayoutFailure {
            throw ArtifactError.damaged(path: path, reason: failure.reason)
        }
    }

    private struct LayoutFailure: Error {
        let reason: String
    }

    private init(parsing json: [UInt8], fileSize: Int) throws {
        let dataStart = 8 + json.count
        guard json.first == 0x7B else { throw JSONScanner.Failure(offset: 0, reason: "the header must start with '{'") }
        var scanner = JSONScanner(json)
        var entries: [Entry] = []
        var metadata: [String: String] = [:]
        try scanner.object { scanner, name in
            if name == "__metadata__" {
                try scanner.object { scanner, key in metadata[key] = try scanner.string() }
            } else {
                entries.append(try Self.entry(name, &scanner, dataStart: dataStart, fileSize: fileSize))
            }
        }
        try scanner.finish(padding: [0x20])
        // Tensors without elements sort before the tensor that starts where they do.
        entries.sort { ($0.bytes.lowerBound, $0.bytes.upperBound) < ($1.bytes.lowerBound, $1.bytes.upperBound) }
        var end = dataStart
        for entry in entries {
            guard entry.bytes.lowerBound == end else {
                let problem = entry.bytes.lowerBound < end ? "overlaps the tensor before it" : "leaves a hole before it"
                throw LayoutFailure(
                    reason: "tensor \(quoted(entry.name)) at byte \(entry.bytes.lowerBound) \(problem), "
                        + "which ends at byte \(end)")
            }
            end = entry.bytes.upperBound
        }
        guard end == fileSize else {
            throw LayoutFailure(reason: "the tensors end at byte \(end), the file at byte \(fileSize)")
        }
        self.init(entries: entries, metadata: metadata, dataStart: dataStart)
    }

    private static func entry(
        _ name: String, _ scanner: inout JSONScanner, dataStart: Int, fileSize: Int
    ) throws -> Entry {
        var type: SafetensorsType?
        var shape: [Int]?
        var offsets: [Int]?
        let start = scanner.position
        func failure(_ reason: String, at offset: Int? = nil) -> JSONScanner.Failure {
            JSONScanner.Failure(offset: offset ?? start, reason: "tensor \(quoted(name)): \(reason)")
        }
        try scanner.object { scanner, key in
            let position = scanner.position
            switch key {
            case "dtype":
                let text = try scanner.string()
                type = SafetensorsType(rawValue: text)
                if type == nil { throw failure("unknown element type \(quoted(text))", at: position) }
            case "shape": shape = try scanner.counts(atMost: rankLimit)
            case "data_offsets": offsets = try scanner.counts(atMost: 2)
            default: throw failure("unknown key \(quoted(key))", at: position)
            }
        }
        guard let type, let shape, let offsets, offsets.count == 2 else {
            throw failure("dtype, shape and two data_offsets are needed")
        }
        guard offsets[0] <= offsets[1], offsets[1] <= fileSize - dataStart else {
            throw failure("data_offsets \(offsets) are not in order or exceed the data's \(fileSize - dataStart) bytes")
        }
        guard let size = checkedSize(shape, elementSize: type.byteCount) else {
            throw failure("shape \(shape) exceeds 63 bits")
        }
        guard size == offsets[1] - offsets[0] else {
            throw failure("\(type.rawValue) \(shape) takes \(size) bytes, data_offsets give \(offsets[1] - offsets[0])")
        }
        return Entry(name: name, type: type, shape: shape, bytes: dataStart + offsets[0]..<dataStart + offsets[1])
    }
}

/// The bytes that a shape takes; nil when they, or the extents' product without the zeros, exceed 63 bits.
func checkedSize(_ shape: [Int], elementSize: Int) -> Int? {
    var size = elementSize
    for extent in shape where extent != 0 {
        let (product, overflow) = size.multipliedReportingOverflow(by: extent)
        if overflow { return nil }
        size = product
    }
    return shape.contains(0) ? 0 : size
}

// MARK: - Writing

extension SafetensorsHeader {
    /// The order in which tensors are written: element size falling, else as given, so that each is aligned to its
    /// elements although no gaps are allowed.
    static func fileOrder(_ tensors: [TensorSpec]) -> [TensorSpec] {
        [8, 4, 2, 1].flatMap { size in tensors.filter { $0.dtype.byteCount == size } }
    }

    /// The bytes before the data: length, JSON text, spaces up to a multiple of 64 bytes.
    ///
    /// - Parameter tensors: in the order of the data.
    package static func encode(_ tensors: [TensorSpec], metadata: [String: String]) -> [UInt8] {
        var members: [String] = []
        if !metadata.isEmpty {
            let pairs = metadata.sorted { $0.key < $1.key }
                .map { JSONText.string($0.key) + ":" + JSONText.string($0.value) }
            members.append("\"__metadata__\":{" + pairs.joined(separator: ",") + "}")
        }
        var names: Set<String> = ["__metadata__"]
        var offset = 0
        for tensor in tensors {
            precondition(names.insert(tensor.name).inserted, "the tensor name '\(tensor.name)' is used twice")
            let end = offset + tensor.byteCount
            members.append(
                JSONText.string(tensor.name) + ":{\"dtype\":\"\(SafetensorsType(tensor.dtype).rawValue)\",\"shape\":"
                    + JSONText.counts(tensor.shape) + ",\"data_offsets\":[\(offset),\(end)]}")
            offset = end
        }
        var json = Array(("{" + members.joined(separator: ",") + "}").utf8)
        let padded = (8 + json.count + alignment - 1) / alignment * alignment - 8
        json += [UInt8](repeating: 0x20, count: padded - json.count)
        precondition(json.count <= lengthLimit, "a safetensors header of \(json.count) bytes")
        return withUnsafeBytes(of: UInt64(json.count).littleEndian) { Array($0) } + json
    }
}
