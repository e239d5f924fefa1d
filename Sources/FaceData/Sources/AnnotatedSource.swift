package import Tensors

/// A source with more to say about it.
package struct AnnotatedSource: FaceSource {
    private let base: any FaceSource
    package let notes: [String]

    package init(_ base: any FaceSource, notes: [String]) {
        self.base = base
        self.notes = base.notes + notes
    }

    package var location: String { base.location }
    package var count: Int { base.count }
    package var classCount: Int { base.classCount }
    package var namesAreNumbers: Bool { base.namesAreNumbers }
    package var parts: [SourcePart] { base.parts }
    package func label(of index: Int) -> Int { base.label(of: index) }
    package func key(of index: Int) -> String { base.key(of: index) }
    package func identityName(_ label: Int) -> String { base.identityName(label) }
    package func willNeed(_ records: Range<Int>) { base.willNeed(records) }
    package func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] { try base.encodedBytes(of: index) }
    package func image(at index: Int) throws(FaceDataError) -> RGBImage { try base.image(at: index) }
    package func decode(
        _ index: Int, with decoder: ImageDecoder, into image: inout RGBImage
    ) throws(FaceDataError) { try base.decode(index, with: decoder, into: &image) }
}
