/// Reads records of a RecordIO file at given offsets. Thread-safe.
package final class RecordIOReader: Sendable {
    let file: DataFile
    /// The longest accepted record, in bytes.
    private let limit: Int

    package var path: String { file.path }
    package var size: UInt64 { file.size }

    /// What stands before the bytes of a part.
    private static let frameBytes = 8

    private struct Part {
        let kind: RecordIO.Part
        let count: Int
        let next: UInt64
    }

    /// - Throws: when the file is missing or does not begin with the magic number.
    package init(_ path: String, recordLimit: Int = 64 << 20) throws(FaceDataError) {
        file = try DataFile(path)
        limit = recordLimit
        guard file.size > 0 else {
            throw FaceDataError(.malformed, file: path, "empty", advice: "the file is truncated: copy it again")
        }
        _ = try part(at: 0)
    }

    /// The whole record at `offset`, and where the next one begins.
    package func record(at offset: UInt64) throws(FaceDataError) -> (payload: [UInt8], next: UInt64) {
        let buffer = ByteBuffer()
        let (payload, next) = try read(at: offset, expecting: 0, into: buffer)
        return (Array(buffer[payload]), next)
    }

    /// Reads the whole record at `offset` into memory that is used again: at once, where `expected` bytes hold it.
    /// - Parameter expected: how long the record probably is, frame and padding included.
    /// - Returns: where in `buffer` the payload lies, and where in the file the next record begins.
    func read(
        at offset: UInt64, expecting expected: Int, into buffer: ByteBuffer
    ) throws(FaceDataError) -> (payload: Range<Int>, next: UInt64) {
        let frame = Self.frameBytes
        let there = Int(min(offset < size ? size - offset : 0, UInt64(limit + frame)))
        // Where even the frame is cut off, reading it says so.
        let first = max(frame, min(expected, there))
        buffer.reserve(first)
        try file.read(into: buffer[0..<first], at: offset)
        let part = try part(UnsafeRawBufferPointer(buffer[0..<frame]), at: offset)
        try check(part.count, offset)
        guard part.kind == .whole || part.kind == .first else {
            throw FaceDataError(
                .malformed, file: path, at: .byte(offset), "the middle of a record where one should begin",
                advice: "the index does not belong to this file, or it is damaged")
        }
        let end = frame + part.count
        if end > first {
            buffer.reserve(end, keeping: first)
            try file.read(into: buffer[first..<end], at: offset + UInt64(first))
        }
        if part.kind == .whole { return (frame..<end, part.next) }
        return try readRest(of: offset, from: part.next, filled: end, buffer)
    }

    /// Adds the further parts of the record at `offset` to its first, with the magic number between them.
    private func readRest(
        of offset: UInt64, from next: UInt64, filled: Int, _ buffer: ByteBuffer
    ) throws(FaceDataError) -> (payload: Range<Int>, next: UInt64) {
        var position = next
        var end = filled
        while true {
            let part = try part(at: position)
            guard part.kind == .middle || part.kind == .last else {
                throw FaceDataError(
                    .malformed, file: path, at: .byte(position),
                    "a new record begins inside the one at byte \(offset)", advice: "the file is damaged")
            }
            try check(end - Self.frameBytes + 4 + part.count, offset)
            buffer.reserve(end + 4 + part.count, keeping: end)
            buffer[end..<end + 4].storeBytes(of: RecordIO.magic.littleEndian, as: UInt32.self)
            try file.read(
                into: buffer[end + 4..<end + 4 + part.count], at: position + UInt64(Self.frameBytes))
            end += 4 + part.count
            position = part.next
            if part.kind == .last { return (Self.frameBytes..<end, position) }
        }
    }

    /// The header of the image record at `offset`, and where the next record begins, without reading the image.
    func header(at offset: UInt64) throws(FaceDataError) -> (header: ImageRecordHeader, next: UInt64) {
        let frame = Self.frameBytes
        let there = offset < size ? size - offset : 0
        let wanted = min(there, UInt64(frame + ImageRecordHeader.bytes))
        let head = try file.bytes(at: offset, count: max(frame, Int(wanted)))
        let opened = try head[..<frame].withBytes { bytes throws(FaceDataError) in try part(bytes, at: offset) }
        if opened.kind != .whole {
            let (payload, next) = try record(at: offset)
            return (try parse(payload[0...], length: payload.count, at: offset), next)
        }
        let prefix = head[frame..<min(head.count, frame + opened.count)]
        return (try parse(prefix, length: opened.count, at: offset), opened.next)
    }

    /// The header of a record that has been read.
    func parse(
        _ prefix: UnsafeRawBufferPointer, length: Int, at offset: UInt64
    ) throws(FaceDataError) -> ImageRecordHeader {
        switch ImageRecordHeader.parse(prefix, length: length) {
        case .success(let header): return header
        case .failure(let damage):
            throw FaceDataError(
                .malformed, file: path, at: .byte(offset), "not an image record: \(damage.reason)",
                advice: "the file is damaged, or holds something else than images")
        }
    }

    private func parse(
        _ prefix: ArraySlice<UInt8>, length: Int, at offset: UInt64
    ) throws(FaceDataError) -> ImageRecordHeader {
        try prefix.withBytes { bytes throws(FaceDataError) in
            try parse(bytes, length: length, at: offset)
        }
    }

    /// Whether a record may begin at `offset`, or nothing at all: what lies between records that the index names, when they
    /// do not follow each other.
    func isBoundary(_ offset: UInt64) throws(FaceDataError) -> Bool {
        guard size - offset >= 4 else { return true }
        let word = try file.bytes(at: offset, count: 4).littleEndian(UInt32.self, at: 0)
        return word == RecordIO.magic || word == 0
    }

    /// Asks the system to read a stretch ahead.
    func willNeed(_ range: Range<UInt64>) { file.willNeed(range) }

    private func check(_ count: Int, _ offset: UInt64) throws(FaceDataError) {
        guard count <= limit else {
            throw FaceDataError(
                .tooLarge, file: path, at: .byte(offset), "a record of more than \(limit) bytes",
                advice: "the file is damaged, or the limit on records must be raised")
        }
    }

    private func part(at offset: UInt64) throws(FaceDataError) -> Part {
        let frame = try file.bytes(at: offset, count: Self.frameBytes)
        return try frame[0...].withBytes { bytes throws(FaceDataError) in try part(bytes, at: offset) }
    }

    /// What the frame of a part says.
    private func part(_ frame: UnsafeRawBufferPointer, at offset: UInt64) throws(FaceDataError) -> Part {
        let magic = frame.littleEndian(UInt32.self, at: 0)
        guard magic == RecordIO.magic else {
            throw FaceDataError(
                .malformed, file: path, at: .byte(offset),
                "magic number 0x\(String(magic, radix: 16)) instead of 0xced7230a",
                advice: offset == 0
                    ? "this is not a RecordIO file" : "the index does not belong to this file, or it is damaged")
        }
        let word = frame.littleEndian(UInt32.self, at: 4)
        guard let kind = RecordIO.Part(rawValue: word >> 29) else {
            throw FaceDataError(.malformed, file: path, at: .byte(offset), "unknown kind of record \(word >> 29)")
        }
        let count = Int(word & 0x1FFF_FFFF)
        let end = offset + UInt64(Self.frameBytes + count)
        guard end <= size else {
            throw FaceDataError(
                .malformed, file: path, at: .byte(offset),
                "a record of \(count) bytes in a file that ends at byte \(size)",
                advice: "the file is truncated: copy it again")
        }
        // The very last padding may be missing: nothing is lost with it.
        return Part(kind: kind, count: count, next: min(size, end + UInt64(RecordIO.padding(count))))
    }
}
