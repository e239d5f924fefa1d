/// What the identities of a source may be called by people: a folder's name, the name in `classes.tsv` beside RecordIO
/// files, the folders that a list's images lie in.
package struct IdentityNames: Sendable {
    /// By label; empty where nothing but a number is known.
    package let names: [[String]]

    package init(_ source: any FaceSource) {
        guard source.namesAreNumbers else {
            names = (0..<source.classCount).map { [source.identityName($0)] }
            return
        }
        if let map = ClassMap(ofRecords: source.location)?.names {
            names = (0..<source.classCount).map { label in
                guard let number = Int(source.identityName(label)), let name = map[number] else { return [] }
                return [name]
            }
            return
        }
        var found = [[String]](repeating: [], count: source.classCount)
        if source is RecordIOSource {
            names = found
            return
        }
        for record in 0..<source.count {
            let parts = source.key(of: record).split(separator: "/")
            guard parts.count > 1 else { continue }
            let folder = String(parts[parts.count - 2])
            let label = source.label(of: record)
            if !found[label].contains(folder) { found[label].append(folder) }
        }
        names = found
    }

    /// The names of an identity, or its number.
    package func title(_ label: Int, _ source: any FaceSource) -> String {
        names[label].isEmpty ? source.identityName(label) : names[label].joined(separator: "|")
    }
}
