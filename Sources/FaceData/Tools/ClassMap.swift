/// What the classes of a packed file are called: RecordIO holds only numbers.
///
/// A text file beside the records, `classes.tsv`. Its first line, `# NAME.rec: label, identity, source, images`, says
/// whose it is; then a line for each class and source that it has images of: label, identity, source, number of images,
/// separated by tabs, in the order of the labels.
package struct ClassMap: Sendable, Equatable {
    package static let fileName = "classes.tsv"

    package struct Row: Sendable, Equatable {
        package var label: Int
        package var name: String
        package var source: String
        package var images: Int

        package init(label: Int, name: String, source: String, images: Int) {
            self.label = label
            self.name = name
            self.source = source
            self.images = images
        }
    }

    package let rows: [Row]

    /// By label.
    package var names: [Int: String] {
        Dictionary(rows.map { ($0.label, $0.name) }, uniquingKeysWith: { first, _ in first })
    }

    /// The map of the records at `path`; nil when there is none beside them, or it is that of other records.
    package init?(ofRecords path: String) {
        let file = Folder.resolve(Self.fileName, in: Folder.parent(of: path))
        guard Folder.kind(file) == .file else { return nil }
        var rows: [Row] = []
        var isOurs = false
        var isSound = true
        do throws(FaceDataError) {
            try DataFile(file).forEachLine { line, number, _ throws(FaceDataError) in
                let text = String(decoding: line, as: UTF8.self)
                if number == 1 {
                    isOurs = text.hasPrefix("# \(Folder.name(of: path)):")
                    return
                }
                if text.isEmpty { return }
                let fields = text.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
                guard fields.count == 4, let label = Int(fields[0]), let images = Int(fields[3]) else {
                    isSound = false
                    return
                }
                rows.append(Row(label: label, name: fields[1], source: fields[2], images: images))
            }
        } catch {
            return nil
        }
        guard isOurs, isSound else { return nil }
        self.rows = rows
    }

    static func text(ofRecords name: String, rows: [Row]) -> String {
        var lines = ["# \(name): label, identity, source, images"]
        lines += rows.map {
            "\($0.label)\t\(PackText.field($0.name))\t\(PackText.field($0.source))\t\($0.images)"
        }
        return lines.joined(separator: "\n") + "\n"
    }
}
