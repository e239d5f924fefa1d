internal import Tensors

/// Packs sources into RecordIO with index, list, `property` file and a table of the identities' names.
///
/// Images are read, checked by decoding, and converted on several threads, and written in order. What is written does not
/// depend on the threads, nor on how often the packing was stopped: unfinished files bear temporary names, and
/// `PREFIX.pack-state` says how far they go.
package enum RecordPacker {
    package enum Layout: String, Sendable, CaseIterable {
        /// Metadata under key 0, images of an identity together, identity records: what face trainers expect.
        case insightface
        /// Images only, in the sources' order, keys from 0.
        case im2rec
    }

    package struct Options: Sendable {
        package var layout = Layout.insightface
        package var selection = PackPlan.Selection()
        package var conversion = RecordConversion()
        /// Leave out images that cannot be read; otherwise the first one ends the packing.
        package var skipsDamaged = false
        package var threads = 1
        /// What the sources are called; from their locations by default.
        package var names: [String]?
        /// Where the table of names goes; `classes.tsv` beside the records by default.
        package var classMap: String?
        /// Between two states that a later process could go on from.
        package var secondsBetweenStates = 5.0
        /// What can still be written in a folder.
        package var freeBytes: @Sendable (String) -> UInt64? = { DiskSpace.free($0) }

        package init() {}
    }

    package struct Summary: Sendable, Equatable {
        package var images = 0
        package var classes = 0
        /// Images that could not be read, with the reason.
        package var skipped: [String] = []
        /// Of the record file.
        package var bytes: UInt64 = 0
        /// Images that an earlier process had packed.
        package var resumedAt = 0
        /// Images that the exclusion list names, identities with too few images.
        package var excludedImages = 0
        package var droppedIdentities = 0
        package var notes: [String] = []
    }

    package struct Progress: Sendable, Equatable {
        package var done: Int
        package var total: Int
        package var pass: Int
    }

    /// Writes `prefix.rec`, `prefix.idx`, `prefix.lst` and, beside them, `property` and `classes.tsv`.
    ///
    /// - Parameter progress: called for every image and once at the start.
    /// - Throws: `FaceDataError`; files get their names only after everything is on disk. What was done is kept, and the
    ///   next call with the same sources, selection, layout and conversion goes on with it.
    package static func pack(
        _ sources: [any FaceSource], to prefix: String, options: Options = Options(),
        progress: (Progress) -> Void = { _ in }
    ) throws(FaceDataError) -> Summary {
        let names = options.names ?? PackPlan.names(sources.map(\.location))
        let inputs = PackInputs(sources, names: names, options)
        func planned(_ state: PackState) throws(FaceDataError) -> PackPlan {
            try PackPlan(
                sources, names: names, selection: options.selection, byIdentity: options.layout == .insightface,
                damaged: Set(state.damage.filter { $0.pass < state.pass }.map(\.place)))
        }
        var state = PackState(inputs: inputs.hash)
        if let found = PackState.load(prefix), found.inputs == inputs.hash,
            found.isUsable(prefix, items: try planned(found).items.count)
        {
            state = found
        }
        let resumedAt = state.written
        while true {
            let plan = try planned(state)
            let pass = PackPass(plan, sources: sources, names: names, prefix: prefix, options: options)
            let counts = try pass.run(&state, progress)
            if counts.contains(where: { $0 < options.selection.minimumImages }) {
                // Labels and ranges would have holes: again, without what is damaged.
                let damage = state.damage
                let next = state.pass + 1
                state = PackState(inputs: inputs.hash)
                state.pass = next
                state.damage = damage
                try state.save(prefix)
                continue
            }
            try pass.commit(counts, &state)
            var summary = Summary(images: state.written, classes: plan.identities.count, bytes: state.sizes.records)
            summary.skipped = state.damage.map(\.reason)
            summary.resumedAt = resumedAt
            summary.excludedImages = plan.excludedImages
            summary.droppedIdentities = plan.droppedIdentities
            summary.notes = plan.notes
            return summary
        }
    }

    /// One source with all its images, their bytes as they are.
    package static func pack(
        _ source: any FaceSource, to prefix: String, layout: Layout, skipDamaged: Bool = false,
        progress: (Int) -> Void = { _ in }
    ) throws(FaceDataError) -> Summary {
        var options = Options()
        options.layout = layout
        options.skipsDamaged = skipDamaged
        return try pack([source], to: prefix, options: options) { progress($0.done) }
    }
}

/// What decides the bytes that are written: an unfinished packing of other inputs is not gone on with.
private struct PackInputs {
    let hash: UInt64

    init(_ sources: [any FaceSource], names: [String], _ options: RecordPacker.Options) {
        var hash = ContentHash()
        hash.add(options.layout.rawValue)
        let conversion = options.conversion
        hash.add("\(conversion.size ?? 0) \(conversion.quality) \(conversion.reencodes)")
        let selection = options.selection
        hash.add("\(selection.labels) \(selection.minimumImages) \(selection.maximumImages ?? 0)")
        for name in selection.exclusions?.names.sorted() ?? [] { hash.add(name) }
        for (source, name) in zip(sources, names) {
            hash.add(name)
            hash.add(source.location)
            hash.add(Folder.stamp(source.location))
            hash.add(UInt64(source.count))
            for label in 0..<source.classCount { hash.add(source.identityName(label)) }
            for record in 0..<source.count {
                hash.add(source.key(of: record))
                hash.add(UInt64(source.label(of: record)))
            }
        }
        self.hash = hash.value
    }
}
