import Artifacts

/// Another file system; `hook` hears of each operation that changes names before it is made, and may fail it.
struct HookedFileSystem: FileSystem {
    enum Operation { case create, rename, makeDirectory, removeFile, removeDirectory }

    private let base: any FileSystem
    private let hook: @Sendable (_ operation: Operation, _ path: String) throws -> Void

    init(
        _ base: any FileSystem = POSIXFileSystem(),
        _ hook: @escaping @Sendable (_ operation: Operation, _ path: String) throws -> Void
    ) {
        self.base = base
        self.hook = hook
    }

    func createFile(_ path: String, exclusive: Bool) throws -> any WritableFile {
        try hook(.create, path)
        return try base.createFile(path, exclusive: exclusive)
    }

    func rename(_ source: String, to destination: String) throws {
        try hook(.rename, source)
        try base.rename(source, to: destination)
    }

    func makeDirectory(_ path: String) throws {
        try hook(.makeDirectory, path)
        try base.makeDirectory(path)
    }

    func removeFile(_ path: String) throws {
        try hook(.removeFile, path)
        try base.removeFile(path)
    }

    func removeDirectory(_ path: String) throws {
        try hook(.removeDirectory, path)
        try base.removeDirectory(path)
    }

    func openFile(_ path: String) throws -> any ReadableFile { try base.openFile(path) }
    func synchroniseDirectory(_ path: String) throws { try base.synchroniseDirectory(path) }
    func entries(of path: String) throws -> [String] { try base.entries(of: path) }
    func kind(of path: String) throws -> FileKind? { try base.kind(of: path) }
}
