/// Opens whatever a path leads to.
package enum FaceSources {
    /// - Parameters:
    ///   - path: a `.rec` file or its `.idx`, a folder that holds `train.rec`, a folder of identity folders, or
    ///   a list.
    ///   - folder: what a list's paths are relative to; the list's own folder by default.
    /// - Throws: `FaceDataError`.
    package static func open(_ path: String, folder: String? = nil) throws(FaceDataError) -> any FaceSource {
        guard let kind = Folder.kind(path) else {
            throw FaceDataError(.missing, file: path, "no such file or folder", advice: "check the path")
        }
        if kind == .folder {
            let records = path.hasSuffix("/") ? path + "train.rec" : path + "/train.rec"
            return Folder.kind(records) == .file ? try RecordIOSource(records) : try FolderSource(path)
        }
        switch Folder.fileExtension(path) {
        case "rec": return try RecordIOSource(path)
        case "idx": return try RecordIOSource(path.dropLast(4) + ".rec")
        case "bin":
            throw FaceDataError(
                .unsupported, file: path, "a set of verification pairs, which has no identities to train on",
                advice: "name it as an evaluation set")
        case "jpg", "jpeg", "png":
            throw FaceDataError(
                .unsupported, file: path, "a single image", advice: "name a folder of identity folders or a list")
        default:
            let file = try DataFile(path)
            let start = try file.bytes(at: 0, count: Int(min(4, file.size)))
            if start.count == 4, start.littleEndian(UInt32.self, at: 0) == RecordIO.magic {
                return try RecordIOSource(path)
            }
            return try ListSource(path, folder: folder)
        }
    }
}
