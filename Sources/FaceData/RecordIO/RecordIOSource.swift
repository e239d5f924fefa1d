package import Tensors

/// Images of an MXNet RecordIO file (`.rec` with `.idx`), of either kind in use:
///
/// - insightface's: key 0 is a record without image whose labels [L0, L1] say that keys 1..<L0 are images and keys
///   L0..<L1 identities, each a record without image whose labels [a, b) are its images' keys;
/// - im2rec's: every key is an image.
///
/// A missing `.idx` is rebuilt, and written beside the records where their folder takes it. Class labels come from the
/// images' own records; identity records only spare reading every one of them. Their bounds are 32-bit floats, exact up to
/// 2^24: keys from there on are read one by one.
///
/// An image record with a damaged header does not keep a file from being opened, up to one in ten: it gets its neighbour's
/// label and is an unreadable image when its turn comes.
package final class RecordIOSource: FaceSource {
    package let location: String
    package let notes: [String]
    package let count: Int
    package var classCount: Int { table.classCount }

    private let reader: RecordIOReader
    private let index: RecordIOIndex
    /// Where the first image stands in the index; image i is at `firstPosition` + i.
    private let firstPosition: Int
    private let table: LabelTable
    private let limits: ImageLimits

    /// - Parameters:
    ///   - path: the `.rec` file; its index is the file of the same name that ends in `.idx`.
    ///   - progress: called now and then while a missing index is rebuilt, with the bytes passed and the bytes in all.
    /// - Throws: `FaceDataError` when the files are damaged, hold no image, or labels are no class numbers.
    package init(
        _ path: String, limits: ImageLimits = ImageLimits(),
        progress: (_ done: UInt64, _ total: UInt64) -> Void = { _, _ in }
    ) throws(FaceDataError) {
        let reader = try RecordIOReader(path, recordLimit: limits.encodedBytes + 1 << 20)
        var notes: [String] = []
        let base = path.hasSuffix(".rec") ? String(path.dropLast(4)) : path
        let index: RecordIOIndex
        if Folder.kind(base + ".idx") != nil {
            index = try RecordIOIndex(base + ".idx", recordFileSize: reader.size)
        } else {
            index = try RecordIOIndex(rebuilding: reader, progress: progress)
            notes.append(Self.keep(index, at: base + ".idx"))
        }
        let layout = try RecordIOLayout(reader: reader, index: index)
        table = LabelTable(layout.labels)
        firstPosition = layout.firstPosition
        count = layout.labels.count
        notes += layout.notes
        if let note = table.note { notes.append(note) }
        if let declared = layout.declaredClasses, declared != table.classCount {
            notes.append("the metadata record declares \(declared) identities, \(table.classCount) have images")
        }
        if let declared = Self.property(base, near: path), declared != table.classCount {
            notes.append("the file `property` says \(declared) classes, the records hold \(table.classCount)")
        }
        location = path
        self.reader = reader
        self.index = index
        self.limits = limits
        self.notes = notes
    }

    /// Whether opening `path` means a pass over all of its records first.
    package static func lacksIndex(_ path: String) -> Bool {
        path.hasSuffix(".rec") && Folder.kind(path) == .file && Folder.kind(path.dropLast(4) + ".idx") == nil
    }

    /// Writes a rebuilt index where that is possible.
    /// - Returns: what to tell the user.
    private static func keep(_ index: RecordIOIndex, at path: String) -> String {
        do throws(FaceDataError) {
            try index.write(to: path)
            return "no \(path): the index was rebuilt from the records and written"
        } catch {
            return "no \(path): the index was rebuilt from the records, and could not be kept: \(error.reason)"
        }
    }

    package func label(of index: Int) -> Int { Int(table.labels[index]) }
    package func identityName(_ label: Int) -> String { String(table.original(label)) }
    package var namesAreNumbers: Bool { true }
    package func key(of index: Int) -> String { Self.keyPrefix + "\(self.index.key(at: firstPosition + index))" }

    private static let keyPrefix = "record key "

    /// Whether a source's key is the number that an index gives a record, maybe after a member's name.
    package static func isNumber(key: String) -> Bool {
        let name = key.split(separator: "/").last ?? ""
        return name.hasPrefix(keyPrefix) && UInt64(name.dropFirst(keyPrefix.count)) != nil
    }

    /// Bytes of memory that the index and the labels take.
    package var byteCount: Int { index.byteCount + table.byteCount }

    package func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] {
        let buffer = ByteBuffer()
        let image = try read(index, into: buffer)
        return Array(buffer[image])
    }

    package func image(at index: Int) throws(FaceDataError) -> RGBImage { try image(at: index, limits: limits) }

    package func decode(
        _ index: Int, with decoder: ImageDecoder, into image: inout RGBImage
    ) throws(FaceDataError) {
        try decoder.decode(into: &image, limits: limits) { buffer throws(FaceDataError) in
            try read(index, into: buffer)
        } place: {
            "\(location), \(key(of: index))"
        }
    }

    /// Reads a record at once: the index says how long it is.
    /// - Returns: where in `buffer` its image lies.
    private func read(_ index: Int, into buffer: ByteBuffer) throws(FaceDataError) -> Range<Int> {
        let position = firstPosition + index
        let (offset, end) = self.index.extent(at: position)
        func damaged(_ reason: String) -> FaceDataError {
            FaceDataError(
                .malformed, file: location, at: .record(key: self.index.key(at: position), byte: offset), reason,
                advice: "the file is damaged")
        }
        let expected = end.map { Int(min($0 - offset, 1 << 20)) } ?? 1 << 14
        let (payload, next) = try reader.read(at: offset, expecting: expected, into: buffer)
        if let end, next > end { throw damaged("reaches \(next - end) bytes into the record that follows") }
        if let end, next < end, try !reader.isBoundary(next) { throw damaged("ends in the middle of itself") }
        let header = try reader.parse(UnsafeRawBufferPointer(buffer[payload]), length: payload.count, at: offset)
        guard header.hasImage else { throw damaged("holds no image") }
        let label = Float(table.original(Int(table.labels[index])))
        guard header.labels.0 == label else {
            throw damaged("carries label \(header.labels.0), but belongs to identity \(label)")
        }
        return payload.lowerBound + header.imageStart..<payload.upperBound
    }

    /// Asks for the stretch of the file that holds some records, if they lie together there.
    package func willNeed(_ records: Range<Int>) {
        var low = UInt64.max
        var high: UInt64 = 0
        for record in records {
            let (offset, end) = index.extent(at: firstPosition + record)
            low = min(low, offset)
            high = max(high, end ?? reader.size)
        }
        let expected = Double(reader.size) * Double(records.count) / Double(max(1, index.count))
        if low < high, Double(high - low) <= 4 * expected + 0x1p20 { reader.willNeed(low..<high) }
    }

    /// The class count of a `property` file (`classes,height,width`) beside the records; nil when there is none.
    private static func property(_ base: String, near path: String) -> Int? {
        for candidate in [base + ".property", Folder.resolve("property", in: Folder.parent(of: path))] {
            guard let bytes = try? DataFile(candidate).contents(limit: 4096) else { continue }
            let fields = String(decoding: bytes, as: UTF8.self).split(separator: ",")
            return fields.first.flatMap { Int($0) }
        }
        return nil
    }
}
