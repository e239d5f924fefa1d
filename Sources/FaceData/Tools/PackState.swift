/// How far a packing has come, on disk beside the unfinished files, so that another process can go on with it.
///
/// A text file: a first line with the version, then lines of a word and its values, separated by tabs. It is written
/// after what it speaks of is on disk, under a temporary name that is then changed.
struct PackState: Sendable, Equatable {
    struct Damage: Sendable, Equatable {
        var place: PackPlan.Place
        /// In which pass it was met.
        var pass: Int
        var reason: String
    }

    /// Bytes of the unfinished files.
    struct Sizes: Sendable, Equatable {
        var records: UInt64 = 0
        var index: UInt64 = 0
        var list: UInt64 = 0
    }

    /// Of everything that decides what is written: sources, selection, layout, conversion.
    var inputs: UInt64
    /// From 1. Another one is made without the damaged records when they leave an identity with too few images.
    var pass = 1
    /// Items of the pass's plan that are done, and of them those written.
    var items = 0
    var written = 0
    var sizes = Sizes()
    /// Of the first image.
    var width = 0
    var height = 0
    /// All is on disk; what remains is to give the files their names.
    var isComplete = false
    var damage: [Damage] = []

    init(inputs: UInt64) { self.inputs = inputs }

    private static let title = "acuity pack 1"

    /// Whether the unfinished files still hold what this speaks of.
    func isUsable(_ prefix: String, items most: Int) -> Bool {
        guard written <= items, items <= most else { return false }
        return [(".rec", sizes.records), (".idx", sizes.index), (".lst", sizes.list)].allSatisfy { suffix, size in
            let unfinished = FileWriter.unfinishedSize(of: prefix + suffix)
            // Where all is on disk some files may have their names already.
            if isComplete, unfinished == nil { return Folder.kind(prefix + suffix) == .file }
            return (unfinished ?? 0) >= size
        }
    }

    static func path(_ prefix: String) -> String { prefix + ".pack-state" }

    func save(_ prefix: String) throws(FaceDataError) {
        var lines = [
            Self.title, "inputs\t\(inputs)", "pass\t\(pass)", "items\t\(items)", "written\t\(written)",
            "bytes\t\(sizes.records)\t\(sizes.index)\t\(sizes.list)", "size\t\(width)\t\(height)",
            "complete\t\(isComplete ? 1 : 0)",
        ]
        lines += damage.map {
            "damaged\t\($0.place.source)\t\($0.place.record)\t\($0.pass)\t\(PackText.field($0.reason))"
        }
        try FileWriter.save(lines: lines + ["end"], to: Self.path(prefix))
    }

    /// - Returns: nil when there is none, or what is there is none.
    static func load(_ prefix: String) -> PackState? {
        guard Folder.kind(path(prefix)) == .file, let bytes = try? DataFile(path(prefix)).contents(limit: 1 << 30),
            let text = String(validating: bytes, as: UTF8.self)
        else { return nil }
        let lines = text.split(separator: "\n")
        guard lines.first == Substring(title), lines.last == "end" else { return nil }
        var state = PackState(inputs: 0)
        for line in lines.dropFirst().dropLast() {
            let fields = line.split(separator: "\t", omittingEmptySubsequences: false)
            guard state.read(String(fields[0]), fields.dropFirst().map(String.init)) else { return nil }
        }
        return state
    }

    private mutating func read(_ word: String, _ fields: [String]) -> Bool {
        if word == "damaged" {
            guard fields.count == 4, let source = Int32(fields[0]), let record = Int32(fields[1]),
                let pass = Int(fields[2]), source >= 0, record >= 0, pass > 0
            else { return false }
            damage.append(
                Damage(place: PackPlan.Place(source: source, record: record), pass: pass, reason: fields[3]))
            return true
        }
        let numbers = fields.compactMap { UInt64($0) }
        guard numbers.count == fields.count, let first = numbers.first else { return false }
        let small = Int(exactly: first)
        switch word {
        case "inputs": inputs = first
        case "pass": pass = small ?? 1
        case "items": items = small ?? 0
        case "written": written = small ?? 0
        case "complete": isComplete = first == 1
        case "size":
            guard numbers.count == 2, first <= 1 << 20, numbers[1] <= 1 << 20 else { return false }
            (width, height) = (Int(first), Int(numbers[1]))
        case "bytes":
            guard numbers.count == 3 else { return false }
            sizes = Sizes(records: first, index: numbers[1], list: numbers[2])
        default: return false
        }
        return true
    }
}

/// Text as a field of the lists that packing writes.
enum PackText {
    /// Tabs and line breaks would break the list.
    static func field(_ text: String) -> String {
        String(text.map { $0 == "\t" || $0.isNewline ? " " : $0 })
    }
}
