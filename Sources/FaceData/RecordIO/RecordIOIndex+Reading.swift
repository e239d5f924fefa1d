extension RecordIOIndex {
    /// Reads an `.idx` file.
    /// - Parameter size: the record file's size in bytes, inside which all offsets must lie.
    init(_ path: String, recordFileSize size: UInt64) throws(FaceDataError) {
        let builder = try IndexText(DataFile(path), recordFileSize: size).read()
        guard builder.count > 0 else {
            throw FaceDataError(.malformed, file: path, "holds no record", advice: IndexText.advice)
        }
        guard let index = RecordIOIndex(runs: builder.runs, offsets: builder.offsets) else {
            throw FaceDataError(.malformed, file: path, "holds a key twice", advice: IndexText.advice)
        }
        self = index
    }

    /// Passes over all records and takes their ids as keys, or their ordinal numbers when ids repeat.
    /// - Parameter progress: called now and then with the bytes passed and the bytes in all.
    init(
        rebuilding reader: RecordIOReader, progress: (_ done: UInt64, _ total: UInt64) -> Void = { _, _ in }
    ) throws(FaceDataError) {
        var byID = RecordIOIndexBuilder()
        var hasBareRecord = false
        var offset: UInt64 = 0
        while offset < reader.size {
            let (header, next) = try reader.header(at: offset)
            guard byID.count < RecordIOIndexBuilder.mostRecords else {
                throw FaceDataError(
                    .tooLarge, file: reader.path, "more than \(RecordIOIndexBuilder.mostRecords) records")
            }
            byID.append(key: header.id, offset: offset)
            hasBareRecord = hasBareRecord || !header.hasImage
            offset = next
            if byID.count % 4096 == 0 { progress(offset, reader.size) }
        }
        progress(reader.size, reader.size)
        let everything = Run(firstKey: 0, slot: 0, count: UInt32(byID.count))
        if let index = RecordIOIndex(runs: byID.runs, offsets: byID.offsets) {
            self = index
        } else if !hasBareRecord, let index = RecordIOIndex(runs: [everything], offsets: byID.offsets) {
            self = index
        } else {
            throw FaceDataError(
                .malformed, file: reader.path, "the index is missing, and cannot be rebuilt because record ids repeat",
                advice: "supply the .idx file")
        }
    }
}

/// The text of an index file, read in pieces of whole lines. Nothing is allocated per line.
private struct IndexText {
    static let advice = "it does not belong to the record file, or is damaged; without it the index is rebuilt"
    private static let piece = 1 << 22
    private static let longestLine = 1 << 16

    private let file: DataFile
    private let size: UInt64

    /// What a line holds.
    private enum Line { case record(key: UInt64, offset: UInt64), empty, unknown }

    init(_ file: DataFile, recordFileSize size: UInt64) {
        self.file = file
        self.size = size
    }

    func read() throws(FaceDataError) -> RecordIOIndexBuilder {
        var builder = RecordIOIndexBuilder()
        let buffer = ByteBuffer(capacity: Self.piece + Self.longestLine + 1)
        var next: UInt64 = 0
        var rest = 0
        var line = 0
        while next < file.size || rest > 0 {
            let count = Int(min(UInt64(Self.piece), file.size - next))
            try file.read(into: buffer[rest..<rest + count], at: next)
            next += UInt64(count)
            let filled = rest + count
            let text = UnsafeRawBufferPointer(buffer[0..<filled])
            // The last line may be cut; at the end of the file it may lack its line break.
            let end = next == file.size ? filled : (text.lastIndex(of: 0x0A) ?? -1) + 1
            guard filled - end <= Self.longestLine else {
                throw FaceDataError(
                    .malformed, file: file.path, at: .line(line + 1), "longer than \(Self.longestLine) bytes")
            }
            let before = builder.count
            try parse(UnsafeRawBufferPointer(rebasing: text[..<end]), &line, &builder)
            if before == 0, next < file.size {
                builder.reserveCapacity(Int(Double(builder.count) * Double(file.size) / Double(next)) + 4096)
            }
            rest = filled - end
            // Moved to the front; the ranges may overlap.
            if rest > 0 { buffer[0..<rest].copyMemory(from: UnsafeRawBufferPointer(buffer[end..<filled])) }
        }
        return builder
    }

    /// Takes up whole lines.
    private func parse(
        _ text: UnsafeRawBufferPointer, _ line: inout Int, _ builder: inout RecordIOIndexBuilder
    ) throws(FaceDataError) {
        var place = 0
        while place < text.count {
            line += 1
            switch Self.next(text, &place) {
            case .empty: break
            case .unknown:
                throw FaceDataError(
                    .malformed, file: file.path, at: .line(line), "expected key<TAB>offset", advice: Self.advice)
            case .record(let key, let offset):
                guard offset % 4 == 0, offset < size, size - offset >= 8 else {
                    throw FaceDataError(
                        .malformed, file: file.path, at: .line(line),
                        offset % 4 == 0
                            ? "offset \(offset) is outside the record file of \(size) bytes"
                            : "offset \(offset) is not a multiple of 4", advice: Self.advice)
                }
                guard builder.count < RecordIOIndexBuilder.mostRecords else {
                    throw FaceDataError(
                        .tooLarge, file: file.path, at: .line(line),
                        "more than \(RecordIOIndexBuilder.mostRecords) records")
                }
                builder.append(key: key, offset: offset)
            }
        }
    }

    /// The line at `place`, which moves behind it unless the line is unknown.
    private static func next(_ text: UnsafeRawBufferPointer, _ place: inout Int) -> Line {
        if text[place] == 0x0A {
            place += 1
            return .empty
        }
        if text[place] == 0x0D, place + 1 == text.count || text[place + 1] == 0x0A {
            place = min(text.count, place + 2)
            return .empty
        }
        guard let key = number(text, &place), place < text.count, text[place] == 0x09 else { return .unknown }
        place += 1
        guard let offset = number(text, &place) else { return .unknown }
        if place < text.count, text[place] == 0x0D { place += 1 }
        if place < text.count {
            guard text[place] == 0x0A else { return .unknown }
            place += 1
        }
        return .record(key: key, offset: offset)
    }

    /// Decimal digits only, at least one, within 64 bits.
    private static func number(_ text: UnsafeRawBufferPointer, _ place: inout Int) -> UInt64? {
        let start = place
        var value: UInt64 = 0
        // 19 digits always fit.
        let safe = min(text.count, start + 19)
        while place < safe {
            let digit = text[place] &- 0x30
            if digit > 9 { break }
            value = value &* 10 &+ UInt64(digit)
            place &+= 1
        }
        if place == start { return nil }
        guard place == safe, place < text.count, text[place] &- 0x30 <= 9 else { return value }
        let (product, overflow) = value.multipliedReportingOverflow(by: 10)
        let (sum, carry) = product.addingReportingOverflow(UInt64(text[place] &- 0x30))
        place += 1
        if overflow || carry || (place < text.count && text[place] &- 0x30 <= 9) { return nil }
        return sum
    }
}
