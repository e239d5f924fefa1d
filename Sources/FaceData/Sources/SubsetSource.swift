package import Tensors

/// Some records of another source, with the classes that remain renumbered.
package struct SubsetSource: FaceSource {
    private let base: any FaceSource
    private let indices: [Int32]
    private let table: LabelTable

    /// - Parameter indices: records of `base`, in the order that this source shall have; not empty.
    package init(_ base: any FaceSource, indices: [Int]) throws(FaceDataError) {
        precondition(base.count <= Int32.max, "a subset of \(base.count) records")
        try self.init(base, indices: indices.map { Int32($0) })
    }

    /// - Parameter indices: as above, 4 bytes each.
    init(_ base: any FaceSource, indices: [Int32]) throws(FaceDataError) {
        guard !indices.isEmpty else {
            throw FaceDataError(.malformed, file: base.location, "no record is left after the selection")
        }
        precondition(indices.allSatisfy { $0 >= 0 && $0 < base.count }, "subset index outside 0..<\(base.count)")
        self.base = base
        self.indices = indices
        table = LabelTable(indices.map { Int32(base.label(of: Int($0))) })
    }

    package var location: String { base.location }
    package var count: Int { indices.count }
    package var classCount: Int { table.classCount }
    package var notes: [String] { base.notes }
    package var namesAreNumbers: Bool { base.namesAreNumbers }
    package func label(of index: Int) -> Int { Int(table.labels[index]) }
    package func key(of index: Int) -> String { base.key(of: Int(indices[index])) }
    package func identityName(_ label: Int) -> String { base.identityName(Int(table.original(label))) }
    package func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] {
        try base.encodedBytes(of: Int(indices[index]))
    }
    package func image(at index: Int) throws(FaceDataError) -> RGBImage { try base.image(at: Int(indices[index])) }
    package func decode(
        _ index: Int, with decoder: ImageDecoder, into image: inout RGBImage
    ) throws(FaceDataError) { try base.decode(Int(indices[index]), with: decoder, into: &image) }

    /// Where the records rise without large gaps, as after an exclusion, theirs is a stretch of the base's.
    package func willNeed(_ records: Range<Int>) {
        guard let first = records.first.map({ Int(indices[$0]) }), let last = records.last.map({ Int(indices[$0]) }),
            first <= last, last - first < 2 * records.count
        else { return }
        base.willNeed(first..<last + 1)
    }
}
