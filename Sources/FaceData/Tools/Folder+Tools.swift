#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

extension Folder {
    /// The part of a path after the last slash.
    static func name(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return path }
        return String(path[path.index(after: slash)...])
    }

    /// Size and time of change of a file, as text that differs when they do; empty for a folder.
    static func stamp(_ path: String) -> String {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return "" }
        return "\(status.st_size) \(status.st_mtim.tv_sec) \(status.st_mtim.tv_nsec)"
    }

    static func remove(_ path: String) { unlink(path) }
}
