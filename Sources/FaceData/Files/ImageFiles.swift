/// The image files of a folder and of all folders below it, or of a list, by their names as seen from there.
package struct ImageFiles: Sendable {
    package let location: String
    /// What the names are relative to.
    package let folder: String
    package let names: [String]
    /// Of a list with labels: one per name.
    package let labels: [String]?

    private static let deepest = 32

    /// - Parameters:
    ///   - path: a folder, a list as training takes it, or a file with one path to a line.
    ///   - folder: what a list's paths are relative to; the list's own folder by default.
    /// - Throws: `FaceDataError`, also when there is no image.
    package init(_ path: String, folder: String? = nil) throws(FaceDataError) {
        guard let kind = Folder.kind(path) else {
            throw FaceDataError(.missing, file: path, "no such file or folder", advice: "check the path")
        }
        location = path
        if kind == .folder {
            var names: [String] = []
            try Self.collect(path, "", depth: 0, into: &names)
            self.folder = path
            self.names = names
            labels = nil
        } else {
            self.folder = folder ?? Folder.parent(of: path)
            let listed = try Self.list(path, folder: folder)
            names = listed.names
            labels = listed.labels
        }
        guard !names.isEmpty else {
            throw FaceDataError(.malformed, file: path, "no images", advice: "expected .jpg or .png files")
        }
        for name in names where !Self.isInside(name) {
            throw FaceDataError(
                .malformed, file: path, "\"\(name)\" is not a path below \(self.folder)",
                advice: "copies keep their names, which must not lead elsewhere")
        }
    }

    package func path(of index: Int) -> String { Folder.resolve(names[index], in: folder) }

    /// Width and height of an image, from its header.
    package func size(of index: Int) throws(FaceDataError) -> (width: Int, height: Int) {
        let path = path(of: index)
        let bytes = try DataFile(path).contents(limit: ImageLimits().encodedBytes)
        do throws(ImageError) {
            let info = try ImageCodec.info(bytes)
            return (info.width, info.height)
        } catch {
            throw FaceDataError(error, file: path)
        }
    }

    /// Whether a name stays below the folder that it is resolved in.
    static func isInside(_ name: String) -> Bool {
        !name.isEmpty && !name.hasPrefix("/") && !name.contains("\0")
            && !name.split(separator: "/").contains("..")
    }

    private static func collect(
        _ root: String, _ prefix: String, depth: Int, into names: inout [String]
    ) throws(FaceDataError) {
        guard depth <= deepest else {
            throw FaceDataError(
                .malformed, file: root + "/" + prefix, "folders more than \(deepest) deep", advice: "a link to itself?")
        }
        for (name, kind) in try Folder.entries(prefix.isEmpty ? root : root + "/" + prefix) {
            let full = prefix.isEmpty ? name : prefix + "/" + name
            switch kind {
            case .folder: try collect(root, full, depth: depth + 1, into: &names)
            case .file where Folder.isImageName(name): names.append(full)
            default: continue
            }
        }
    }

    private static func list(
        _ path: String, folder: String?
    ) throws(FaceDataError) -> (names: [String], labels: [String]?) {
        if Folder.isImageName(path) {
            throw FaceDataError(.unsupported, file: path, "a single image", advice: "name a folder or a list")
        }
        var plain: [String] = []
        var isLabelled = false
        try DataFile(path).forEachLine { line, number, _ throws(FaceDataError) in
            if line.isEmpty || isLabelled { return }
            let text = try String(line: line, number, of: path)
            if plain.isEmpty, text.contains("\t") { isLabelled = true } else { plain.append(text) }
        }
        guard isLabelled else { return (plain, nil) }
        let source = try ListSource(path, folder: folder)
        return (
            (0..<source.count).map { source.key(of: $0) },
            (0..<source.count).map { source.identityName(source.label(of: $0)) }
        )
    }
}
