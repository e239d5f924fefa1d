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
}

extension FaceSource {
    package var notes: [String] { [] }
    package var namesAreNumbers: Bool { false }

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
        let distinct = Set(raw)
        let largest = Int(distinct.max() ?? -1)
        classCount = distinct.count
        if distinct.count == largest + 1 {
            labels = raw
            originals = nil
        } else {
            let sorted = distinct.sorted()
            let numbers = Dictionary(uniqueKeysWithValues: zip(sorted, Int32(0)...))
            labels = raw.map { numbers[$0]! }
            originals = sorted
        }
    }

    func original(_ label: Int) -> Int32 { originals?[label] ?? Int32(label) }

    /// A sentence for `FaceSource.notes` when classes were renumbered.
    var note: String? {
        guard let originals, let last = originals.last else { return nil }
        return "labels run to \(last) but only \(originals.count) values are used: renumbered to 0..<\(originals.count)"
    }
}

/// Some records of another source, with the classes that remain renumbered.
package struct SubsetSource: FaceSource {
    private let base: any FaceSource
    private let indices: [Int]
    private let table: LabelTable

    /// - Parameter indices: records of `base`, in the order that this source shall have; not empty.
    package init(_ base: any FaceSource, indices: [Int]) throws(FaceDataError) {
        guard !indices.isEmpty else {
            throw FaceDataError(.malformed, file: base.location, "no record is left after the selection")
        }
        precondition(indices.allSatisfy { $0 >= 0 && $0 < base.count }, "subset index outside 0..<\(base.count)")
        self.base = base
        self.indices = indices
        table = LabelTable(indices.map { Int32(base.label(of: $0)) })
    }

    package var location: String { base.location }
    package var count: Int { indices.count }
    package var classCount: Int { table.classCount }
    package var notes: [String] { base.notes }
    package var namesAreNumbers: Bool { base.namesAreNumbers }
    package func label(of index: Int) -> Int { Int(table.labels[index]) }
    package func key(of index: Int) -> String { base.key(of: indices[index]) }
    package func identityName(_ label: Int) -> String { base.identityName(Int(table.original(label))) }
    package func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] {
        try base.encodedBytes(of: indices[index])
    }
    package func image(at index: Int) throws(FaceDataError) -> RGBImage { try base.image(at: indices[index]) }
}
