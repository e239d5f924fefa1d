internal import Tensors

/// Walks over the records of a RecordIO file that may be damaged, and finds its way again behind what it cannot read.
///
/// A writer never leaves the magic number at a multiple of 4 inside a part, so that wherever it stands there, a part
/// begins.
struct RecordScanner: Sendable {
    let file: DataFile
    /// The longest accepted record, in bytes.
    let limit: Int

    init(_ path: String, limit: Int = 64 << 20) throws(FaceDataError) {
        file = try DataFile(path)
        self.limit = limit
    }

    struct Damage: Error {
        let reason: String
        init(_ reason: String) { self.reason = reason }
    }

    struct Found: Sendable {
        let offset: UInt64
        /// Where the next record begins, or the file ends.
        let end: UInt64
        /// The payload begins like an image record, or why not.
        let header: Result<ImageRecordHeader, ImageRecordHeader.Damage>
    }

    /// Bytes that are no record.
    struct Gap: Sendable, Equatable {
        let range: Range<UInt64>
        let reason: String
    }

    /// Calls `found` and `lost` for everything between `start`, a multiple of 4, and `end`, in order.
    func walk(
        _ range: Range<UInt64>, found: (Found) -> Void, lost: (Gap) -> Void
    ) throws(FaceDataError) {
        var offset = range.lowerBound
        while offset < range.upperBound {
            switch try record(at: offset) {
            case .success(let record):
                found(record)
                offset = record.end
            case .failure(let damage):
                let next = try nextStart(after: offset, before: range.upperBound) ?? range.upperBound
                lost(Gap(range: offset..<next, reason: damage.reason))
                offset = next
            }
        }
    }

    private struct Part {
        var kind: RecordIO.Part
        var count: Int
        var next: UInt64
    }

    private func part(at offset: UInt64, _ bytes: [UInt8]) -> Result<Part, Damage> {
        guard bytes.count >= 8 else { return .failure(Damage("\(bytes.count) bytes, too few for a record")) }
        let magic = bytes.littleEndian(UInt32.self, at: 0)
        guard magic == RecordIO.magic else {
            return .failure(Damage("no record begins here: 0x\(String(magic, radix: 16)) instead of 0xced7230a"))
        }
        let word = bytes.littleEndian(UInt32.self, at: 4)
        guard let kind = RecordIO.Part(rawValue: word >> 29) else {
            return .failure(Damage("unknown kind of record \(word >> 29)"))
        }
        let count = Int(word & 0x1FFF_FFFF)
        guard UInt64(count) <= file.size - offset - 8 else {
            return .failure(Damage("announces \(count) bytes, and the file ends at byte \(file.size)"))
        }
        guard count <= limit else {
            return .failure(Damage("announces \(count) bytes, more than the limit of \(limit)"))
        }
        let end = offset + 8 + UInt64(count)
        return .success(Part(kind: kind, count: count, next: min(file.size, end + UInt64(RecordIO.padding(count)))))
    }

    private func start(of offset: UInt64, _ most: Int) throws(FaceDataError) -> [UInt8] {
        try file.bytes(at: offset, count: Int(min(UInt64(most), file.size - offset)))
    }

    private func record(at offset: UInt64) throws(FaceDataError) -> Result<Found, Damage> {
        let bytes = try start(of: offset, 8 + ImageRecordHeader.bytes)
        let first: Part
        switch part(at: offset, bytes) {
        case .success(let part): first = part
        case .failure(let damage): return .failure(damage)
        }
        switch first.kind {
        case .whole:
            let prefix = Array(bytes[8..<min(bytes.count, 8 + first.count)])
            return .success(
                Found(
                    offset: offset, end: first.next,
                    header: Self.header(of: prefix, length: first.count)))
        case .middle, .last: return .failure(Damage("the middle of a record where one should begin"))
        case .first:
            switch try payload(at: offset) {
            case .failure(let damage): return .failure(damage)
            case .success(let payload):
                return .success(
                    Found(
                        offset: offset, end: payload.next,
                        header: Self.header(of: payload.bytes, length: payload.bytes.count)))
            }
        }
    }

    /// - Parameters:
    ///   - prefix: the first bytes of a payload.
    ///   - length: of the whole payload.
    static func header(
        of prefix: [UInt8], length: Int
    ) -> Result<ImageRecordHeader, ImageRecordHeader.Damage> {
        prefix.withUnsafeBytes { ImageRecordHeader.parse($0, length: length) }
    }

    struct Payload {
        var bytes: [UInt8]
        var next: UInt64
        /// Where, inside one of its parts, another part begins: the length before it is wrong.
        var overrun: UInt64?
    }

    /// All of a record.
    func payload(at offset: UInt64) throws(FaceDataError) -> Result<Payload, Damage> {
        var payload = Payload(bytes: [], next: offset)
        while true {
            let position = payload.next
            let part: Part
            switch self.part(at: position, try start(of: position, 8)) {
            case .success(let found): part = found
            case .failure(let damage):
                return .failure(position == offset ? damage : Damage("byte \(position): \(damage.reason)"))
            }
            let begins = part.kind == .whole || part.kind == .first
            guard begins == (position == offset) else {
                return .failure(Damage("byte \(position): a new record begins inside of this one"))
            }
            if position > offset { payload.bytes.append(littleEndian: RecordIO.magic) }
            guard payload.bytes.count + part.count <= limit else {
                return .failure(Damage("more than the limit of \(limit) bytes"))
            }
            let bytes = try file.bytes(at: position + 8, count: part.count)
            if payload.overrun == nil { payload.overrun = Self.magic(in: bytes).map { position + 8 + UInt64($0) } }
            payload.bytes += bytes
            payload.next = part.next
            if part.kind == .whole || part.kind == .last { return .success(payload) }
        }
    }

    /// The first multiple of 4 at which the magic number stands.
    private static func magic(in bytes: [UInt8]) -> Int? {
        bytes.withUnsafeBytes { buffer in
            for offset in stride(from: 0, to: buffer.count / 4 * 4, by: 4)
            where UInt32(littleEndian: buffer.loadUnaligned(fromByteOffset: offset, as: UInt32.self)) == RecordIO.magic {
                return offset
            }
            return nil
        }
    }

    /// The next place where a record may begin.
    private func nextStart(after offset: UInt64, before end: UInt64) throws(FaceDataError) -> UInt64? {
        let chunk: UInt64 = 1 << 20
        var position = offset / 4 * 4 + 4
        while position < end, file.size - position >= 8 {
            // A word more, because the kind follows the magic number.
            let count = min(chunk + 4, file.size - position)
            let bytes = try file.bytes(at: position, count: Int(count))
            for place in stride(from: 0, to: bytes.count - 7, by: 4)
            where bytes.littleEndian(UInt32.self, at: place) == RecordIO.magic {
                let candidate = position + UInt64(place)
                guard candidate < end else { return nil }
                let word = bytes.littleEndian(UInt32.self, at: place + 4)
                let begins = word >> 29 == RecordIO.Part.whole.rawValue || word >> 29 == RecordIO.Part.first.rawValue
                if begins, UInt64(word & 0x1FFF_FFFF) <= file.size - candidate - 8 { return candidate }
            }
            position += chunk
        }
        return nil
    }
}
