/// Which records of one or several sources are packed, in which order, under which labels: a pure function of the sources
/// and the selection.
package struct PackPlan: Sendable {
    /// What the identities of several sources have to do with one another.
    package enum Labels: String, Sendable, CaseIterable {
        /// Each source has identities of its own, whatever their names.
        case separate
        /// Identities of the same name are one.
        case shared
    }

    package struct Selection: Sendable {
        package var labels = Labels.separate
        package var exclusions: ExclusionList?
        /// Identities with fewer images are left out.
        package var minimumImages = 1
        /// Of an identity with more images, that many are taken, spread evenly over them in the source's order.
        package var maximumImages: Int?

        package init() {}
    }

    /// A record: which source's, and which of its records.
    struct Place: Hashable, Comparable, Sendable {
        var source: Int32
        var record: Int32

        static func < (a: Self, b: Self) -> Bool { (a.source, a.record) < (b.source, b.record) }
    }

    struct Item: Sendable {
        var place: Place
        var label: Int32
    }

    /// A class as it is numbered in the packed file.
    struct Identity: Sendable {
        var name: String
    }

    /// In the order in which they are written.
    let items: [Item]
    let identities: [Identity]
    /// Images that the exclusion list names.
    let excludedImages: Int
    /// Identities with too few images.
    let droppedIdentities: Int
    let notes: [String]

    /// - Parameters:
    ///   - names: what each source is called.
    ///   - damaged: records that are known to be unreadable.
    /// - Throws: when nothing is left, or there are more identities than labels.
    init(
        _ sources: [any FaceSource], names: [String], selection: Selection, byIdentity: Bool, damaged: Set<Place> = []
    ) throws(FaceDataError) {
        precondition(!sources.isEmpty && sources.count == names.count, "\(sources.count) sources, \(names.count) names")
        precondition(selection.minimumImages > 0 && (selection.maximumImages ?? 1) > 0, "a selection of no images")
        let joined = Joined(sources, labels: selection.labels)
        var chosen = Chosen(classes: joined.names.count, exclusions: selection.exclusions)
        for source in sources.indices {
            chosen.add(
                sources[source], number: source, name: names[source], classes: joined.classes[source],
                damaged: damaged)
        }
        let least = max(1, selection.minimumImages)
        var newLabel = [Int32](repeating: -1, count: joined.names.count)
        var identities: [Identity] = []
        var starts = [0]
        for old in joined.names.indices where chosen.counts[old] >= least {
            newLabel[old] = Int32(identities.count)
            identities.append(Identity(name: joined.names[old]))
            starts.append(starts[starts.count - 1] + chosen.counts[old])
        }
        guard !identities.isEmpty else {
            throw FaceDataError(
                .malformed, file: sources.map(\.location).joined(separator: ", "), "no image is left to pack",
                advice: "check the exclusion list and the least number of images")
        }
        guard identities.count < 1 << 24 else {
            throw FaceDataError(.tooLarge, file: sources[0].location, "RecordIO's labels end at 2^24 - 1")
        }
        let grouped = chosen.grouped(starts: starts, newLabel: newLabel)
        var items: [Item] = []
        items.reserveCapacity(grouped.count)
        for label in identities.indices {
            let count = starts[label + 1] - starts[label]
            let taken = min(count, selection.maximumImages ?? count)
            for position in 0..<taken {
                items.append(Item(place: grouped[starts[label] + position * count / taken], label: Int32(label)))
            }
        }
        if !byIdentity { items.sort { $0.place < $1.place } }
        self.items = items
        self.identities = identities
        excludedImages = chosen.excluded
        droppedIdentities = chosen.counts.count { $0 > 0 && $0 < least }
        notes = sources.flatMap(\.notes) + Self.notes(selection, sources, unused: chosen.unmatched.sorted())
    }

    private static func notes(_ selection: Selection, _ sources: [any FaceSource], unused: [String]) -> [String] {
        var notes: [String] = []
        if let list = selection.exclusions, !unused.isEmpty {
            let some = unused.prefix(3).joined(separator: ", ")
            notes.append(
                "\(list.location): "
                    + (unused.count == 1 ? "1 line names" : "\(unused.count) lines name")
                    + " nothing that is here (\(some)\(unused.count > 3 ? ", …" : ""))")
        }
        if selection.labels == .shared, sources.count > 1, sources.contains(where: \.namesAreNumbers) {
            notes.append(
                "identities are joined by name, and some sources have only numbers: right only where all number alike")
        }
        return notes
    }

    /// What sources are called in lists and exclusions: what they are called by themselves, or the whole path where that is
    /// not enough to tell them apart.
    package static func names(_ locations: [String]) -> [String] {
        let names = locations.map { FaceSources.name(of: $0) }
        return names.indices.map { own in names.count { $0 == names[own] } == 1 ? names[own] : locations[own] }
    }
}

/// The identities of all sources, before anything is left out.
private struct Joined {
    /// For each source and each of its labels: which of the identities.
    private(set) var classes: [[Int32]] = []
    private(set) var names: [String] = []

    init(_ sources: [any FaceSource], labels: PackPlan.Labels) {
        var known: [String: Int32] = [:]
        for source in sources {
            // Identities are joined by what the source calls them, and remembered by what people do.
            let titles = IdentityNames(source)
            var own: [Int32] = []
            own.reserveCapacity(source.classCount)
            for label in 0..<source.classCount {
                let name = source.identityName(label)
                if labels == .shared, let number = known[name] {
                    own.append(number)
                    continue
                }
                known[name] = Int32(names.count)
                own.append(Int32(names.count))
                names.append(titles.title(label, source))
            }
            classes.append(own)
        }
    }
}

/// The records that are not left out.
private struct Chosen {
    /// Of each identity.
    private(set) var counts: [Int]
    private(set) var excluded = 0
    /// For each source and each of its records: which identity, or -1.
    private var assigned: [[Int32]] = []
    private let exclusions: ExclusionList?
    /// Names of the exclusion list that nothing has.
    private(set) var unmatched: Set<String>

    init(classes: Int, exclusions: ExclusionList?) {
        counts = Array(repeating: 0, count: classes)
        self.exclusions = exclusions
        unmatched = exclusions?.names ?? []
    }

    mutating func add(
        _ source: any FaceSource, number: Int, name: String, classes: [Int32], damaged: Set<PackPlan.Place>
    ) {
        var isExcluded = [Bool](repeating: false, count: source.classCount)
        if let exclusions {
            for label in isExcluded.indices {
                isExcluded[label] = exclusions.match(source.identityName(label), of: name, &unmatched)
            }
        }
        var own = [Int32](repeating: -1, count: source.count)
        for record in own.indices {
            let label = source.label(of: record)
            let isNamed = exclusions?.match(source.key(of: record), of: name, &unmatched) ?? false
            if isNamed || isExcluded[label] {
                excluded += 1
                continue
            }
            if damaged.contains(PackPlan.Place(source: Int32(number), record: Int32(record))) { continue }
            own[record] = classes[label]
            counts[Int(classes[label])] += 1
        }
        assigned.append(own)
    }

    /// The records of the identities that remain, those of one together, in the order of sources and records.
    func grouped(starts: [Int], newLabel: [Int32]) -> [PackPlan.Place] {
        var next = starts
        var places = [PackPlan.Place](
            repeating: PackPlan.Place(source: 0, record: 0), count: starts[starts.count - 1])
        for (source, own) in assigned.enumerated() {
            for (record, old) in own.enumerated() where old >= 0 && newLabel[Int(old)] >= 0 {
                let label = Int(newLabel[Int(old)])
                places[next[label]] = PackPlan.Place(source: Int32(source), record: Int32(record))
                next[label] += 1
            }
        }
        return places
    }
}
