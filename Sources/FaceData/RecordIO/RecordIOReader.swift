/// Reads records of a RecordIO file at given offsets. Thread-safe.
package final class RecordIOReader: Sendable {
    let file: DataFile
    /// The longest accepted record, in bytes.
    private let limit: Int

    package var path: String { file.path }
    package var size: UInt64 { file.size }

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
        let first = try part(at: offset)
        try check(first.count, offset)
        var payload = try file.bytes(at: offset + 8, count: first.count)
        var next = first.next
        switch first.kind {
        case .whole: return (payload, next)
        case .first: break
        case .middle, .last:
            throw FaceDataError(
                .malformed, file: path, at: .byte(offset), "the middle of a record where one should begin",
                advice: "the index does not belong to this file, or it is damaged")
        }
        while true {
            let position = next
            let part = try part(at: position)
            guard part.kind == .middle || part.kind == .last else {
                throw FaceDataError(
                    .malformed, file: path, at: .byte(position),
                    "a new record begins inside the one at byte \(offset)", advice: "the file is damaged")
            }
            try check(payload.count + 4 + part.count, offset)
            payload.append(littleEndian: RecordIO.magic)
            payload += try file.bytes(at: position + 8, count: part.count)
            next = part.next
            if part.kind == .last { return (payload, next) }
        }
    }

    /// The header of the image record at `offset`, and where the next record begins, without reading the image.
    func header(at offset: UInt64) throws(FaceDataError) -> (header: ImageRecordHeader, next: UInt64) {
        let part = try part(at: offset)
        let prefix: [UInt8]
        let length: Int
        let next: UInt64
        if part.kind == .whole {
            prefix = try file.bytes(at: offset + 8, count: min(part.count, ImageRecordHeader.bytes))
            length = part.count
            next = part.next
        } else {
            (prefix, next) = try record(at: offset)
            length = prefix.count
        }
        return (try parse(prefix, length: length, at: offset), next)
    }

    /// The image record at `offset`: its header and the image's bytes.
    func imageRecord(at offset: UInt64) throws(FaceDataError) -> (header: ImageRecordHeader, image: ArraySlice<UInt8>) {
        let payload = try record(at: offset).payload
        let header = try parse(payload, length: payload.count, at: offset)
        return (header, payload[(ImageRecord.headerBytes + 4 * Int(header.flag))...])
    }

    private func parse(
        _ prefix: [UInt8], length: Int, at offset: UInt64
    ) throws(FaceDataError) -> ImageRecordHeader {
        switch ImageRecordHeader.parse(prefix, length: length) {
        case .success(let header): return header
        case .failure(let damage):
            throw FaceDataError(
                .malformed, file: path, at: .byte(offset), "not an image record: \(damage.reason)",
                advice: "the file is damaged, or holds something else than images")
        }
    }

    private func check(_ count: Int, _ offset: UInt64) throws(FaceDataError) {
        guard count <= limit else {
            throw FaceDataError(
                .tooLarge, file: path, at: .byte(offset), "a record of more than \(limit) bytes",
                advice: "the file is damaged, or the limit on records must be raised")
        }
    }

    private func part(at offset: UInt64) throws(FaceDataError) -> (kind: RecordIO.Part, count: Int, next: UInt64) {
        var words: (UInt32, UInt32) = (0, 0)
        var failure: FaceDataError?
        withUnsafeMutableBytes(of: &words) { buffer in
            do throws(FaceDataError) { try file.read(into: buffer, at: offset) } catch { failure = error }
        }
        if let failure { throw failure }
        let magic = UInt32(littleEndian: words.0)
        guard magic == RecordIO.magic else {
            throw FaceDataError(
                .malformed, file: path, at: .byte(offset),
                "magic number 0x\(String(magic, radix: 16)) instead of 0xced7230a",
                advice: offset == 0
                    ? "this is not a RecordIO file" : "the index does not belong to this file, or it is damaged")
        }
        let word = UInt32(littleEndian: words.1)
        guard let kind = RecordIO.Part(rawValue: word >> 29) else {
            throw FaceDataError(.malformed, file: path, at: .byte(offset), "unknown kind of record \(word >> 29)")
        }
        let count = Int(word & 0x1FFF_FFFF)
        let end = offset + 8 + UInt64(count)
        guard end <= size else {
            throw FaceDataError(
                .malformed, file: path, at: .byte(offset), "a record of \(count) bytes in a file that ends at byte \(size)",
                advice: "the file is truncated: copy it again")
        }
        // The very last padding may be missing: nothing is lost with it.
        return (kind, count, min(size, end + UInt64(RecordIO.padding(count))))
    }
}
