import Artifacts
import Collectives
import FaceData

/// The identities of a head's rows by name, in the order of the class index: a file of every checkpoint.
enum ClassNames {
    static let file = "classes.json"
    /// How many names a message lists.
    private static let shown = 3

    static func write(_ files: CheckpointFiles, of source: any FaceSource) throws {
        try files.addTexts(file, count: source.classCount, source.identityName)
    }

    /// - Throws: `TrainingError.incompatible` that says which classes differ from the data's; `ArtifactError`.
    static func check(_ checkpoint: Checkpoint, are source: any FaceSource) throws {
        var stored: [String] = []
        var differs = false
        var count = 0
        try checkpoint.texts(file) { index, name in
            count += 1
            if !differs { differs = index >= source.classCount || name != source.identityName(index) }
        }
        if !differs, count == source.classCount { return }
        try checkpoint.texts(file) { _, name in stored.append(name) }
        let current = (0..<source.classCount).map(source.identityName)
        let gone = names(stored, without: current, "only the checkpoint has")
        let new = names(current, without: stored, "only the data has")
        let what = [gone, new].compactMap { $0 }
        throw TrainingError.incompatible(
            "\(checkpoint.folder) was trained on \(stored.count) identities, \(source.location) has \(current.count): "
                + (what.isEmpty ? order(stored, current) : what.joined(separator: "; "))
                + ". To go on from its centres with these identities, start a new run with init.head")
    }

    private static func names(_ some: [String], without others: [String], _ what: String) -> String? {
        let known = Set(others)
        let left = some.filter { !known.contains($0) }
        if left.isEmpty { return nil }
        let listed = left.prefix(shown).joined(separator: ", ")
        return "\(what) \(listed)\(left.count > shown ? " and \(left.count - shown) more" : "")"
    }

    private static func order(_ stored: [String], _ current: [String]) -> String {
        let index = zip(stored, current).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? 0
        return "the same names in another order, from class \(index) on (\(stored[index]), now \(current[index]))"
    }

    /// For each class of the data the row of a checkpoint's head that has its name, −1 where there is none; the same on
    /// every rank. Rank 0 reads the names.
    ///
    /// - Returns: the rows, and how many of the checkpoint's no class takes.
    static func rows(
        _ checkpoint: Checkpoint, for source: any FaceSource, over communicator: any Communicator
    ) throws -> (rows: [Int32], dropped: Int) {
        let found = try communicator.together("class names") { () -> (rows: [Int32], dropped: Int) in
            guard communicator.rank == 0 else { return ([], 0) }
            var classes: [String: Int32] = [:]
            classes.reserveCapacity(source.classCount)
            for label in 0..<source.classCount { classes[source.identityName(label)] = Int32(label) }
            var rows = [Int32](repeating: -1, count: source.classCount)
            var count = 0
            try checkpoint.texts(file) { row, name in
                count += 1
                if let label = classes[name] { rows[Int(label)] = Int32(row) }
            }
            return (rows, count - rows.count { $0 >= 0 })
        }
        let bytes = try communicator.broadcast(found.rows.withUnsafeBytes { Array($0) }, root: 0, "class names")
        let dropped = try communicator.allReduce(found.dropped, .max, "class names")
        let rows = bytes.withUnsafeBytes { raw in
            (0..<raw.count / 4).map { raw.loadUnaligned(fromByteOffset: 4 * $0, as: Int32.self) }
        }
        return (rows, dropped)
    }
}
