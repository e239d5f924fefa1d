import Artifacts
import Foundation

/// Another file system on which some files cannot be removed, as those that a process of the same host still has open on a
/// network file system.
struct StickyFileSystem: FileSystem {
    /// How their names begin.
    static let prefix = ".nfs"

    private let base: any FileSystem

    init(_ base: any FileSystem) { self.base = base }

    func removeFile(_ path: String) throws {
        let name = path.split(separator: "/").last ?? ""
        if name.hasPrefix(Self.prefix) { throw FileSystemError("remove", path, code: EBUSY) }
        try base.removeFile(path)
    }

    func createFile(_ path: String, exclusive: Bool) throws -> any WritableFile {
        try base.createFile(path, exclusive: exclusive)
    }
    func openFile(_ path: String) throws -> any ReadableFile { try base.openFile(path) }
    func rename(_ source: String, to destination: String) throws { try base.rename(source, to: destination) }
    func makeDirectory(_ path: String) throws { try base.makeDirectory(path) }
    func removeDirectory(_ path: String) throws { try base.removeDirectory(path) }
    func synchroniseDirectory(_ path: String) throws { try base.synchroniseDirectory(path) }
    func entries(of path: String) throws -> [String] { try base.entries(of: path) }
    func kind(of path: String) throws -> FileKind? { try base.kind(of: path) }
}
