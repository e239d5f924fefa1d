package import FaceData
package import Tensors

/// A source of which some records' bytes are cut in half: what an injected `corrupt-record` meets.
package struct DamagedSource: FaceSource {
    private let base: any FaceSource
    private let records: Set<Int>

    package init(_ base: any FaceSource, records: Set<Int>) {
        self.base = base
        self.records = records
    }

    package var location: String { base.location }
    package var count: Int { base.count }
    package var classCount: Int { base.classCount }
    package var notes: [String] { base.notes }
    package var namesAreNumbers: Bool { base.namesAreNumbers }
    package var parts: [SourcePart] { base.parts }
    package func label(of index: Int) -> Int { base.label(of: index) }
    package func key(of index: Int) -> String { base.key(of: index) }
    package func identityName(_ label: Int) -> String { base.identityName(label) }
    package func willNeed(_ records: Range<Int>) { base.willNeed(records) }

    package func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] {
        let bytes = try base.encodedBytes(of: index)
        return records.contains(index) ? Array(bytes.prefix(bytes.count / 2)) : bytes
    }

    package func image(at index: Int) throws(FaceDataError) -> RGBImage {
        guard records.contains(index) else { return try base.image(at: index) }
        return try image(at: index, limits: ImageLimits())
    }

    package func decode(
        _ index: Int, with decoder: ImageDecoder, into image: inout RGBImage
    ) throws(FaceDataError) {
        if records.contains(index) {
            image = try self.image(at: index)
        } else {
            try base.decode(index, with: decoder, into: &image)
        }
    }
}
