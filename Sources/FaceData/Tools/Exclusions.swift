/// What is to be left out of a data set: a text file with one identity name or record key to a line. Empty lines and lines
/// that begin with `#` are comments. `source/` before a name means that source only.
package struct Exclusions: Sendable {
    private let lines: Set<String>
    /// The file's name; nil where there is none.
    let location: String?

    package init() {
        lines = []
        location = nil
    }

    package init(_ path: String) throws(FaceDataError) {
        var found: Set<String> = []
        try DataFile(path).forEachLine { line, number, _ throws(FaceDataError) in
            guard let text = String(validating: line, as: UTF8.self) else {
                throw FaceDataError(.malformed, file: path, at: .line(number), "not UTF-8")
            }
            let trimmed = Self.trimmed(text)
            if !trimmed.isEmpty, !trimmed.hasPrefix("#") { found.insert(trimmed) }
        }
        lines = found
        location = path
    }

    var isEmpty: Bool { lines.isEmpty }
    var sorted: [String] { lines.sorted() }

    /// The line that names `text` of the source called `source`; nil when there is none.
    func line(for text: String, source: String) -> String? {
        if lines.contains(text) { return text }
        let qualified = source + "/" + text
        return lines.contains(qualified) ? qualified : nil
    }

    private static func trimmed(_ text: String) -> String {
        var rest = text[...]
        while rest.first?.isWhitespace == true { rest.removeFirst() }
        while rest.last?.isWhitespace == true { rest.removeLast() }
        return String(rest)
    }
}
