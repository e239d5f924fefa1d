package import Tensors

/// Images of an MXNet RecordIO file (`.rec` with `.idx`), of either kind in use:
///
/// - insightface's: key 0 is a record without image whose labels [L0, L1] say that keys 1..<L0 are images and keys
///   L0..<L1 identities, each a record without image whose labels [a, b) are its images' keys;
/// - im2rec's: every key is an image.
///
/// A missing `.idx` is rebuilt in memory. Class labels come from the images' own records; identity records only spare
/// reading every one of them. Their bounds are 32-bit floats, exact up to 2^24: keys from there on are read one by one.
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

    /// - Parameter path: the `.rec` file; its index is the file of the same name that ends in `.idx`.
    /// - Throws: `FaceDataError` when the files are damaged, hold no image, or a label is not a class number.
    package init(_ path: String, limits: ImageLimits = ImageLimits()) throws(FaceDataError) {
        let reader = try RecordIOReader(path, recordLimit: limits.encodedBytes + 1 << 20)
        var notes: [String] = []
        let base = path.hasSuffix(".rec") ? String(path.dropLast(4)) : path
        let index: RecordIOIndex
        if Folder.kind(base + ".idx") != nil {
            index = try RecordIOIndex(base + ".idx", recordFileSize: reader.size)
        } else {
            index = try RecordIOIndex(rebuilding: reader)
            notes.append("no \(base).idx: the index was rebuilt from the records")
        }
        let layout = try Layout(reader: reader, index: index)
        table = LabelTable(layout.labels)
        firstPosition = layout.firstPosition
        count = layout.labels.count
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

    package func label(of index: Int) -> Int { Int(table.labels[index]) }
    package func identityName(_ label: Int) -> String { String(table.original(label)) }
    package var namesAreNumbers: Bool { true }
    package func key(of index: Int) -> String { "record key \(self.index.key(at: firstPosition + index))" }

    package func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] {
        let position = firstPosition + index
        let offset = self.index.offset(at: position)
        let place = FaceDataError.Place.record(key: self.index.key(at: position), byte: offset)
        let (header, image) = try reader.imageRecord(at: offset)
        guard !image.isEmpty else {
            throw FaceDataError(.malformed, file: location, at: place, "holds no image")
        }
        let expected = Float(table.original(Int(table.labels[index])))
        guard header.labels.0 == expected else {
            throw FaceDataError(
                .malformed, file: location, at: place,
                "carries label \(header.labels.0), but belongs to identity \(expected)", advice: "the file is damaged")
        }
        return Array(image)
    }

    package func image(at index: Int) throws(FaceDataError) -> RGBImage { try image(at: index, limits: limits) }

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

/// Which records are images, and their labels as they stand in the file.
private struct Layout {
    let firstPosition: Int
    let labels: [Int32]
    let declaredClasses: Int?

    init(reader: RecordIOReader, index: RecordIOIndex) throws(FaceDataError) {
        let scan = Scan(reader: reader, index: index)
        guard let zero = index.position(of: 0), case let metadata = try scan.header(zero), metadata.flag >= 2,
            !metadata.hasImage
        else {
            firstPosition = 0
            labels = try scan.labels(0..<index.count, below: nil)
            declaredClasses = nil
            return
        }
        let (images, identities) = try Self.ranges(metadata, scan: scan, at: zero)
        firstPosition = zero + 1
        if identities.isEmpty {
            labels = try scan.labels(images, below: nil)
            declaredClasses = nil
        } else {
            labels = try scan.labels(images, identities: identities)
            declaredClasses = identities.count
        }
    }

    /// Positions of images and of identity records. Identities are absent from the index of some files.
    private static func ranges(
        _ metadata: ImageRecordHeader, scan: Scan, at zero: Int
    ) throws(FaceDataError) -> (images: Range<Int>, identities: Range<Int>) {
        let index = scan.index
        let (low, high) = metadata.labels
        guard low >= 2, high >= low, high < 0x1p40, low == low.rounded(), high == high.rounded() else {
            throw scan.error(
                zero, "key 0 is metadata with the bounds \(low) and \(high)", "expected 2 <= first <= second")
        }
        // Above 2^24 a float skips integers: the first key near the bound without image is the true one.
        var firstIdentity = UInt64(low)
        if low > 0x1p24 {
            let slack = UInt64(low.ulp)
            for key in (firstIdentity - slack)...(firstIdentity + slack) {
                guard let position = index.position(of: key) else { break }
                firstIdentity = key
                if try !scan.header(position).hasImage { break }
                firstIdentity = key + 1
            }
        }
        guard let lastImage = index.position(of: firstIdentity - 1), lastImage == zero + Int(firstIdentity) - 1 else {
            throw scan.error(
                zero, "the metadata announces images under the keys 1..<\(firstIdentity), and the index lacks some",
                "the .idx file is incomplete: copy it again, or remove it to have it rebuilt")
        }
        let images = zero + 1..<lastImage + 1
        guard index.count > images.upperBound else { return (images, images.upperBound..<images.upperBound) }
        let expected = high <= 0x1p24 ? Int(high) - Int(firstIdentity) : index.count - images.upperBound
        guard index.position(of: firstIdentity) == images.upperBound, expected <= index.count - images.upperBound else {
            throw scan.error(
                zero, "the metadata announces \(expected) identity records, and the index lacks some",
                "the .idx file is incomplete: copy it again, or remove it to have it rebuilt")
        }
        return (images, images.upperBound..<images.upperBound + expected)
    }
}

/// Reads headers by position in the index, with errors that name the key.
private struct Scan {
    let reader: RecordIOReader
    let index: RecordIOIndex

    func header(_ position: Int) throws(FaceDataError) -> ImageRecordHeader {
        try reader.header(at: index.offset(at: position)).header
    }

    func error(_ position: Int, _ reason: String, _ advice: String? = nil) -> FaceDataError {
        FaceDataError(
            .malformed, file: reader.path,
            at: .record(key: index.key(at: position), byte: index.offset(at: position)), reason, advice: advice)
    }

    /// The class label of one image record.
    func label(_ position: Int, below bound: Int?) throws(FaceDataError) -> Int32 {
        let header = try header(position)
        guard header.hasImage else { throw error(position, "holds no image") }
        let label = header.labels.0
        guard label >= 0, label < 0x1p24, label == label.rounded() else {
            throw error(position, "label \(label) is not a class number in 0..<2^24")
        }
        if let bound, Int(label) >= bound {
            throw error(position, "label \(Int(label)) is out of range: the file has \(bound) identities")
        }
        return Int32(label)
    }

    func labels(_ positions: Range<Int>, below bound: Int?) throws(FaceDataError) -> [Int32] {
        var labels: [Int32] = []
        labels.reserveCapacity(positions.count)
        for position in positions { labels.append(try label(position, below: bound)) }
        return labels
    }

    /// Labels from the identity records' ranges, each with the label of its first image.
    func labels(_ images: Range<Int>, identities: Range<Int>) throws(FaceDataError) -> [Int32] {
        var labels = [Int32](repeating: -1, count: images.count)
        let exact = min(images.count, 1 << 24 - 1)
        for position in identities {
            let header = try header(position)
            let (low, high) = header.labels
            guard header.flag >= 2, !header.hasImage, low >= 1, high >= low, low == low.rounded(),
                high == high.rounded(), high <= Float(images.count + 1).nextUp
            else {
                throw error(
                    position, "is not an identity record with a range of image keys within 1...\(images.count)")
            }
            let range = min(exact, Int(low) - 1)..<min(exact, Int(high) - 1)
            guard let first = range.first else { continue }
            let label = try label(images.lowerBound + first, below: identities.count)
            for image in range {
                guard labels[image] < 0 else {
                    throw error(position, "claims image key \(image + 1), which another identity has")
                }
                labels[image] = label
            }
        }
        for image in labels.indices where labels[image] < 0 {
            guard image >= exact else {
                throw error(images.lowerBound + image, "belongs to no identity record")
            }
            labels[image] = try label(images.lowerBound + image, below: identities.count)
        }
        return labels
    }
}
