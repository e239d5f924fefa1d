internal import Tensors

/// Makes single rows of a batch: a pure function of the source, the options, the epoch and the record, so that neither
/// the number of threads nor their timing shows in the result.
final class RowLoader: Sendable {
    let source: any FaceSource
    let sampler: EpochSampler
    let options: BatchLoader.Options
    private let table: Preprocessing.Table
    private let identities: IdentityTable?
    private let readAhead: ReadAhead?
    private let damage = DamageMemory()
    /// How many records in a row may be damaged before reading stops.
    private static let longestSearch = 1000

    /// - Parameter readsAhead: whether the source is told what comes next, where the order allows it.
    init(source: any FaceSource, sampler: EpochSampler, options: BatchLoader.Options, readsAhead: Bool = false) {
        self.source = source
        self.sampler = sampler
        self.options = options
        table = options.preprocessing.table()
        let needsPartners = options.views.contains { $0.subject == .partner }
        identities = needsPartners ? IdentityTable(source) : nil
        if readsAhead, case .chunks = sampler.shuffle {
            readAhead = ReadAhead(source, sampler)
        } else {
            readAhead = nil
        }
    }

    /// What a thread keeps from row to row.
    final class Scratch {
        fileprivate let decoder: ImageDecoder
        /// The image as it was decoded.
        fileprivate var decoded = RGBImage(width: 112, height: 112)
        fileprivate var times = LoaderTimes()

        /// The times since the last call.
        func takeTimes() -> LoaderTimes {
            defer { times = LoaderTimes() }
            return times
        }

        init(_ preprocessing: Preprocessing) {
            decoder = ImageDecoder(covering: (preprocessing.faceWidth, preprocessing.faceHeight))
        }
    }

    typealias Damage = (record: Int, error: FaceDataError)

    struct Row {
        var label = 0
        /// One per view each.
        var records: [Int] = []
        var mirrored: [Bool] = []
        /// Records that were passed over, in order.
        var damaged: [Damage] = []
    }

    /// Loads all views of the `ordinal`-th record of an epoch.
    /// - Parameter planes: where each view's image goes.
    /// - Throws: when the disk fails, or too many records in a row are damaged.
    func load(
        epoch: Int, ordinal: Int, _ scratch: Scratch, into planes: (_ view: Int) -> UnsafeMutableBufferPointer<Float>
    ) throws(FaceDataError) -> Row {
        var row = Row()
        let order = sampler.order(of: epoch)
        readAhead?.entering(epoch: epoch, window: order.window(of: ordinal), of: order.windows)
        let wanted = order.draw(ordinal)
        // How often an image came before, and no more, tells its draws apart.
        let occurrence = wanted.occurrence
        let (record, image) = try firstIntact(wanted.record, &row, scratch)
        row.label = source.label(of: record)
        var partner: (record: Int, image: RGBImage)?
        for (view, recipe) in options.views.enumerated() {
            var subject = (record: record, image: image)
            if recipe.subject == .partner {
                if partner == nil { partner = try self.partner(of: record, epoch: occurrence, &row, scratch) }
                subject = partner ?? subject
            }
            let start = monotonicSeconds()
            if let transform = recipe.transform {
                let context = ViewContext(seed: options.seed, record: subject.record, epoch: occurrence, view: view)
                subject.image = transform(subject.image, context)
            }
            let middle = monotonicSeconds()
            var coin = RandomStream(
                seed: options.seed, purpose: .flip, index: UInt64(subject.record),
                step: UInt64(occurrence) | (recipe.flipsAlone ? UInt64(view) << 32 : 0))
            let flipped = coin.uniform() < options.flipProbability
            options.preprocessing.write(subject.image, flipped: flipped, table: table, to: planes(view))
            scratch.times.transforming += middle - start
            scratch.times.converting += monotonicSeconds() - middle
            row.records.append(subject.record)
            row.mirrored.append(flipped)
        }
        return row
    }

    /// The record, or the next in the source's order that can be decoded.
    private func firstIntact(
        _ wanted: Int, _ row: inout Row, _ scratch: Scratch
    ) throws(FaceDataError) -> (record: Int, image: RGBImage) {
        if let image = try decode(wanted, &row, scratch) { return (wanted, image) }
        // Batches made of identities keep theirs.
        if let siblings = sampler.siblings(of: source.label(of: wanted)),
            let own = siblings.firstIndex(of: Int32(wanted))
        {
            for record in siblings[(own + 1)...] + siblings[..<own] {
                if let image = try decode(Int(record), &row, scratch) { return (Int(record), image) }
            }
        }
        let tries = min(source.count, Self.longestSearch)
        for offset in 1..<max(1, tries) {
            let record = (wanted + offset) % source.count
            if let image = try decode(record, &row, scratch) { return (record, image) }
        }
        throw FaceDataError(
            .malformed, file: source.location,
            "\(tries) images in a row from \(source.key(of: wanted)) on cannot be decoded",
            advice: row.damaged.last.map { "the last: \($0.error)" })
    }

    /// Another intact record of the same identity, at random; nil when there is none.
    private func partner(
        of record: Int, epoch: Int, _ row: inout Row, _ scratch: Scratch
    ) throws(FaceDataError) -> (record: Int, image: RGBImage)? {
        guard let others = identities?.records(of: source.label(of: record)), others.count > 1 else { return nil }
        var draw = RandomStream(seed: options.seed, purpose: .partnerImage, index: UInt64(record), step: UInt64(epoch))
        let start = draw.below(others.count - 1)
        let own = others.firstIndex(of: Int32(record))! - others.startIndex
        for offset in 0..<others.count - 1 {
            // Places 0..<count-1 among the others, the own one left out.
            let place = (start + offset) % (others.count - 1)
            let candidate = Int(others[others.startIndex + (place < own ? place : place + 1)])
            if let image = try decode(candidate, &row, scratch) { return (candidate, image) }
        }
        return nil
    }

    /// nil when the record is damaged. A disk that fails is no damage of a record, and is thrown.
    private func decode(
        _ record: Int, _ row: inout Row, _ scratch: Scratch
    ) throws(FaceDataError) -> RGBImage? {
        if let error = damage.error(of: record) {
            row.damaged.append((record, error))
            return nil
        }
        let start = monotonicSeconds()
        let read = scratch.decoder.readSeconds
        defer {
            let reading = scratch.decoder.readSeconds - read
            scratch.times.reading += reading
            scratch.times.decoding += monotonicSeconds() - start - reading
        }
        do throws(FaceDataError) {
            try source.decode(record, with: scratch.decoder, into: &scratch.decoded)
            return options.preprocessing.fitted(scratch.decoded)
        } catch {
            if error.kind == .cannotRead { throw error }
            damage.remember(record, error)
            row.damaged.append((record, error))
            return nil
        }
    }
}

/// The records found damaged, so that each is decoded in vain only once.
private final class DamageMemory: @unchecked Sendable {
    private let monitor = Monitor()
    private var errors: [Int: FaceDataError] = [:]

    func error(of record: Int) -> FaceDataError? { monitor.withLock { errors[record] } }
    func remember(_ record: Int, _ error: FaceDataError) { monitor.withLock { errors[record] = error } }
}
