/// Five points in each of many photos, from a file of lines `path x1 y1 … x5 y5`: left eye, right eye, nose, left and
/// right corner of the mouth, in pixels of the photo. Fields are separated by tabs or spaces; empty lines and lines that
/// begin with `#` are left out.
package struct LandmarkList: Sendable {
    package struct Entry: Sendable, Equatable {
        package let path: String
        package let points: [ImagePoint]
        /// From 1.
        package let line: Int
    }

    package let location: String
    package let entries: [Entry]
    /// Lines from which no alignment follows: damaged ones, and points that are all one.
    package let failures: [FaceDataError]

    /// - Throws: when the file cannot be read, or not one of its lines is of use.
    package init(_ path: String) throws(FaceDataError) {
        var entries: [Entry] = []
        var failures: [FaceDataError] = []
        var lines: [String: Int] = [:]
        try DataFile(path).forEachLine { line, number, _ throws(FaceDataError) in
            if line.isEmpty || line.first == 0x23 { return }
            do throws(FaceDataError) {
                let entry = try Self.entry(line, number, path)
                if let first = lines.updateValue(number, forKey: entry.path) {
                    throw FaceDataError(
                        .malformed, file: path, at: .line(number), "\(entry.path) stands in line \(first) already")
                }
                entries.append(entry)
            } catch {
                failures.append(error)
            }
        }
        if entries.isEmpty {
            throw failures.first
                ?? FaceDataError(
                    .malformed, file: path, "lists no photo", advice: "expected lines of path x1 y1 ... x5 y5")
        }
        location = path
        self.entries = entries
        self.failures = failures
    }

    private static func entry(
        _ line: ArraySlice<UInt8>, _ number: Int, _ file: String
    ) throws(FaceDataError) -> Entry {
        func error(_ reason: String) -> FaceDataError {
            FaceDataError(.malformed, file: file, at: .line(number), reason)
        }
        let text = try String(line: line, number, of: file)
        // A path may hold spaces: it is what stands before the first tab or, without tabs, before the last ten fields.
        let path: String
        let numbers: [Substring]
        if let tab = text.firstIndex(of: "\t") {
            path = String(text[..<tab])
            numbers = text[tab...].split { $0 == "\t" || $0 == " " }
        } else {
            numbers = Array(text.split(separator: " ").suffix(10))
            path = numbers.first.map { text[..<$0.startIndex].trimmed } ?? ""
        }
        guard numbers.count == 10, !path.isEmpty else { throw error("expected a path and ten numbers") }
        guard ImageFiles.isInside(path) else { throw error("\"\(path)\" is not a path below the photos' folder") }
        let values = numbers.map { Double($0) ?? .nan }
        guard values.allSatisfy({ abs($0) <= 1e6 }) else {
            throw error("a landmark is not a number between -1000000 and 1000000")
        }
        let points = (0..<5).map { ImagePoint(values[2 * $0], values[2 * $0 + 1]) }
        guard FaceTemplate.standard.alignment(of: points) != nil else {
            throw error("the five landmarks of \(path) are one point, or so arranged that no alignment follows")
        }
        return Entry(path: path, points: points, line: number)
    }
}
