internal import Tensors

/// Makes single rows of a batch: a pure function of the source, the options, the epoch and the record, so that neither
/// the number of threads nor their timing shows in the result.
final class RowLoader: Sendable {
    let source: any FaceSource
    let sampler: EpochSampler
    let options: BatchLoader.Options
    private let table: [Float]
    private let identities: IdentityTable?
    private let damage = DamageMemory()
    /// How many records in a row may be damaged before reading stops.
    private static let longestSearch = 1000

    init(source: any FaceSource, sampler: EpochSampler, options: BatchLoader.Options) {
        self.source = source
        self.sampler = sampler
        self.options = options
        table = options.preprocessing.table()
        let needsPartners = options.views.contains { $0.subject == .partner }
        identities = needsPartners ? IdentityTable(source) : nil
    }

    typealias Damage = (record: Int, error: FaceDataError)

    struct Row {
        var label = 0
        /// One per view.
        var records: [Int] = []
        /// Records that were passed over, in order.
        var damaged: [Damage] = []
    }

    /// Loads all views of the `ordinal`-th record of an epoch.
    /// - Parameter planes: where each view's image goes.
    /// - Throws: when the disk fails, or too many records in a row are damaged.
    func load(
        epoch: Int, ordinal: Int, into planes: (_ view: Int) -> UnsafeMutableBufferPointer<Float>
    ) throws(FaceDataError) -> Row {
        var row = Row()
        let wanted = sampler.order(of: epoch)[ordinal]
        let (record, image) = try firstIntact(wanted, &row)
        row.label = source.label(of: record)
        var partner: (record: Int, image: RGBImage)?
        for (view, recipe) in options.views.enumerated() {
            var subject = (record: record, image: image)
            if recipe.subject == .partner {
                if partner == nil { partner = try self.partner(of: record, epoch: epoch, &row) }
                subject = partner ?? subject
            }
            if let transform = recipe.transform {
                let context = ViewContext(seed: options.seed, record: subject.record, epoch: epoch, view: view)
                subject.image = transform(subject.image, context)
            }
            var coin = RandomStream(
                seed: options.seed, purpose: .flip, index: UInt64(subject.record), step: UInt64(epoch))
            options.preprocessing.write(
                subject.image, flipped: coin.uniform() < options.flipProbability, table: table, to: planes(view))
            row.records.append(subject.record)
        }
        return row
    }

    /// The record, or the next in the source's order that can be decoded.
    private func firstIntact(_ wanted: Int, _ row: inout Row) throws(FaceDataError) -> (record: Int, image: RGBImage) {
        let tries = min(source.count, Self.longestSearch)
        for offset in 0..<tries {
            let record = (wanted + offset) % source.count
            if let image = try decode(record, &row) { return (record, image) }
        }
        throw FaceDataError(
            .malformed, file: source.location,
            "\(tries) images in a row from \(source.key(of: wanted)) on cannot be decoded",
            advice: row.damaged.last.map { "the last: \($0.error)" })
    }

    /// Another intact record of the same identity, at random; nil when there is none.
    private func partner(
        of record: Int, epoch: Int, _ row: inout Row
    ) throws(FaceDataError) -> (record: Int, image: RGBImage)? {
        guard let others = identities?.records(of: source.label(of: record)), others.count > 1 else { return nil }
        var draw = RandomStream(seed: options.seed, purpose: .partnerImage, index: UInt64(record), step: UInt64(epoch))
        let start = draw.below(others.count - 1)
        let own = others.firstIndex(of: Int32(record))! - others.startIndex
        for offset in 0..<others.count - 1 {
            // Places 0..<count-1 among the others, the own one left out.
            let place = (start + offset) % (others.count - 1)
            let candidate = Int(others[others.startIndex + (place < own ? place : place + 1)])
            if let image = try decode(candidate, &row) { return (candidate, image) }
        }
        return nil
    }

    /// nil when the record is damaged. A disk that fails is no damage of a record, and is thrown.
    private func decode(_ record: Int, _ row: inout Row) throws(FaceDataError) -> RGBImage? {
        if let error = damage.error(of: record) {
            row.damaged.append((record, error))
            return nil
        }
        do throws(FaceDataError) {
            return options.preprocessing.fitted(try source.image(at: record))
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

    func error(of record: Int) -> FaceDataError? { monitor.locked { errors[record] } }
    func remember(_ record: Int, _ error: FaceDataError) { monitor.locked { errors[record] = error } }
}

/// The records of each class.
package struct IdentityTable: Sendable {
    private let bounds: [Int]
    private let members: [Int32]

    package init(_ source: any FaceSource) {
        var bounds = [Int](repeating: 0, count: source.classCount + 1)
        for index in 0..<source.count { bounds[source.label(of: index) + 1] += 1 }
        for label in 0..<source.classCount { bounds[label + 1] += bounds[label] }
        var next = bounds
        var members = [Int32](repeating: 0, count: source.count)
        for index in 0..<source.count {
            let label = source.label(of: index)
            members[next[label]] = Int32(index)
            next[label] += 1
        }
        self.bounds = bounds
        self.members = members
    }

    /// Ascending.
    package func records(of label: Int) -> ArraySlice<Int32> { members[bounds[label]..<bounds[label + 1]] }
}
