/// Keys and offsets of the records of a RecordIO file, ascending by key: the `.idx` text file, lines of
/// `key<TAB>offset`, or what a pass over the records finds.
struct RecordIOIndex: Sendable {
    /// Keys in ascending order; nil when they are `firstKey`, `firstKey` + 1, ….
    private let keys: [UInt64]?
    private let firstKey: UInt64
    private let offsets: [UInt64]

    var count: Int { offsets.count }
    var lastKey: UInt64 { key(at: count - 1) }
    func key(at position: Int) -> UInt64 { keys?[position] ?? firstKey + UInt64(position) }
    func offset(at position: Int) -> UInt64 { offsets[position] }

    /// Where `key` stands; nil when it is not in the file.
    func position(of key: UInt64) -> Int? {
        guard let keys else {
            return key >= firstKey && key - firstKey < UInt64(count) ? Int(key - firstKey) : nil
        }
        var low = 0
        var high = keys.count
        while low < high {
            let middle = (low + high) / 2
            if keys[middle] < key { low = middle + 1 } else { high = middle }
        }
        return low < keys.count && keys[low] == key ? low : nil
    }

    /// Reads an `.idx` file.
    /// - Parameter size: the record file's size in bytes, inside which all offsets must lie.
    init(_ path: String, recordFileSize size: UInt64) throws(FaceDataError) {
        let file = try DataFile(path)
        var keys: [UInt64] = []
        var offsets: [UInt64] = []
        let advice = "it does not belong to the record file, or is damaged; without it the index is rebuilt"
        try file.forEachLine { line, number, _ throws(FaceDataError) in
            if line.isEmpty { return }
            let fields = line.split(separator: 0x09, omittingEmptySubsequences: false)
            guard fields.count == 2, let key = Self.number(fields[0]), let offset = Self.number(fields[1]) else {
                throw FaceDataError(
                    .malformed, file: path, at: .line(number), "expected key<TAB>offset", advice: advice)
            }
            guard offset % 4 == 0, offset < size, size - offset >= 8 else {
                throw FaceDataError(
                    .malformed, file: path, at: .line(number),
                    offset % 4 == 0
                        ? "offset \(offset) is outside the record file of \(size) bytes"
                        : "offset \(offset) is not a multiple of 4", advice: advice)
            }
            keys.append(key)
            offsets.append(offset)
        }
        guard !keys.isEmpty else { throw FaceDataError(.malformed, file: path, "holds no record", advice: advice) }
        guard let index = RecordIOIndex(keys: keys, offsets: offsets) else {
            throw FaceDataError(.malformed, file: path, "holds a key twice", advice: advice)
        }
        self = index
    }

    /// Passes over all records and takes their ids as keys, or their ordinal numbers when ids repeat.
    init(rebuilding reader: RecordIOReader) throws(FaceDataError) {
        var keys: [UInt64] = []
        var offsets: [UInt64] = []
        var hasBareRecord = false
        var offset: UInt64 = 0
        while offset < reader.size {
            let (header, next) = try reader.header(at: offset)
            keys.append(header.id)
            offsets.append(offset)
            hasBareRecord = hasBareRecord || !header.hasImage
            offset = next
        }
        if let index = RecordIOIndex(keys: keys, offsets: offsets) {
            self = index
        } else if let index = RecordIOIndex(keys: Array(0..<UInt64(keys.count)), offsets: offsets), !hasBareRecord {
            self = index
        } else {
            throw FaceDataError(
                .malformed, file: reader.path, "the index is missing, and cannot be rebuilt because record ids repeat",
                advice: "supply the .idx file")
        }
    }

    /// nil when a key comes twice.
    private init?(keys: [UInt64], offsets: [UInt64]) {
        var keys = keys
        var offsets = offsets
        if !zip(keys, keys.dropFirst()).allSatisfy({ $0 < $1 }) {
            let order = keys.indices.sorted { keys[$0] < keys[$1] }
            keys = order.map { keys[$0] }
            offsets = order.map { offsets[$0] }
            guard zip(keys, keys.dropFirst()).allSatisfy({ $0 < $1 }) else { return nil }
        }
        firstKey = keys.first ?? 0
        let isContiguous = keys.isEmpty || keys[keys.count - 1] - firstKey == UInt64(keys.count - 1)
        self.keys = isContiguous ? nil : keys
        self.offsets = offsets
    }

    /// Decimal digits only, within 64 bits.
    private static func number(_ text: ArraySlice<UInt8>) -> UInt64? {
        guard !text.isEmpty, text.count <= 20 else { return nil }
        var value: UInt64 = 0
        for byte in text {
            guard byte >= 0x30, byte <= 0x39 else { return nil }
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(UInt64(byte - 0x30))
            if overflow || carry { return nil }
            value = sum
        }
        return value
    }
}
