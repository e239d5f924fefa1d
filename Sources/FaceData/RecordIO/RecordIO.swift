/// The framing of MXNet RecordIO (dmlc-core, recordio.h): little-endian; per part a magic number, a word with the part's
/// kind in its top 3 bits and its length in the other 29, the bytes, zeros up to a multiple of 4.
///
/// A record whose payload holds the magic at a multiple of 4 is cut there: the 4 bytes are dropped by the writer and put
/// back between the parts by the reader.
package enum RecordIO {
    package static let magic: UInt32 = 0xCED7_230A
    static let longestPart = (1 << 29) - 1

    enum Part: UInt32 {
        case whole = 0
        case first = 1
        case middle = 2
        case last = 3
    }

    static func padding(_ count: Int) -> Int { (4 - count % 4) % 4 }

    /// The bytes of one record, framed.
    /// - Precondition: the payload is shorter than 2^29 bytes.
    package static func frame(_ payload: [UInt8]) -> [UInt8] {
        precondition(payload.count <= longestPart, "a RecordIO record of \(payload.count) bytes")
        var framed: [UInt8] = []
        framed.reserveCapacity(payload.count + 16)
        func append(_ part: Part, _ range: Range<Int>) {
            framed.append(littleEndian: magic)
            framed.append(littleEndian: part.rawValue << 29 | UInt32(range.count))
            framed += payload[range]
            framed += repeatElement(0, count: padding(range.count))
        }
        var start = 0
        for position in stride(from: 0, to: payload.count / 4 * 4, by: 4)
        where payload.littleEndian(UInt32.self, at: position) == magic {
            append(start == 0 ? .first : .middle, start..<position)
            start = position + 4
        }
        append(start == 0 ? .whole : .last, start..<payload.count)
        return framed
    }
}

/// The payload of an image record (MXNet's IRHeader): flag, label, id, id2, then `flag` labels, then the image.
package struct ImageRecord: Sendable, Equatable {
    /// One label is stored in the header (flag 0) unless `isVector`; several always follow it.
    package var labels: [Float]
    package var id: UInt64
    package var id2: UInt64
    package var image: [UInt8]
    /// Whether the labels follow the header (flag = their number).
    package var isVector: Bool

    static let headerBytes = 24
    /// More labels than this in one record are taken for damage.
    static let mostLabels = 4096

    package init(label: Float, id: UInt64, id2: UInt64 = 0, image: [UInt8]) {
        self.init(labels: [label], isVector: false, id: id, id2: id2, image: image)
    }

    package init(labels: [Float], id: UInt64, id2: UInt64 = 0, image: [UInt8] = []) {
        self.init(labels: labels, isVector: true, id: id, id2: id2, image: image)
    }

    private init(labels: [Float], isVector: Bool, id: UInt64, id2: UInt64, image: [UInt8]) {
        precondition(!labels.isEmpty, "an image record without a label")
        self.labels = labels
        self.isVector = isVector
        self.id = id
        self.id2 = id2
        self.image = image
    }

    package var payload: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Self.headerBytes + 4 * labels.count + image.count)
        bytes.append(littleEndian: isVector ? UInt32(labels.count) : 0)
        bytes.append(littleEndian: isVector ? 0 : labels[0].bitPattern)
        bytes.append(littleEndian: id)
        bytes.append(littleEndian: id2)
        if isVector { for label in labels { bytes.append(littleEndian: label.bitPattern) } }
        return bytes + image
    }
}

/// An image record without its image, as much of it as opening a file needs.
struct ImageRecordHeader: Equatable {
    let flag: UInt32
    /// The first two labels; the second is 0 when there is one.
    let labels: (Float, Float)
    let id: UInt64
    let hasImage: Bool

    /// Bytes of payload that hold all of it.
    static let bytes = ImageRecord.headerBytes + 8

    static func == (a: Self, b: Self) -> Bool {
        a.flag == b.flag && a.labels == b.labels && a.id == b.id && a.hasImage == b.hasImage
    }

    /// - Parameters:
    ///   - prefix: the first bytes of the payload, at least `bytes` of them or all.
    ///   - length: the length of the whole payload.
    /// - Returns: nil, and a reason, when it is no image record.
    static func parse(_ prefix: UnsafeRawBufferPointer, length: Int) -> Result<ImageRecordHeader, Damage> {
        guard prefix.count >= ImageRecord.headerBytes else {
            return .failure(Damage("\(length) bytes are too few for an image record's header"))
        }
        let flag = prefix.littleEndian(UInt32.self, at: 0)
        guard flag <= ImageRecord.mostLabels else { return .failure(Damage("announces \(flag) labels")) }
        let imageStart = ImageRecord.headerBytes + 4 * Int(flag)
        guard length >= imageStart else {
            return .failure(Damage("announces \(flag) labels but holds only \(length) bytes"))
        }
        func label(_ index: Int) -> Float {
            index < Int(flag)
                ? Float(bitPattern: prefix.littleEndian(UInt32.self, at: ImageRecord.headerBytes + 4 * index)) : 0
        }
        let scalar = Float(bitPattern: prefix.littleEndian(UInt32.self, at: 4))
        return .success(
            ImageRecordHeader(
                flag: flag, labels: flag == 0 ? (scalar, 0) : (label(0), label(1)),
                id: prefix.littleEndian(UInt64.self, at: 8), hasImage: length > imageStart))
    }

    /// Bytes of the payload before the image.
    var imageStart: Int { ImageRecord.headerBytes + 4 * Int(flag) }

    struct Damage: Error {
        let reason: String
        init(_ reason: String) { self.reason = reason }
    }
}

extension [UInt8] {
    mutating func append<T: FixedWidthInteger>(littleEndian value: T) {
        Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
    }

    /// - Precondition: the bytes are there.
    func littleEndian<T: FixedWidthInteger>(_ type: T.Type, at offset: Int) -> T {
        withUnsafeBytes { $0.littleEndian(type, at: offset) }
    }
}

extension UnsafeRawBufferPointer {
    /// - Precondition: the bytes are there.
    func littleEndian<T: FixedWidthInteger>(_ type: T.Type, at offset: Int) -> T {
        precondition(offset >= 0 && offset + MemoryLayout<T>.size <= count, "bytes outside the buffer")
        return T(littleEndian: loadUnaligned(fromByteOffset: offset, as: T.self))
    }
}

extension ArraySlice<UInt8> {
    /// The bytes as memory, for a body that throws this module's error.
    func withBytes<R>(
        _ body: (UnsafeRawBufferPointer) throws(FaceDataError) -> R
    ) throws(FaceDataError) -> R {
        let result: Result<R, FaceDataError> = withUnsafeBytes { bytes in
            do throws(FaceDataError) {
                return .success(try body(bytes))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}
