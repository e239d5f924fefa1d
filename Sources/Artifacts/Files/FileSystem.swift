package import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// The file operations that artifacts are made of.
///
/// Everything that must survive a crash goes through this protocol, so that a test can fail or stop at each single
/// operation. All functions throw `FileSystemError`.
package protocol FileSystem: Sendable {
    /// Opens a new file for writing; an old one is emptied, or, with `exclusive`, an error (EEXIST).
    func createFile(_ path: String, exclusive: Bool) throws -> any WritableFile
    /// Opens a regular file for reading. Symbolic links are refused where they are the last part of the path.
    func openFile(_ path: String) throws -> any ReadableFile
    func rename(_ source: String, to destination: String) throws
    /// Makes one folder; it is an error (EEXIST) when it is there.
    func makeDirectory(_ path: String) throws
    func removeFile(_ path: String) throws
    /// Removes the file if these are its bytes. Of all that try at once, threads or processes, one does.
    func removeFile(_ path: String, holding bytes: [UInt8]) throws
    /// Removes an empty folder.
    func removeDirectory(_ path: String) throws
    /// Makes the names in a folder durable.
    func synchroniseDirectory(_ path: String) throws
    /// The names in a folder, sorted, without "." and "..".
    func entries(of path: String) throws -> [String]
    /// What lies at the path, links not followed; nil where there is nothing.
    func kind(of path: String) throws -> FileKind?
}

package enum FileKind: Sendable, Equatable {
    case regular, directory, other
}

/// A file being written, from its start to its end.
package protocol WritableFile: AnyObject {
    /// Writes all the bytes.
    func write(_ bytes: UnsafeRawBufferPointer) throws
    /// Makes the bytes durable (fsync).
    func synchronise() throws
    /// Ends writing. Some file systems report a full disk only here.
    func close() throws
}

/// A file open for reading.
package protocol ReadableFile: AnyObject {
    var byteCount: Int { get }
    /// Fills `buffer` with the bytes from `offset` on; fewer bytes than that is an error.
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws
    /// The whole file in memory, as it was when the pages were first touched. Writes to it stay in this process.
    func map() throws -> AlignedBuffer
}

/// A system call that failed.
package struct FileSystemError: Error, Equatable, CustomStringConvertible {
    /// What was being done, as a verb: "write", "rename".
    package let operation: String
    package let path: String
    /// errno, or 0 where `detail` says it all.
    package let code: Int32
    package let detail: String?

    package init(_ operation: String, _ path: String, code: Int32, detail: String? = nil) {
        self.operation = operation
        self.path = path
        self.code = code
        self.detail = detail
    }

    package var isNotFound: Bool { code == ENOENT || code == ENOTDIR }
    package var reason: String {
        let cause = detail ?? String(cString: strerror(code))
        let advice =
            switch code {
            case ENOSPC, EDQUOT: "; free some space or choose another folder"
            case EACCES, EPERM, EROFS: "; check the folder's owner and permissions"
            case ELOOP: "; symbolic links are not followed here"
            default: ""
            }
        return "\(operation) failed: \(cause)\(advice)"
    }
    package var description: String { "\(quoted(path)): \(reason)" }
}

extension FileSystem {
    /// For one user at a time: between reading and removing, somebody else may put another file there.
    package func removeFile(_ path: String, holding bytes: [UInt8]) throws {
        let file = try openFile(path)
        if file.byteCount == bytes.count, try file.bytes(0..<file.byteCount) == bytes { try removeFile(path) }
    }

    /// Makes a folder and the folders above it, where they are not there yet, and makes each new name durable.
    func makeDirectories(_ path: String) throws {
        if try kind(of: path) == .directory { return }
        let parent = parentPath(path)
        if parent != path { try makeDirectories(parent) }
        do {
            try makeDirectory(path)
        } catch let error as FileSystemError where error.code == EEXIST {
            return  // Another rank was faster, or the path is a link to a folder.
        }
        try synchroniseDirectory(parent)
    }

    /// All bytes of a small file.
    func readFile(_ path: String, atMost limit: Int) throws -> [UInt8] {
        let file = try openFile(path)
        guard file.byteCount <= limit else {
            throw ArtifactError.damaged(
                path: path, reason: "\(file.byteCount) bytes, where at most \(limit) are expected")
        }
        return try file.bytes(0..<file.byteCount)
    }

    /// Writes a file so that at every moment the path holds either the old bytes or all of the new ones: a temporary
    /// file beside it, fsync, rename, fsync of the folder.
    func writeAtomically(_ path: String, _ body: (any WritableFile) throws -> Void) throws {
        let folder = parentPath(path)
        let temporary = joinedPath(folder, CheckpointName.temporaryPrefix + lastPathPart(path))
        do {
            try writeFile(temporary, body)
            try rename(temporary, to: path)
        } catch {
            try? removeFile(temporary)
            throw error
        }
        try synchroniseDirectory(folder)
    }

    /// Writes a small file in the same way.
    ///
    /// - Throws: `FileSystemError`; the path holds the old bytes or all of the new ones then, too.
    package func writeAtomically(_ path: String, _ bytes: [UInt8]) throws {
        try writeAtomically(path) { file in try bytes.withUnsafeBytes { try file.write($0) } }
    }

    /// Writes a file and makes its bytes (not yet its name) durable.
    func writeFile(_ path: String, exclusive: Bool = false, _ body: (any WritableFile) throws -> Void) throws {
        let file = try createFile(path, exclusive: exclusive)
        do {
            try body(file)
            try file.synchronise()
        } catch {
            try? file.close()
            throw error
        }
        try file.close()
    }

    /// Removes a folder with all that is in it; links are removed, not followed. What cannot be removed keeps nothing else:
    /// its error comes when the rest is gone.
    func removeTree(_ path: String) throws {
        switch try kind(of: path) {
        case nil: return
        case .directory:
            var failure: (any Error)?
            for name in try entries(of: path) {
                do {
                    try removeTree(joinedPath(path, name))
                } catch {
                    failure = failure ?? error
                }
            }
            if let failure { throw failure }
            try removeDirectory(path)
        default: try removeFile(path)
        }
    }
}

extension ReadableFile {
    func bytes(_ range: Range<Int>) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: range.count)
        try bytes.withUnsafeMutableBytes { try read(at: range.lowerBound, into: $0) }
        return bytes
    }
}

func joinedPath(_ folder: String, _ name: String) -> String {
    folder.hasSuffix("/") ? folder + name : folder + "/" + name
}

/// The folder that holds `path`; "." for a bare name, "/" for the root.
func parentPath(_ path: String) -> String {
    var trimmed = Substring(path)
    while trimmed.count > 1 && trimmed.hasSuffix("/") { trimmed.removeLast() }
    guard let slash = trimmed.lastIndex(of: "/") else { return trimmed == "." ? "/" : "." }
    return slash == trimmed.startIndex ? "/" : String(trimmed[..<slash])
}

func lastPathPart(_ path: String) -> String {
    String(path.split(separator: "/").last ?? "")
}
