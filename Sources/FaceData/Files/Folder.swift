#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

/// Names and kinds of the entries of a folder.
enum Folder {
    enum Kind: Sendable { case folder, file, other }

    /// What a path leads to, links followed; nil when there is nothing.
    static func kind(_ path: String) -> Kind? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        switch status.st_mode & S_IFMT {
        case S_IFDIR: return .folder
        case S_IFREG: return .file
        default: return .other
        }
    }

    /// The entries but those whose name begins with a dot, sorted by the bytes of their names.
    /// - Throws: when the folder cannot be listed, or a name is not UTF-8.
    static func entries(_ path: String) throws(FaceDataError) -> [(name: String, kind: Kind)] {
        guard let stream = opendir(path) else { throw .reading(path, errno) }
        defer { closedir(stream) }
        var found: [(name: String, kind: Kind)] = []
        errno = 0
        while let entry = readdir(stream) {
            let type = Int(entry.pointee.d_type)
            // A damaged name must not silently drop an identity, hence no repairing conversion.
            let name: String? = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                let text = UnsafeRawPointer(pointer).assumingMemoryBound(to: CChar.self)
                return String(validatingCString: text)
            }
            guard let name else {
                throw FaceDataError(
                    .malformed, file: path, "holds a name that is not UTF-8", advice: "rename the entry")
            }
            if !name.hasPrefix(".") {
                let kind: Kind? =
                    switch type {
                    case Int(DT_DIR): .folder
                    case Int(DT_REG): .file
                    default: Folder.kind(path + "/" + name)
                    }
                found.append((name, kind ?? .other))
            }
            errno = 0
        }
        guard errno == 0 else { throw .reading(path, errno) }
        found.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
        return found
    }

    /// The part of a path before the last slash.
    static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// The part of a path after the last slash.
    static func name(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return path }
        return String(path[path.index(after: slash)...])
    }

    /// The lower-case extension without the dot; empty when there is none.
    static func fileExtension(_ path: String) -> String {
        let name = name(of: path)
        guard let dot = name.lastIndex(of: "."), dot != name.startIndex else { return "" }
        return name[name.index(after: dot)...].lowercased()
    }

    static func isImageName(_ name: String) -> Bool { ["jpg", "jpeg", "png"].contains(fileExtension(name)) }

    /// `path` as seen from `folder`: absolute paths stay.
    static func resolve(_ path: String, in folder: String) -> String {
        path.hasPrefix("/") ? path : folder == "." ? path : folder + "/" + path
    }

    /// Size and time of change of a file, as text that differs when they do; empty for a folder.
    static func stamp(_ path: String) -> String {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return "" }
        return "\(status.st_size) \(status.st_mtim.tv_sec) \(status.st_mtim.tv_nsec)"
    }

    /// Makes a folder and those above it.
    static func make(_ path: String) throws(FaceDataError) {
        switch kind(path) {
        case .folder: return
        case .file, .other:
            throw FaceDataError(.cannotWrite, file: path, "a file of that name is in the way of the folder")
        case nil: break
        }
        let above = parent(of: path)
        if above != path, above != "." { try make(above) }
        if mkdir(path, 0o777) != 0, errno != EEXIST { throw .writing(path, errno) }
    }

    /// Removes a file, if it is there.
    static func remove(_ path: String) { unlink(path) }
}
