import Artifacts
import Foundation
import Tensors

/// A disk in memory that knows what would survive a loss of power: only what was made durable by fsync, and perhaps
/// more. Paths are absolute.
final class SimulatedDisk: FileSystem, @unchecked Sendable {
    /// What a loss of power leaves of the changes that were not made durable.
    enum Loss: CaseIterable {
        /// The process ended, the machine did not: all changes stay.
        case nothing
        /// All of them are lost.
        case everything
        /// Names stay, bytes are lost: the zero-length files after a rename without fsync.
        case bytes
        /// Bytes stay, names are lost.
        case names
        /// Folders keep an early part of their changes, files a part of their bytes.
        case parts
    }

    fileprivate final class File {
        var bytes: [UInt8] = []
        var durable: [UInt8] = []
    }

    fileprivate final class Folder {
        /// The names after each change since the last fsync; first what is durable, last what processes see.
        var history: [[String: Node]] = [[:]]
        var names: [String: Node] {
            get { history.last! }
            set { history.append(newValue) }
        }
    }

    fileprivate enum Node {
        case file(File)
        case folder(Folder)
    }

    private let root = Folder()
    private let lock = NSLock()

    /// The disk after a restart.
    func restarted(_ loss: Loss) -> SimulatedDisk {
        let disk = SimulatedDisk()
        lock.withLock { Self.copy(root, to: disk.root, loss) }
        return disk
    }

    private static func copy(_ source: Folder, to target: Folder, _ loss: Loss) {
        let names =
            switch loss {
            case .nothing, .bytes: source.history.last!
            case .everything, .names: source.history.first!
            case .parts: source.history[source.history.count / 2]
            }
        target.history = [
            names.mapValues { node in
                switch node {
                case .folder(let folder):
                    let copied = Folder()
                    copy(folder, to: copied, loss)
                    return .folder(copied)
                case .file(let file):
                    let copied = File()
                    switch loss {
                    case .nothing, .names: copied.bytes = file.bytes
                    case .everything, .bytes: copied.bytes = file.durable
                    case .parts:
                        let isDurable = file.bytes == file.durable
                        copied.bytes = isDurable ? file.bytes : Array(file.bytes.prefix(file.bytes.count / 2))
                    }
                    copied.durable = copied.bytes
                    return .file(copied)
                }
            }
        ]
    }

    /// Everything that is there now, durable or not.
    func tree() -> [String] {
        lock.withLock {
            func list(_ folder: Folder, _ prefix: String) -> [String] {
                folder.names.sorted { $0.key < $1.key }.flatMap { name, node in
                    switch node {
                    case .file: [prefix + name]
                    case .folder(let inner): list(inner, prefix + name + "/")
                    }
                }
            }
            return list(root, "/")
        }
    }

    /// Changes bytes without a trace, as a bad disk does.
    func damage(_ path: String, _ change: (inout [UInt8]) -> Void) throws {
        try lock.withLock {
            guard case .file(let file)? = try node(path) else { throw FileSystemError("damage", path, code: ENOENT) }
            change(&file.bytes)
            file.durable = file.bytes
        }
    }

    // MARK: Paths; the lock is held

    private func folder(_ path: [Substring], _ whole: String) throws -> Folder {
        var folder = root
        for part in path {
            switch folder.names[String(part)] {
            case .folder(let next): folder = next
            case .file: throw FileSystemError("walk", whole, code: ENOTDIR)
            case nil: throw FileSystemError("walk", whole, code: ENOENT)
            }
        }
        return folder
    }

    private func place(_ path: String) throws -> (Folder, String) {
        let parts = path.split(separator: "/")
        return (try folder(Array(parts.dropLast()), path), String(parts.last!))
    }

    private func node(_ path: String) throws -> Node? {
        if path.split(separator: "/").isEmpty { return .folder(root) }
        let (folder, name) = try place(path)
        return folder.names[name]
    }

    // MARK: FileSystem

    func createFile(_ path: String, exclusive: Bool) throws -> any WritableFile {
        try lock.withLock {
            let (folder, name) = try place(path)
            switch folder.names[name] {
            case .folder: throw FileSystemError("create", path, code: EISDIR)
            case .file(let file):
                if exclusive { throw FileSystemError("create", path, code: EEXIST) }
                file.bytes = []
                return Writer(file: file, lock: lock)
            case nil:
                let file = File()
                folder.names[name] = .file(file)
                return Writer(file: file, lock: lock)
            }
        }
    }

    func openFile(_ path: String) throws -> any ReadableFile {
        try lock.withLock {
            switch try node(path) {
            case .file(let file): return Reader(bytes: file.bytes)
            case .folder: throw FileSystemError("open", path, code: EISDIR)
            case nil: throw FileSystemError("open", path, code: ENOENT)
            }
        }
    }

    func rename(_ source: String, to destination: String) throws {
        try lock.withLock {
            let (from, name) = try place(source)
            let (to, newName) = try place(destination)
            guard let moved = from.names[name] else { throw FileSystemError("rename", source, code: ENOENT) }
            if case .folder(let old)? = to.names[newName], !old.names.isEmpty {
                throw FileSystemError("rename", destination, code: ENOTEMPTY)
            }
            precondition(from === to, "only renames within a folder are atomic here")
            var names = from.names
            names[name] = nil
            names[newName] = moved
            from.names = names
        }
    }

    func makeDirectory(_ path: String) throws {
        try lock.withLock {
            let (folder, name) = try place(path)
            if folder.names[name] != nil { throw FileSystemError("make folder", path, code: EEXIST) }
            folder.names[name] = .folder(Folder())
        }
    }

    func removeFile(_ path: String) throws {
        try lock.withLock {
            let (folder, name) = try place(path)
            guard case .file? = folder.names[name] else { throw FileSystemError("remove", path, code: ENOENT) }
            folder.names[name] = nil
        }
    }

    func removeDirectory(_ path: String) throws {
        try lock.withLock {
            let (folder, name) = try place(path)
            guard case .folder(let old)? = folder.names[name] else {
                throw FileSystemError("remove folder", path, code: ENOENT)
            }
            guard old.names.isEmpty else { throw FileSystemError("remove folder", path, code: ENOTEMPTY) }
            folder.names[name] = nil
        }
    }

    func synchroniseDirectory(_ path: String) throws {
        try lock.withLock {
            let folder = try folder(path.split(separator: "/"), path)
            folder.history = [folder.names]
        }
    }

    func entries(of path: String) throws -> [String] {
        try lock.withLock { try folder(path.split(separator: "/"), path).names.keys.sorted() }
    }

    func kind(of path: String) throws -> FileKind? {
        try lock.withLock {
            do {
                switch try node(path) {
                case .file: return .regular
                case .folder: return .directory
                case nil: return nil
                }
            } catch let error as FileSystemError where error.isNotFound {
                return nil
            }
        }
    }

    private final class Writer: WritableFile {
        let file: File
        let lock: NSLock

        init(file: File, lock: NSLock) {
            self.file = file
            self.lock = lock
        }

        func write(_ bytes: UnsafeRawBufferPointer) throws { lock.withLock { file.bytes += bytes } }
        func synchronise() throws { lock.withLock { file.durable = file.bytes } }
        func close() throws {}
    }

    private final class Reader: ReadableFile {
        let bytes: [UInt8]

        init(bytes: [UInt8]) { self.bytes = bytes }

        var byteCount: Int { bytes.count }

        func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws {
            guard offset + buffer.count <= bytes.count else { throw FileSystemError("read", "?", code: EIO) }
            buffer.copyBytes(from: bytes[offset..<offset + buffer.count])
        }

        func map() throws -> AlignedBuffer {
            let buffer = AlignedBuffer(byteCount: bytes.count)
            if !bytes.isEmpty { buffer.base.copyMemory(from: bytes, byteCount: bytes.count) }
            return buffer
        }
    }
}
