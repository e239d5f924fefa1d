/// The files of a closed-set search: a gallery, distractors included, and probes in groups that get figures of their own.
package struct IdentificationSet: Sendable {
    /// Probes that figures are given of.
    package struct Group: Sendable, Equatable {
        package let name: String
        /// Indices of the probes.
        package let probes: Range<Int>
        /// Files of the group whose identity the gallery lacks. They are not among the probes.
        package let withoutMate: [String]
    }

    /// A file, as seen from the set's folder, and who is in it.
    struct Entry: Sendable, Equatable {
        let file: String
        let identity: Int
    }

    /// The label of a distractor; identities are not negative.
    package static let distractor = -100
    /// How many file names a message lists.
    private static let shown = 5

    package let location: String
    /// What of the data is taken, in words.
    package let selection: String
    /// Oddities, one sentence each.
    package let notes: [String]
    /// Images of the probes' identities, then the distractors.
    package let gallery: ImageCollection
    package let galleryLabels: [Int]
    package let probes: ImageCollection
    package let probeLabels: [Int]
    package let groups: [Group]

    package var distractors: Int { galleryLabels.count { $0 == Self.distractor } }

    /// - Parameters:
    ///   - probes: groups by name, none of them empty; those without a mate among `mates` are set aside.
    /// - Throws: where no probe of a group has a mate.
    init(
        location: String, selection: String, notes: [String], mates: [Entry], distractors: [String],
        probes: [(name: String, entries: [Entry])]
    ) throws(FaceDataError) {
        self.location = location
        self.selection = selection
        let known = Set(mates.map(\.identity))
        var kept: [Entry] = []
        var groups: [Group] = []
        var notes = notes
        for (name, entries) in probes {
            let first = kept.count
            kept += entries.filter { known.contains($0.identity) }
            let withoutMate = entries.filter { !known.contains($0.identity) }.map(\.file)
            guard kept.count > first else {
                throw FaceDataError(
                    .malformed, file: location,
                    "none of the \(entries.count) probes (\(name)) has a mate in the gallery: \(Self.listed(withoutMate))",
                    advice: "check that gallery and probes are of one data set, and name identities alike")
            }
            if !withoutMate.isEmpty {
                notes.append(
                    "\(withoutMate.count) of \(entries.count) probes (\(name)) have no mate in the gallery and are left out: "
                        + Self.listed(withoutMate))
            }
            groups.append(Group(name: name, probes: first..<kept.count, withoutMate: withoutMate))
        }
        self.notes = notes
        self.groups = groups
        gallery = Self.collection(mates.map(\.file) + distractors, in: location)
        galleryLabels = mates.map(\.identity) + Array(repeating: Self.distractor, count: distractors.count)
        self.probes = Self.collection(kept.map(\.file), in: location)
        probeLabels = kept.map(\.identity)
    }

    private static func collection(_ files: [String], in folder: String) -> ImageCollection {
        ImageCollection(
            location: folder, count: files.count, labels: nil, key: { files[$0] },
            image: { try ImageCollection.image(Folder.resolve(files[$0], in: folder)) }, degradation: "none")
    }

    // MARK: - Names

    /// Some of many names.
    static func listed(_ names: [String]) -> String {
        names.prefix(shown).joined(separator: ", ")
            + (names.count > shown ? " and \(names.count - shown) more" : "")
    }

    /// The error of files whose names say nothing.
    static func unreadable(_ names: [String], in folder: String, expected: String) -> FaceDataError {
        FaceDataError(
            .malformed, file: folder,
            "\(names.count) file names do not say who is in the image: \(listed(names))", advice: "expected \(expected)"
        )
    }

    /// A path's last part without the extension.
    static func stem(_ path: String) -> Substring {
        let name = Folder.name(of: path)[...]
        guard let dot = name.lastIndex(of: "."), dot != name.startIndex else { return name }
        return name[..<dot]
    }

    /// A number of at most nine digits, leading zeros allowed.
    static func number(_ text: Substring) -> Int? {
        guard (1...9).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            return nil
        }
        return Int(text)
    }
}
