/// What is left out of a data set: a text file of identity names and record keys, one per line. Empty lines and lines
/// that begin with `#` say nothing; `source/name` means one of several sources only.
package struct ExclusionList: Sendable {
    package let location: String
    let names: Set<String>
    private static let mostNames = 100_000_000
    /// How many names a note lists.
    private static let shown = 5

    /// - Throws: `FaceDataError` when the file cannot be read or is no text.
    package init(_ path: String) throws(FaceDataError) {
        var names: Set<String> = []
        try DataFile(path).forEachLine { line, number, _ throws(FaceDataError) in
            let name = try String(line: line, number, of: path).trimmed
            guard !name.isEmpty, !name.hasPrefix("#") else { return }
            guard names.count < Self.mostNames else {
                throw FaceDataError(.tooLarge, file: path, at: .line(number), "more than \(Self.mostNames) names")
            }
            names.insert(name)
        }
        self.names = names
        location = path
    }

    /// What was left out.
    package struct Report: Sendable, Equatable {
        package var identities = 0
        /// By their own keys.
        package var records = 0
        /// Both kinds together.
        package var images = 0
        /// Names that nothing has, in the order of their bytes.
        package var unknown: [String] = []
    }

    /// Sources without what the list names; a source that it does not touch stays itself.
    ///
    /// - Parameter sources: each with the name that `source/name` means; nil where there is only one.
    /// - Throws: when nothing is left of a source.
    package func applied(
        to sources: [(name: String?, source: any FaceSource)]
    ) throws(FaceDataError) -> (sources: [any FaceSource], report: Report) {
        var report = Report()
        var unmatched = names
        var excluded: [[Bool]] = []
        for (name, source) in sources {
            var isOut = [Bool](repeating: false, count: source.classCount)
            for label in isOut.indices {
                isOut[label] = match(source.identityName(label), of: name, &unmatched)
                if isOut[label] { report.identities += 1 }
            }
            excluded.append(isOut)
        }
        // Names of records take long to make and are looked at only when some names are no identities.
        let maybeRecords = unmatched
        var results: [any FaceSource] = []
        for ((name, source), isOut) in zip(sources, excluded) {
            guard isOut.contains(true) || !maybeRecords.isEmpty else {
                results.append(source)
                continue
            }
            precondition(source.count <= Int32.max, "\(source.count) records")
            var kept: [Int32] = []
            for index in 0..<source.count {
                if isOut[source.label(of: index)] { continue }
                if !maybeRecords.isEmpty, match(source.key(of: index), of: name, among: maybeRecords, &unmatched) {
                    report.records += 1
                    continue
                }
                kept.append(Int32(index))
            }
            report.images += source.count - kept.count
            guard !kept.isEmpty else {
                throw FaceDataError(
                    .malformed, file: location, "excludes every image of \(source.location)",
                    advice: "shorten the list, or leave the source out")
            }
            results.append(kept.count == source.count ? source : try SubsetSource(source, indices: kept))
        }
        report.unknown = unmatched.sorted()
        return (results, report)
    }

    /// Whether the list has a name as it is, or with the source's in front; these names are no longer unmatched.
    func match(_ own: String, of source: String?, _ unmatched: inout Set<String>) -> Bool {
        match(own, of: source, among: names, &unmatched)
    }

    private func match(
        _ own: String, of source: String?, among names: Set<String>, _ unmatched: inout Set<String>
    ) -> Bool {
        var found = false
        for name in [own, source.map { $0 + "/" + own }].compactMap({ $0 }) where names.contains(name) {
            unmatched.remove(name)
            found = true
        }
        return found
    }

    /// What to tell the user, in sentences.
    package func notes(_ report: Report) -> [String] {
        var notes = [
            "\(location) leaves out \(report.identities) identities and \(report.records) single images: \(report.images) "
                + "images in all"
        ]
        if !report.unknown.isEmpty {
            let listed = report.unknown.prefix(Self.shown).joined(separator: ", ")
            let more = report.unknown.count - Self.shown
            notes.append(
                "\(report.unknown.count) names of \(location) are not in the data: \(listed)"
                    + (more > 0 ? " and \(more) more" : ""))
        }
        return notes
    }
}
