package import Tensors

/// Images with identity labels, by index: what training reads from.
///
/// Labels are 0..<classCount, derived from the data and never given; record i is the same image on every rank and after
/// every restart. All members may be called from several threads at once.
package protocol FaceSource: Sendable {
    /// The file or folder, for messages.
    var location: String { get }
    var count: Int { get }
    var classCount: Int { get }
    /// Oddities found while opening that do not stop anything, one sentence each.
    var notes: [String] { get }
    /// The class of record `index`, in 0..<classCount.
    func label(of index: Int) -> Int
    /// What a person calls the record: a RecordIO key, a path.
    func key(of index: Int) -> String
    /// What a person calls the class: a folder's name, the label in the file. Class centres are known by it when they
    /// move to another data set.
    func identityName(_ label: Int) -> String
    /// Whether the names are no more than numbers within this data set, and mean nothing outside it.
    var namesAreNumbers: Bool { get }
    /// The record's JPEG or PNG bytes.
    /// - Throws: `FaceDataError`.
    func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8]
    /// The decoded image.
    /// - Throws: `FaceDataError` that names the record.
    func image(at index: Int) throws(FaceDataError) -> RGBImage
    /// The decoded image in memory that is used again, where the source can; a large JPEG decoded no larger than
    /// `decoder` needs it.
    /// - Throws: `FaceDataError` that names the record.
    func decode(_ index: Int, with decoder: ImageDecoder, into image: inout RGBImage) throws(FaceDataError)
    /// How often stretches of the records come in an epoch; together they are all records, in order.
    var parts: [SourcePart] { get }
    /// These records will be read soon: a source on a slow disk may read them ahead, in one go.
    func willNeed(_ records: Range<Int>)
}

/// Records that come equally often.
package struct SourcePart: Sendable, Equatable {
    package let records: Range<Int>
    /// Times per epoch: 0.5 is half of the records, another half in the next epoch.
    package let weight: Double

    package init(records: Range<Int>, weight: Double = 1) {
        precondition(!records.isEmpty && weight > 0 && weight.isFinite, "weight \(weight) of records \(records)")
        self.records = records
        self.weight = weight
    }
}

extension FaceSource {
    package var notes: [String] { [] }
    package var namesAreNumbers: Bool { false }
    package var parts: [SourcePart] { [SourcePart(records: 0..<count)] }
    package func willNeed(_ records: Range<Int>) {}

    package func decode(
        _ index: Int, with decoder: ImageDecoder, into image: inout RGBImage
    ) throws(FaceDataError) {
        image = try self.image(at: index)
    }

    /// `decode` of a source whose images are files of their own.
    func decode(
        file path: String, _ index: Int, with decoder: ImageDecoder, into image: inout RGBImage
    ) throws(FaceDataError) {
        let limits = ImageLimits()
        try decoder.decode(into: &image, limits: limits) { buffer throws(FaceDataError) in
            try DataFile(path).contents(limit: limits.encodedBytes, into: buffer)
        } place: {
            "\(location), \(key(of: index))"
        }
    }

    package func image(at index: Int) throws(FaceDataError) -> RGBImage {
        try image(at: index, limits: ImageLimits())
    }

    package func image(at index: Int, limits: ImageLimits) throws(FaceDataError) -> RGBImage {
        let bytes = try encodedBytes(of: index)
        do throws(ImageError) {
            return try ImageCodec.decode(bytes, limits: limits)
        } catch {
            throw FaceDataError(error, file: "\(location), \(key(of: index))")
        }
    }
}

extension FaceDataError {
    init(_ error: ImageError, file: String, at place: Place? = nil) {
        let kind: Kind =
            switch error.kind {
            case .tooLarge: .tooLarge
            case .unsupported: .unsupported
            default: .malformed
            }
        self.init(kind, file: file, at: place, "not a readable image: \(error.description)")
    }
}

/// Labels as they stand in a file, renumbered to 0..<classCount in ascending order when some values are unused.
struct LabelTable: Sendable {
    /// One per record.
    let labels: [Int32]
    let classCount: Int
    /// The file's value of each class; nil when they are the same.
    let originals: [Int32]?

    /// - Parameter raw: labels of all records, not negative.
    init(_ raw: [Int32]) {
        let largest = raw.max() ?? -1
        let used = Self.usedValues(raw, largest: largest)
        classCount = used?.count ?? Int(largest) + 1
        guard let used else {
            labels = raw
            originals = nil
            return
        }
        originals = used
        // A lookup by value where the values are not scattered, which they hardly ever are.
        if Int(largest) <= 4 * raw.count + 1 << 20 {
            var numbers = [Int32](repeating: 0, count: Int(largest) + 1)
            for (number, value) in used.enumerated() { numbers[Int(value)] = Int32(number) }
            labels = raw.map { numbers[Int($0)] }
        } else {
            let numbers = Dictionary(uniqueKeysWithValues: zip(used, Int32(0)...))
            labels = raw.map { numbers[$0]! }
        }
    }

    /// The values that occur, ascending; nil when all of 0...largest do.
    private static func usedValues(_ raw: [Int32], largest: Int32) -> [Int32]? {
        if Int(largest) <= 4 * raw.count + 1 << 20 {
            var isUsed = [Bool](repeating: false, count: Int(largest) + 1)
            for value in raw { isUsed[Int(value)] = true }
            return isUsed.contains(false) ? isUsed.indices.filter { isUsed[$0] }.map { Int32($0) } : nil
        }
        // More values than records: some are unused.
        return Set(raw).sorted()
    }

    /// Bytes of memory.
    var byteCount: Int { 4 * labels.capacity + 4 * (originals?.capacity ?? 0) }

    func original(_ label: Int) -> Int32 { originals?[label] ?? Int32(label) }

    /// A sentence for `FaceSource.notes` when classes were renumbered.
    var note: String? {
        guard let originals, let last = originals.last else { return nil }
        return "labels run to \(last) but only \(originals.count) values are used: renumbered to 0..<\(originals.count)"
    }
}
