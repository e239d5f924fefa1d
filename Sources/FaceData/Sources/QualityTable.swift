/// Qualities of images, by the keys that sources give them, from a file.
///
/// Two forms: lines of `key<TAB>value` (what `acuity annotate` writes), and CSV with a first line that names the columns
/// `image` and `quality` (what `acuity score` writes; any file whose name ends in `.csv`). Keys may hold spaces: a line is
/// split at its last tab, and at nothing else.
///
/// While it is in memory it takes about 100 bytes per image beside the keys; `qualities(of:missing:)` leaves 4.
package struct QualityTable: Sendable {
    package let location: String
    private let values: [String: Float]

    package var count: Int { values.count }

    /// The quality of the image with a key; nil where the table lacks it.
    package subscript(key: String) -> Float? { values[key] }

    /// - Throws: `FaceDataError` with the line: a line that is no key and finite number, or a key that came before.
    package init(_ path: String) throws(FaceDataError) {
        var values: [String: Float] = [:]
        let isCSV = Folder.fileExtension(path) == "csv"
        var columns: (key: Int, value: Int)?
        try DataFile(path).forEachLine { line, number, _ throws(FaceDataError) in
            if line.isEmpty { return }
            func error(_ reason: String, _ advice: String? = nil) -> FaceDataError {
                FaceDataError(.malformed, file: path, at: .line(number), reason, advice: advice)
            }
            let text = try String(line: line, number, of: path)
            let key: String
            let value: String
            if isCSV {
                guard let fields = CSV.fields(text) else { throw error("a quotation mark is not closed") }
                guard let known = columns else {
                    guard let image = fields.firstIndex(of: "image"), let quality = fields.firstIndex(of: "quality")
                    else { throw error("the first line does not name the columns image and quality") }
                    columns = (image, quality)
                    return
                }
                guard fields.count > max(known.key, known.value) else {
                    throw error("\(fields.count) columns are too few")
                }
                (key, value) = (fields[known.key], fields[known.value])
            } else {
                guard let tab = text.utf8.lastIndex(of: 0x09) else {
                    throw error("expected key and value, separated by a tab")
                }
                key = String(text[..<tab])
                value = String(text[text.index(after: tab)...])
            }
            guard !key.isEmpty else { throw error("the key is empty") }
            guard let quality = Float(value), quality.isFinite else {
                throw error("\"\(value)\" is not a finite number")
            }
            guard values.updateValue(quality, forKey: key) == nil else {
                throw error("\(key) comes twice", "a table has one line per image")
            }
        }
        guard !values.isEmpty else { throw FaceDataError(.malformed, file: path, "lists no image") }
        location = path
        self.values = values
    }

    /// What is done about images that the table lacks.
    package enum Missing: Sendable, Equatable {
        /// They are an error, which says with `allowedBy` how a user can have them accepted.
        case refuse(allowedBy: String)
        /// They get this quality.
        case value(Float)
    }

    /// Qualities of a source's images.
    package struct Qualities: Sendable, Equatable {
        /// By record.
        package let values: [Float]
        /// Images that the table lacks.
        package let missing: Int

        package init(values: [Float], missing: Int) {
            self.values = values
            self.missing = missing
        }
    }

    /// The quality of each record of a source.
    ///
    /// - Throws: `FaceDataError` when no image is in the table, and with `.refuse` when one is not.
    package func qualities(of source: any FaceSource, missing: Missing) throws(FaceDataError) -> Qualities {
        try qualities(count: source.count, of: source.location, missing: missing) { source.key(of: $0) }
    }

    /// The quality of each of `count` images with the given keys.
    package func qualities(
        count: Int, of location: String, missing: Missing, key: (Int) -> String
    ) throws(FaceDataError) -> Qualities {
        var result: [Float] = []
        result.reserveCapacity(count)
        var absent: [String] = []
        var absentCount = 0
        for index in 0..<count {
            let name = key(index)
            if let value = values[name] {
                result.append(value)
                continue
            }
            absentCount += 1
            if absent.count < 3 { absent.append(name) }
            if case .value(let value) = missing { result.append(value) }
        }
        var advice: String?
        if absentCount > 0, case .refuse(let allowedBy) = missing { advice = allowedBy }
        if absentCount == count {
            advice =
                "the table's keys are those of another data set, or of another way to name it: a folder, a list and"
                + " a .rec file of the same images have keys of their own"
        }
        if absentCount > 0, let advice {
            let more = absentCount > absent.count ? " and \(absentCount - absent.count) more" : ""
            throw FaceDataError(
                .malformed, file: self.location,
                "lacks \(absentCount) of \(count) images of \(location): \(absent.joined(separator: ", "))\(more)",
                advice: advice)
        }
        return Qualities(values: result, missing: absentCount)
    }

    /// Writes `key<TAB>value` lines in order; the file appears when it is complete.
    ///
    /// - Parameters:
    ///   - rows: keys with values; both are asked for one by one.
    /// - Throws: `FaceDataError`.
    package static func write(
        _ path: String, count: Int, row: (Int) -> (key: String, value: Float)?
    ) throws(FaceDataError) {
        let writer = try FileWriter(path)
        for index in 0..<count {
            guard let (key, value) = row(index) else { continue }
            try writer.append("\(key)\t\(value)\n")
        }
        try writer.finish()
    }

    /// What is wrong with an image's key as the name of a line; nil if nothing.
    package static func problem(withKey key: String) -> String? {
        if key.isEmpty { return "an empty key" }
        return key.utf8.contains { $0 == 0x0A || $0 == 0x0D }
            ? "the key \(key.debugDescription), which holds a line break" : nil
    }
}

/// Comma-separated values (RFC 4180), one record a line.
package enum CSV {
    /// The fields of a line; nil where a quotation mark is not closed.
    package static func fields(_ line: String) -> [String]? {
        var fields: [String] = []
        var field: [UInt8] = []
        var quoted = false
        var bytes = Array(line.utf8)[...]
        while let byte = bytes.popFirst() {
            switch byte {
            case 0x22 where quoted && bytes.first == 0x22:
                field.append(0x22)
                bytes.removeFirst()
            case 0x22 where quoted: quoted = false
            case 0x22 where field.isEmpty: quoted = true
            case 0x2C where !quoted:
                fields.append(String(decoding: field, as: UTF8.self))
                field.removeAll()
            default: field.append(byte)
            }
        }
        if quoted { return nil }
        fields.append(String(decoding: field, as: UTF8.self))
        return fields
    }

    /// A field as it stands in a line: in quotation marks where it needs them.
    package static func field(_ text: String) -> String {
        let special = text.utf8.contains { $0 == 0x22 || $0 == 0x2C || $0 == 0x0A || $0 == 0x0D }
        guard special || text.first == " " || text.last == " " else { return text }
        return "\"" + text.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
    }
}
