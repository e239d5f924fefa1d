package import Tensors

/// The images of a verification set as a source of identities, so that training data can be compared with it.
///
/// The set says only which pairs show one person: images that are joined by such pairs, or are the same to the byte, are
/// one identity. One person may be several of them.
package struct PairSetSource: FaceSource {
    private let images: PairSet
    private let labels: [Int32]
    package let classCount: Int

    /// - Throws: `FaceDataError` when an image cannot be read.
    package init(_ set: PairSet) throws(FaceDataError) {
        var roots = Array(0..<set.imageCount)
        func root(_ image: Int) -> Int {
            var image = image
            while roots[image] != image {
                roots[image] = roots[roots[image]]
                image = roots[image]
            }
            return image
        }
        func join(_ a: Int, _ b: Int) {
            let (a, b) = (root(a), root(b))
            roots[max(a, b)] = min(a, b)
        }
        var known: [UInt64: Int] = [:]
        for image in 0..<set.imageCount {
            let hash = ContentHash.of(try set.encodedBytes(of: image))
            if let first = known[hash] { join(first, image) } else { known[hash] = image }
        }
        for pair in set.pairs where pair.isSame { join(pair.first, pair.second) }
        var numbers: [Int: Int32] = [:]
        var labels: [Int32] = []
        for image in 0..<set.imageCount {
            let top = root(image)
            let next = Int32(numbers.count)
            let number = numbers[top, default: next]
            numbers[top] = number
            labels.append(number)
        }
        images = set
        self.labels = labels
        classCount = numbers.count
    }

    package var location: String { images.location }
    package var count: Int { labels.count }
    package var namesAreNumbers: Bool { true }
    package func label(of index: Int) -> Int { Int(labels[index]) }
    package func key(of index: Int) -> String { images.key(of: index) }
    package func identityName(_ label: Int) -> String { String(label) }
    package func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] { try images.encodedBytes(of: index) }
    package func image(at index: Int) throws(FaceDataError) -> RGBImage { try images.image(at: index) }
}
