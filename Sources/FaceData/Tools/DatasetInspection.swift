internal import Tensors

/// What a data set holds: counted, measured, and searched for images that it holds twice.
package struct DatasetInspection: Sendable {
    package struct Options: Sendable {
        /// Records looked at, spread evenly; 0 for all. Duplicates are searched among them.
        package var sample = 0
        /// Compare decoded pixels too: finds copies that were stored anew without loss.
        package var comparesPixels = false
        package var threads = 1

        package init() {}
    }

    /// Images that are the same to the byte, or to the pixel.
    package struct Duplicates: Sendable, Equatable {
        /// Groups of records that hold the same image, by their first record.
        package let groups: [[Int]]
        /// Which groups lie in several identities.
        package let conflicting: [Int]

        /// Images that could go without anything being lost.
        package var surplus: Int { groups.reduce(0) { $0 + $1.count - 1 } }
    }

    package let location: String
    package let images: Int
    package let identities: Int
    /// Images of each identity.
    package let counts: [Int]
    /// Records looked at.
    package private(set) var examined = 0
    package private(set) var decoded = 0
    /// Encoded bytes of the records looked at: all together, the smallest, the largest.
    package private(set) var bytes = 0
    package private(set) var smallest = Int.max
    package private(set) var largest = 0
    /// By "width x height", written 112x112.
    package private(set) var sizes: [String: Int] = [:]
    package private(set) var formats: [String: Int] = [:]
    /// Images whose three channels are the same.
    package private(set) var grey = 0
    package private(set) var unreadable = 0
    /// The first of them, with the reason.
    package private(set) var unreadableExamples: [String] = []
    package private(set) var duplicates = Duplicates(groups: [], conflicting: [])
    /// nil unless pixels were compared.
    package private(set) var pixelDuplicates: Duplicates?
    package let notes: [String]

    /// More unreadable records than these are only counted.
    package static let mostExamples = 1000

    private struct Look: Sendable {
        var format = "unknown"
        var bytes = 0
        var hash: UInt64 = 0
        var pixelHash: UInt64 = 0
        var width = 0
        var height = 0
        var isGrey = false
        var failure: FaceDataError?
    }

    /// - Parameter progress: called with the number of records looked at.
    /// - Throws: `FaceDataError` when the disk fails; images that cannot be read are counted.
    package init(
        _ source: any FaceSource, options: Options = Options(), progress: (Int) -> Void = { _ in }
    ) throws(FaceDataError) {
        location = source.location
        images = source.count
        identities = source.classCount
        notes = source.notes
        var counts = [Int](repeating: 0, count: source.classCount)
        for index in 0..<source.count { counts[source.label(of: index)] += 1 }
        self.counts = counts
        let looked = options.sample == 0 ? source.count : min(options.sample, source.count)
        let total = source.count
        let comparesPixels = options.comparesPixels
        var hashes: [(hash: UInt64, record: Int)] = []
        var pixelHashes: [(hash: UInt64, record: Int)] = []
        try OrderedWork.run(0..<looked, threads: options.threads) { place in
            (Self.look(source, place * total / looked, comparesPixels), 0)
        } take: { place, look throws(FaceDataError) in
            if let failure = look.failure, failure.kind == .cannotRead { throw failure }
            let record = place * total / looked
            add(look)
            if look.bytes > 0 { hashes.append((look.hash, record)) }
            if comparesPixels, look.failure == nil { pixelHashes.append((look.pixelHash, record)) }
            progress(place + 1)
        }
        duplicates = Self.duplicates(hashes, source)
        if comparesPixels { pixelDuplicates = Self.duplicates(pixelHashes, source) }
    }

    private mutating func add(_ look: Look) {
        examined += 1
        if let failure = look.failure {
            unreadable += 1
            if unreadableExamples.count < Self.mostExamples { unreadableExamples.append(failure.description) }
        } else {
            decoded += 1
            sizes["\(look.width)x\(look.height)", default: 0] += 1
            if look.isGrey { grey += 1 }
        }
        guard look.bytes > 0 else { return }
        formats[look.format, default: 0] += 1
        bytes += look.bytes
        smallest = min(smallest, look.bytes)
        largest = max(largest, look.bytes)
    }

    private static func look(_ source: any FaceSource, _ record: Int, _ comparesPixels: Bool) -> Look {
        var look = Look()
        do throws(FaceDataError) {
            let encoded = try source.encodedBytes(of: record)
            look.bytes = encoded.count
            look.hash = ContentHash.of(encoded)
            look.format = ImageCodec.format(of: encoded).map { "\($0)" } ?? "unknown"
            do throws(ImageError) {
                let image = try ImageCodec.decode(encoded)
                (look.width, look.height) = (image.width, image.height)
                look.isGrey = image.isGrey
                if comparesPixels {
                    var hash = ContentHash()
                    hash.add(UInt64(image.width))
                    hash.add(image.pixels)
                    look.pixelHash = hash.value
                }
            } catch {
                throw FaceDataError(error, file: "\(source.location), \(source.key(of: record))")
            }
        } catch {
            look.failure = error
        }
        return look
    }

    private static func duplicates(_ hashes: [(hash: UInt64, record: Int)], _ source: any FaceSource) -> Duplicates {
        let sorted = hashes.sorted { ($0.hash, $0.record) < ($1.hash, $1.record) }
        var groups: [[Int]] = []
        var start = 0
        while start < sorted.count {
            var end = start + 1
            while end < sorted.count, sorted[end].hash == sorted[start].hash { end += 1 }
            if end - start > 1 { groups.append(sorted[start..<end].map(\.record)) }
            start = end
        }
        groups.sort { $0[0] < $1[0] }
        let conflicting = groups.indices.filter { group in
            Set(groups[group].map { source.label(of: $0) }).count > 1
        }
        return Duplicates(groups: groups, conflicting: conflicting)
    }

    // MARK: - Images per identity

    package var singleImageIdentities: Int { counts.count { $0 < 2 } }

    /// Smallest, median (the mean of the two in the middle where there are two), mean and largest.
    package var imagesPerIdentity: (minimum: Int, median: Double, mean: Double, maximum: Int) {
        let sorted = counts.sorted()
        guard let first = sorted.first, let last = sorted.last else { return (0, 0, 0, 0) }
        let middle = sorted.count / 2
        let median =
            sorted.count % 2 == 1 ? Double(sorted[middle]) : (Double(sorted[middle - 1]) + Double(sorted[middle])) / 2
        return (first, median, Double(images) / Double(sorted.count), last)
    }

    /// How many identities have how many images, in bins that are at most 40: one for each number where they are few,
    /// else of equal width, or of equal ratio where the largest identity has a hundred times the images of the smallest.
    ///
    /// - Returns: `edges` has one element more than `identities`; bin i is edges[i]..<edges[i + 1].
    package var histogram: (edges: [Int], identities: [Int], isLogarithmic: Bool) {
        guard let low = counts.min(), let high = counts.max() else { return ([0, 1], [0], false) }
        let most = 40
        var edges = [low]
        let isLogarithmic = high >= 100 * max(1, low)
        while let last = edges.last, last <= high {
            edges.append(last + max(1, isLogarithmic ? last / 4 : (high - low) / most + (high - low < most ? 0 : 1)))
        }
        var bins = [Int](repeating: 0, count: edges.count - 1)
        for count in counts {
            var bin = 0
            var end = bins.count
            while end - bin > 1 {
                let middle = (bin + end) / 2
                if edges[middle] <= count { bin = middle } else { end = middle }
            }
            bins[bin] += 1
        }
        return (edges, bins, isLogarithmic)
    }
}

extension RGBImage {
    /// Whether the three channels are the same everywhere.
    var isGrey: Bool {
        pixels.withUnsafeBufferPointer { pixels in
            for i in stride(from: 0, to: pixels.count, by: 3)
            where pixels[i] != pixels[i + 1] || pixels[i] != pixels[i + 2] {
                return false
            }
            return true
        }
    }
}
