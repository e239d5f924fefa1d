/// Opens whatever a path leads to.
package enum FaceSources {
    /// - Parameters:
    ///   - path: a `.rec` file or its `.idx`, a folder that holds `train.rec`, a folder of identity folders, or
    ///   a list.
    ///   - folder: what a list's paths are relative to; the list's own folder by default.
    ///   - progress: called now and then while a missing index is rebuilt, with the bytes passed and the bytes in all.
    /// - Throws: `FaceDataError`.
    package static func open(
        _ path: String, folder: String? = nil, progress: (_ done: UInt64, _ total: UInt64) -> Void = { _, _ in }
    ) throws(FaceDataError) -> any FaceSource {
        guard let kind = Folder.kind(path) else {
            throw FaceDataError(.missing, file: path, "no such file or folder", advice: "check the path")
        }
        if kind == .folder {
            let records = recordFile(in: path)
            return Folder.kind(records) == .file
                ? try RecordIOSource(records, progress: progress) : try FolderSource(path)
        }
        switch Folder.fileExtension(path) {
        case "rec": return try RecordIOSource(path, progress: progress)
        case "idx": return try RecordIOSource(path.dropLast(4) + ".rec", progress: progress)
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

    /// Whether opening `path` means a pass over all of its records first, because their index is missing: ranks do that one
    /// after the other, for the first one leaves the index behind.
    package static func lacksIndex(_ path: String) -> Bool {
        RecordIOSource.lacksIndex(Folder.kind(path) == .folder ? recordFile(in: path) : path)
    }

    private static func recordFile(in folder: String) -> String {
        folder.hasSuffix("/") ? folder + "train.rec" : folder + "/train.rec"
    }

    /// A name for a source that has none: that of its file without the extension, or of its folder; of the folder around it
    /// where the file is called `train`, as most are.
    package static func name(of path: String) -> String {
        var parts = path.split(separator: "/").map(String.init).filter { $0 != "." && $0 != ".." }
        guard let last = parts.popLast() else { return "data" }
        let dot = last.lastIndex(of: ".")
        let stem = dot.map { $0 == last.startIndex ? last : String(last[..<$0]) } ?? last
        return stem == "train" ? parts.last ?? stem : stem
    }
}
