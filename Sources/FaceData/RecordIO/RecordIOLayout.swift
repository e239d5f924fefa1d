/// Which records are images, and their labels as they stand in the file.
struct RecordIOLayout {
    let firstPosition: Int
    let labels: [Int32]
    let declaredClasses: Int?
    /// Damage that was met and passed over.
    private(set) var notes: [String] = []

    init(reader: RecordIOReader, index: RecordIOIndex) throws(FaceDataError) {
        let scan = HeaderScan(reader: reader, index: index)
        guard let zero = index.position(of: 0), case let metadata = try scan.header(zero), metadata.flag >= 2,
            !metadata.hasImage
        else {
            firstPosition = 0
            labels = try scan.labels(0..<index.count)
            declaredClasses = nil
            notes = scan.damage.notes
            return
        }
        let (images, identities) = try Self.ranges(metadata, scan: scan, at: zero)
        firstPosition = zero + 1
        if identities.isEmpty {
            labels = try scan.labels(images)
            declaredClasses = nil
        } else {
            labels = try scan.labels(images, identities: identities)
            declaredClasses = identities.count
        }
        notes = scan.damage.notes
    }

    /// Positions of images and of identity records. Identities are absent from the index of some files.
    private static func ranges(
        _ metadata: ImageRecordHeader, scan: HeaderScan, at zero: Int
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
