internal import Tensors

/// One walk over a plan's items: reads and converts them on threads, writes them in order.
struct PackPass {
    private let plan: PackPlan
    private let sources: [any FaceSource]
    private let names: [String]
    private let prefix: String
    private let options: RecordPacker.Options
    private var least: Int { max(1, options.selection.minimumImages) }

    init(
        _ plan: PackPlan, sources: [any FaceSource], names: [String], prefix: String, options: RecordPacker.Options
    ) {
        self.plan = plan
        self.sources = sources
        self.names = names
        self.prefix = prefix
        self.options = options
    }

    /// An image ready to be written, or why there is none.
    private struct Made: Sendable {
        var image: [UInt8] = []
        var width = 0
        var height = 0
        var failure: FaceDataError?
    }

    private struct Files {
        let records: RecordIOWriter
        let list: FileWriter

        init(_ prefix: String, _ sizes: PackState.Sizes) throws(FaceDataError) {
            records = try RecordIOWriter(prefix, keeping: sizes.records, index: sizes.index)
            list = try FileWriter(prefix + ".lst", keeping: sizes.list)
        }

        var sizes: PackState.Sizes {
            PackState.Sizes(records: records.sizes.records, index: records.sizes.index, list: list.position)
        }

        func sync() throws(FaceDataError) {
            try records.sync()
            try list.sync()
        }
    }

    /// Writes what `state` does not say is written.
    ///
    /// - Returns: how many images each identity has received.
    func run(
        _ state: inout PackState, _ progress: (RecordPacker.Progress) -> Void
    ) throws(FaceDataError) -> [Int] {
        precondition(state.written <= state.items && state.items <= plan.items.count, "a state of another plan")
        if state.isComplete { return imageCounts(state) }
        progress(RecordPacker.Progress(done: state.items, total: plan.items.count, pass: state.pass))
        try checkSpace(after: state)
        let files = try Files(prefix, state.sizes)
        do throws(FaceDataError) {
            try write(&state, files, progress)
            let counts = imageCounts(state)
            guard state.written > 0 else {
                throw FaceDataError(
                    .malformed, file: sources.map(\.location).joined(separator: ", "),
                    "holds no image that can be decoded")
            }
            if !counts.contains(where: { $0 < least }), options.layout == .insightface {
                try appendIdentities(counts, state, files)
            }
            try files.sync()
            state.sizes = files.sizes
            return counts
        } catch {
            throw goOnAdvice(error, state)
        }
    }

    /// Gives the files their names, which a process that goes on does again.
    func commit(_ counts: [Int], _ state: inout PackState) throws(FaceDataError) {
        let folder = Folder.parent(of: prefix)
        state.isComplete = true
        try state.save(prefix)
        try FileWriter.save(
            "\(plan.identities.count),\(state.height),\(state.width)\n".utf8, to: Folder.resolve("property", in: folder)
        )
        try FileWriter.save(
            ClassMap.text(ofRecords: Folder.name(of: prefix) + ".rec", rows: classRows(state)).utf8,
            to: options.classMap ?? Folder.resolve(ClassMap.fileName, in: folder))
        for suffix in [".lst", ".idx", ".rec"] { try FileWriter.commit(prefix + suffix) }
        Folder.remove(PackState.path(prefix))
    }

    // MARK: - Going on

    private func goOnAdvice(_ error: FaceDataError, _ state: PackState) -> FaceDataError {
        guard error.kind == .cannotWrite, error.advice == nil else { return error }
        return FaceDataError(
            error.kind, file: error.file, at: error.place, error.reason,
            advice: "make room and run the same command again: it goes on from the last saved state")
    }

    // MARK: - Writing

    private func write(
        _ state: inout PackState, _ files: Files, _ progress: (RecordPacker.Progress) -> Void
    ) throws(FaceDataError) {
        var lastSaved = monotonicSeconds()
        var current = state
        defer { state = current }
        // A state speaks only of what is on disk.
        func save() throws(FaceDataError) {
            try files.sync()
            current.sizes = files.sizes
            try current.save(prefix)
            lastSaved = monotonicSeconds()
        }
        do throws(FaceDataError) {
            try OrderedWork.run(current.items..<plan.items.count, threads: options.threads, make: maker()) {
                position, made throws(FaceDataError) in
                if let failure = made.failure {
                    if !options.skipsDamaged || failure.kind == .cannotRead { throw failure }
                    current.damage.append(
                        PackState.Damage(
                            place: plan.items[position].place, pass: current.pass, reason: failure.description))
                } else {
                    try append(made, plan.items[position], &current, files)
                }
                current.items = position + 1
                progress(RecordPacker.Progress(done: position + 1, total: plan.items.count, pass: current.pass))
                if monotonicSeconds() - lastSaved >= options.secondsBetweenStates { try save() }
            }
        } catch {
            // What is written is worth keeping; that it cannot be said must not hide why the packing ends.
            if error.kind != .cannotWrite { try? save() }
            throw error
        }
    }

    private func maker() -> @Sendable (Int) -> (product: Made, bytes: Int) {
        let (plan, sources, conversion) = (plan, sources, options.conversion)
        return { position in
            let place = plan.items[position].place
            let source = sources[Int(place.source)]
            var made = Made()
            do throws(FaceDataError) {
                let bytes = try source.encodedBytes(of: Int(place.record))
                do throws(ImageError) {
                    (made.image, made.width, made.height) = try conversion.apply(bytes)
                } catch {
                    throw FaceDataError(error, file: "\(source.location), \(source.key(of: Int(place.record)))")
                }
            } catch {
                made.failure = error
            }
            return (made, made.image.count)
        }
    }

    private func append(
        _ made: Made, _ item: PackPlan.Item, _ state: inout PackState, _ files: Files
    ) throws(FaceDataError) {
        if state.written == 0 { (state.width, state.height) = (made.width, made.height) }
        let label = Int(item.label)
        let listed = PackText.field(listedName(item.place))
        switch options.layout {
        case .im2rec:
            let key = state.written
            try files.records.append(
                key: UInt64(key), ImageRecord(label: Float(label), id: UInt64(key), image: made.image))
            try files.list.append("\(key)\t\(label)\t\(listed)\n")
        case .insightface:
            let key = state.written + 1
            try files.records.append(
                key: UInt64(key), ImageRecord(labels: [Float(label), 1], id: UInt64(key), image: made.image))
            try files.list.append("1\t\(listed)\t\(label)\n")
        }
        state.written += 1
    }

    /// A record's key; with several sources after its source's name.
    private func listedName(_ place: PackPlan.Place) -> String {
        let key = sources[Int(place.source)].key(of: Int(place.record))
        return sources.count == 1 ? key : names[Int(place.source)] + "/" + key
    }

    private func appendIdentities(_ counts: [Int], _ state: PackState, _ files: Files) throws(FaceDataError) {
        let first = state.written + 1
        try files.records.append(key: 0, ImageRecord(labels: [Float(first), Float(first + counts.count)], id: 0))
        var key = 1
        for (label, count) in counts.enumerated() {
            try files.records.append(
                key: UInt64(first + label),
                ImageRecord(labels: [Float(key), Float(key + count)], id: UInt64(first + label)))
            key += count
        }
    }

    // MARK: - What was written

    private func damagedNow(_ state: PackState) -> Set<PackPlan.Place> {
        Set(state.damage.filter { $0.pass == state.pass }.map(\.place))
    }

    private func imageCounts(_ state: PackState) -> [Int] {
        let damaged = damagedNow(state)
        var counts = [Int](repeating: 0, count: plan.identities.count)
        for item in plan.items.prefix(state.items) where damaged.isEmpty || !damaged.contains(item.place) {
            counts[Int(item.label)] += 1
        }
        return counts
    }

    private func classRows(_ state: PackState) -> [ClassMap.Row] {
        let damaged = damagedNow(state)
        var counts: [[Int]] = Array(repeating: Array(repeating: 0, count: sources.count), count: plan.identities.count)
        for item in plan.items where damaged.isEmpty || !damaged.contains(item.place) {
            counts[Int(item.label)][Int(item.place.source)] += 1
        }
        var rows: [ClassMap.Row] = []
        for (label, identity) in plan.identities.enumerated() {
            for source in sources.indices where counts[label][source] > 0 {
                rows.append(
                    ClassMap.Row(
                        label: label, name: identity.name, source: names[source], images: counts[label][source]))
            }
        }
        return rows
    }

    // MARK: - Room

    /// Estimates from some of the images what the rest will need.
    private func checkSpace(after state: PackState) throws(FaceDataError) {
        let folder = Folder.parent(of: prefix)
        let remaining = plan.items.count - state.items
        guard remaining > 0, var free = options.freeBytes(folder) else { return }
        // What an earlier process wrote beyond its last state is cut off.
        free += (FileWriter.unfinishedSize(of: prefix + ".rec") ?? 0) - state.sizes.records
        let looked = min(remaining, 64)
        let make = maker()
        let first = state.items
        var bytes = 0
        var whole = 0
        try OrderedWork.run(0..<looked, threads: options.threads) {
            make(first + $0 * remaining / looked)
        } take: { _, made throws(FaceDataError) in
            guard made.failure == nil else { return }
            bytes += made.image.count
            whole += 1
        }
        guard whole > 0 else { return }
        // Header, padding, and the lines of index and list.
        let needed = Double(remaining) * (Double(bytes) / Double(whole) + 100)
        guard needed <= Double(free) else {
            throw FaceDataError(
                .cannotWrite, file: prefix + ".rec",
                "about \(Self.size(needed)) are needed, and \(Self.size(Double(free))) are free in \(folder)",
                advice: "make room, or choose another place")
        }
    }

    private static func size(_ bytes: Double) -> String {
        for (unit, scale) in [("GB", 1e9), ("MB", 1e6)] where bytes >= scale {
            let tenths = (bytes / scale * 10).rounded()
            return "\(tenths / 10) \(unit)"
        }
        return "\(Int(bytes)) bytes"
    }
}
