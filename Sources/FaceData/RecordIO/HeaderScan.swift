internal import Tensors

/// Reads headers by position in the index, many at a time, with errors that name the key.
struct HeaderScan: Sendable {
    let reader: RecordIOReader
    let index: RecordIOIndex
    let damage = DamagedHeaders()

    /// Of an image that no identity claims, and of one whose identity has no readable label.
    private static let unknown: Int32 = -1
    private static let unreadable: Int32 = -2

    func header(_ position: Int) throws(FaceDataError) -> ImageRecordHeader {
        try reader.header(at: index.offset(at: position)).header
    }

    func error(_ position: Int, _ reason: String, _ advice: String? = nil) -> FaceDataError {
        FaceDataError(
            .malformed, file: reader.path,
            at: .record(key: index.key(at: position), byte: index.offset(at: position)), reason, advice: advice)
    }

    /// The class label of one image record.
    private func label(_ position: Int, below bound: Int?) throws(FaceDataError) -> Int32 {
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

    /// The labels of images by their own headers; a damaged one takes the label of the image before it.
    func labels(_ images: Range<Int>) throws(FaceDataError) -> [Int32] {
        let labels = ownLabels(count: images.count, below: nil) { images.lowerBound + $0 }
        try damage.check(images: images.count, identities: 0)
        return Self.filled(labels)
    }

    /// - Parameter position: of the i-th one.
    private func ownLabels(
        count: Int, below bound: Int?, _ position: @escaping @Sendable (Int) -> Int
    ) -> [Int32] {
        [Int32](unsafeUninitializedCapacity: count) { buffer, filled in
            buffer.initialize(repeating: Self.unknown)
            nonisolated(unsafe) let labels = buffer
            Parallel.forEachBlock(count) { block in
                for place in block {
                    do throws(FaceDataError) {
                        labels[place] = try label(position(place), below: bound)
                    } catch {
                        damage.note(error, at: position(place), isIdentity: false)
                    }
                }
            }
            filled = count
        }
    }

    private static func filled(_ given: [Int32]) -> [Int32] {
        guard given.contains(where: { $0 < 0 }), var last = given.first(where: { $0 >= 0 }) else { return given }
        var labels = given
        for place in labels.indices {
            if labels[place] < 0 { labels[place] = last } else { last = labels[place] }
        }
        return labels
    }

    // MARK: - Identity records

    /// What an identity record says, and the label of its first intact image.
    private struct Claim {
        var range = 0..<0
        var label = HeaderScan.unreadable
    }

    /// Labels from the identity records' ranges, each with the label of its first image.
    func labels(_ images: Range<Int>, identities: Range<Int>) throws(FaceDataError) -> [Int32] {
        let claims = claims(images, identities)
        try damage.check(images: images.count, identities: identities.count)
        var labels = [Int32](repeating: Self.unknown, count: images.count)
        for (place, claim) in claims.enumerated() {
            for image in claim.range {
                guard labels[image] == Self.unknown else {
                    throw error(
                        identities.lowerBound + place, "claims image key \(image + 1), which another identity has")
                }
                labels[image] = claim.label
            }
        }
        let missing = labels.indices.filter { labels[$0] == Self.unknown }
        if let first = missing.first(where: { $0 < Self.exact(images) }), !damage.hasIdentities {
            throw error(images.lowerBound + first, "belongs to no identity record")
        }
        let own = ownLabels(count: missing.count, below: identities.count) { images.lowerBound + missing[$0] }
        for (place, image) in missing.enumerated() { labels[image] = own[place] }
        try damage.check(images: images.count, identities: identities.count)
        return Self.filled(labels)
    }

    /// Image keys up to here are exact as floats.
    private static func exact(_ images: Range<Int>) -> Int { min(images.count, 1 << 24 - 1) }

    private func claims(_ images: Range<Int>, _ identities: Range<Int>) -> [Claim] {
        [Claim](unsafeUninitializedCapacity: identities.count) { buffer, filled in
            buffer.initialize(repeating: Claim())
            nonisolated(unsafe) let claims = buffer
            Parallel.forEachBlock(identities.count, of: 64) { block in
                for place in block {
                    let position = identities.lowerBound + place
                    do throws(FaceDataError) {
                        claims[place] = try claim(position, images, identities.count)
                    } catch {
                        damage.note(error, at: position, isIdentity: true)
                    }
                }
            }
            filled = identities.count
        }
    }

    private func claim(_ position: Int, _ images: Range<Int>, _ classes: Int) throws(FaceDataError) -> Claim {
        let header = try header(position)
        let (low, high) = header.labels
        guard header.flag >= 2, !header.hasImage, low >= 1, high >= low, low == low.rounded(),
            high == high.rounded(), high <= Float(images.count + 1).nextUp
        else {
            throw error(
                position, "is not an identity record with a range of image keys within 1...\(images.count)")
        }
        let exact = Self.exact(images)
        var claim = Claim(range: min(exact, Int(low) - 1)..<min(exact, Int(high) - 1))
        for image in claim.range {
            do throws(FaceDataError) {
                claim.label = try label(images.lowerBound + image, below: classes)
                return claim
            } catch {
                damage.note(error, at: images.lowerBound + image, isIdentity: false)
            }
        }
        return claim
    }
}

/// The records whose headers could not be read while a file was opened.
final class DamagedHeaders: @unchecked Sendable {
    private struct Tally {
        var count = 0
        /// By position in the index, which is by key.
        var first: (position: Int, error: FaceDataError)?

        mutating func add(_ error: FaceDataError, _ position: Int) {
            count += 1
            if position < first?.position ?? .max { first = (position, error) }
        }
    }

    private let monitor = Monitor()
    private var images = Tally()
    private var identities = Tally()
    /// The disk itself.
    private var failure: FaceDataError?

    /// More than one in so many is no accident: the file is something else.
    private static let share = 10

    func note(_ error: FaceDataError, at position: Int, isIdentity: Bool) {
        monitor.withLock {
            if error.kind == .cannotRead {
                failure = failure ?? error
            } else if isIdentity {
                identities.add(error, position)
            } else {
                images.add(error, position)
            }
        }
    }

    var hasIdentities: Bool { monitor.withLock { identities.count > 0 } }

    /// - Throws: the first error, when there are too many for accidents, or when the disk failed.
    func check(images imageCount: Int, identities identityCount: Int) throws(FaceDataError) {
        let worst: FaceDataError? = monitor.withLock {
            if let failure { return failure }
            if images.count > imageCount / Self.share { return images.first?.error }
            return identities.count > identityCount / Self.share ? identities.first?.error : nil
        }
        if let worst { throw worst }
    }

    var notes: [String] {
        monitor.withLock {
            [(images, "image"), (identities, "identity")].compactMap { tally, what in
                tally.first.map { "\(tally.count) \(what) record(s) with a damaged header, the first: \($0.error)" }
            }
        }
    }
}
