package import Tensors

/// A text file that lists images, with paths as seen from the list's own folder. Three forms are known, told apart by the
/// first line:
///
/// - `path<TAB>label`
/// - im2rec's `index<TAB>label[<TAB>more labels]<TAB>path`
/// - insightface's `aligned<TAB>path<TAB>label[<TAB>box and landmarks]`
///
/// Labels are integers from 0; unused values are closed up.
package final class ListSource: FaceSource {
    package enum Form: Sendable { case pathLabel, im2rec, insightface }

    package let location: String
    package let form: Form
    package let notes: [String]
    private let folder: String
    private let paths: [String]
    private let table: LabelTable

    /// - Parameter folder: where the paths begin, when not the list's folder.
    /// - Throws: `FaceDataError` with the line's number; also when the first or the last image is not there, which is
    ///   how a wrong folder shows.
    package init(_ path: String, folder: String? = nil) throws(FaceDataError) {
        location = path
        self.folder = folder ?? Folder.parent(of: path)
        var form: Form?
        var paths: [String] = []
        var labels: [Int32] = []
        var first = 0
        var last = 0
        try DataFile(path).forEachLine { line, number, _ throws(FaceDataError) in
            if line.isEmpty { return }
            let text = try String(line: line, number, of: path)
            let fields = text.split(separator: "\t", omittingEmptySubsequences: false)
            let lineForm = form ?? Self.form(fields)
            form = lineForm
            guard let (name, label) = Self.parse(fields, lineForm) else {
                throw FaceDataError(
                    .malformed, file: path, at: .line(number), "expected \(lineForm.columns), separated by tabs")
            }
            guard !name.isEmpty, !name.contains("\0") else {
                throw FaceDataError(.malformed, file: path, at: .line(number), "the path is empty or holds a zero byte")
            }
            guard let value = Self.classNumber(label) else {
                throw FaceDataError(
                    .malformed, file: path, at: .line(number), "label \"\(label)\" is not an integer from 0 to 2^31 - 2"
                )
            }
            paths.append(String(name))
            labels.append(value)
            if first == 0 { first = number }
            last = number
        }
        guard let form else {
            throw FaceDataError(.malformed, file: path, "lists no image", advice: "expected lines of path<TAB>label")
        }
        for (name, line) in [(paths[0], first), (paths[paths.count - 1], last)] {
            let file = Folder.resolve(name, in: self.folder)
            guard Folder.kind(file) == .file else {
                throw FaceDataError(
                    Folder.kind(file) == nil ? .missing : .malformed, file: path, at: .line(line),
                    "\(file) is not a file", advice: "paths are relative to the list's folder")
            }
        }
        self.form = form
        self.paths = paths
        table = LabelTable(labels)
        notes = table.note.map { [$0] } ?? []
    }

    package var count: Int { paths.count }
    package var classCount: Int { table.classCount }
    package func label(of index: Int) -> Int { Int(table.labels[index]) }
    package func key(of index: Int) -> String { paths[index] }
    package func identityName(_ label: Int) -> String { String(table.original(label)) }
    package var namesAreNumbers: Bool { true }

    package func encodedBytes(of index: Int) throws(FaceDataError) -> [UInt8] {
        try DataFile(Folder.resolve(paths[index], in: folder)).contents(limit: ImageLimits().encodedBytes)
    }

    package func decode(
        _ index: Int, with decoder: ImageDecoder, into image: inout RGBImage
    ) throws(FaceDataError) {
        try decode(file: Folder.resolve(paths[index], in: folder), index, with: decoder, into: &image)
    }

    private static func form(_ fields: [Substring]) -> Form {
        if fields.count < 3 { return .pathLabel }
        let isIndex = UInt64(fields[0]) != nil
        return isIndex && Double(fields[1]) != nil && Double(fields[fields.count - 1]) == nil ? .im2rec : .insightface
    }

    private static func parse(_ fields: [Substring], _ form: Form) -> (path: Substring, label: Substring)? {
        switch form {
        case .pathLabel: fields.count == 2 ? (fields[0], fields[1]) : nil
        case .im2rec:
            fields.count >= 3 && UInt64(fields[0]) != nil ? (fields[fields.count - 1], fields[1]) : nil
        case .insightface:
            fields.count >= 3 && (fields[0] == "0" || fields[0] == "1") ? (fields[1], fields[2]) : nil
        }
    }

    /// im2rec writes labels as decimal fractions: `7.000000` is 7.
    private static func classNumber(_ text: Substring) -> Int32? {
        if let value = Int32(text) { return value >= 0 && value < Int32.max ? value : nil }
        guard let value = Double(text), value >= 0, value < Double(Int32.max), value == value.rounded() else {
            return nil
        }
        return Int32(value)
    }
}

extension ListSource.Form {
    fileprivate var columns: String {
        switch self {
        case .pathLabel: "path and label"
        case .im2rec: "index, label and path"
        case .insightface: "aligned (0 or 1), path and label"
        }
    }
}
