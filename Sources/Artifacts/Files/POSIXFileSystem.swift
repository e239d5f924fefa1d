internal import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// The operating system's files.
package struct POSIXFileSystem: FileSystem {
    package init() {}

    package func createFile(_ path: String, exclusive: Bool) throws -> any WritableFile {
        let flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (exclusive ? O_EXCL : O_TRUNC)
        let descriptor = try retrying("create", path) { open(path, flags, 0o666) }
        return POSIXWritableFile(path: path, descriptor: descriptor)
    }

    package func openFile(_ path: String) throws -> any ReadableFile {
        // Without O_NONBLOCK, opening a named pipe would wait for its writer.
        let descriptor = try retrying("open", path) { open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            let code = errno
            close(descriptor)
            throw FileSystemError("examine", path, code: code)
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw FileSystemError("open", path, code: 0, detail: "it is not a regular file")
        }
        return POSIXReadableFile(path: path, descriptor: descriptor, byteCount: Int(status.st_size))
    }

    package func rename(_ source: String, to destination: String) throws {
        try retrying("rename to \(quoted(destination))", source) { systemRename(source, destination) }
    }

    package func makeDirectory(_ path: String) throws {
        try retrying("make folder", path) { mkdir(path, 0o777) }
    }

    package func removeFile(_ path: String) throws {
        try retrying("remove", path) { unlink(path) }
    }

    /// The file itself is locked meanwhile (flock): a path that leads to the locked file can only be changed by its holder.
    /// File systems without such locks remove it all the same.
    package func removeFile(_ path: String, holding bytes: [UInt8]) throws {
        let descriptor = try retrying("open", path) { open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) }
        defer { close(descriptor) }
        while flock(descriptor, LOCK_EX) != 0, errno == EINTR {}
        var locked = stat()
        var there = stat()
        guard fstat(descriptor, &locked) == 0 else { throw FileSystemError("examine", path, code: errno) }
        guard lstat(path, &there) == 0 else {
            let error = FileSystemError("examine", path, code: errno)
            if error.isNotFound { return }
            throw error
        }
        guard locked.st_ino == there.st_ino, locked.st_dev == there.st_dev, locked.st_size == bytes.count else { return }
        var found = [UInt8](repeating: 0, count: bytes.count)
        let count = found.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
        if count == bytes.count, found == bytes { try removeFile(path) }
    }

    package func removeDirectory(_ path: String) throws {
        try retrying("remove folder", path) { rmdir(path) }
    }

    package func synchroniseDirectory(_ path: String) throws {
        let descriptor = try retrying("open folder", path) { open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        defer { close(descriptor) }
        do {
            try retrying("fsync folder", path) { fsync(descriptor) }
        } catch let error as FileSystemError where error.code == EINVAL || error.code == ENOTSUP {
            // Some network and user-space file systems have no fsync for folders: their renames are synchronous.
        }
    }

    package func entries(of path: String) throws -> [String] {
        guard let directory = opendir(path) else { throw FileSystemError("list", path, code: errno) }
        defer { closedir(directory) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(directory) else {
                guard errno == 0 else { throw FileSystemError("list", path, code: errno) }
                return names.sorted()
            }
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
    }

    package func kind(of path: String) throws -> FileKind? {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            let error = FileSystemError("examine", path, code: errno)
            if error.isNotFound { return nil }
            throw error
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: return .regular
        case S_IFDIR: return .directory
        default: return .other
        }
    }
}

/// Runs a system call until it is not interrupted.
@discardableResult
private func retrying(_ operation: String, _ path: String, _ call: () -> Int32) throws -> Int32 {
    while true {
        let result = call()
        if result >= 0 { return result }
        let code = errno
        if code != EINTR { throw FileSystemError(operation, path, code: code) }
    }
}

/// Linux moves at most 2 GiB per call; smaller pieces also let a signal in.
private let pieceLimit = 256 << 20

private final class POSIXWritableFile: WritableFile {
    private let path: String
    private var descriptor: Int32

    init(path: String, descriptor: Int32) {
        self.path = path
        self.descriptor = descriptor
    }

    deinit {
        if descriptor >= 0 { _ = systemClose(descriptor) }
    }

    func write(_ bytes: UnsafeRawBufferPointer) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(pieceLimit))
            let written = systemWrite(descriptor, piece)
            if written > 0 {
                rest = rest.dropFirst(written)
            } else {
                let code = written == 0 ? EIO : errno
                if code != EINTR { throw FileSystemError("write", path, code: code) }
            }
        }
    }

    func synchronise() throws {
        try retrying("fsync", path) { fsync(descriptor) }
    }

    func close() throws {
        guard descriptor >= 0 else { return }
        let closing = descriptor
        descriptor = -1
        // After EINTR the descriptor is gone on Linux: closing again could close somebody else's.
        if systemClose(closing) != 0 && errno != EINTR { throw FileSystemError("close", path, code: errno) }
    }
}

private final class POSIXReadableFile: ReadableFile {
    let byteCount: Int
    private let path: String
    private let descriptor: Int32

    init(path: String, descriptor: Int32, byteCount: Int) {
        self.path = path
        self.descriptor = descriptor
        self.byteCount = byteCount
    }

    deinit { _ = systemClose(descriptor) }

    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws {
        var done = 0
        while done < buffer.count {
            let piece = min(pieceLimit, buffer.count - done)
            let count = pread(descriptor, buffer.baseAddress! + done, piece, off_t(offset + done))
            if count > 0 {
                done += count
            } else if count == 0 {
                throw FileSystemError(
                    "read", path, code: 0, detail: "the file ends at byte \(offset + done), it was longer before")
            } else if errno != EINTR {
                throw FileSystemError("read", path, code: errno)
            }
        }
    }

    func map() throws -> AlignedBuffer {
        guard byteCount > 0 else { return AlignedBuffer(byteCount: 0) }
        let flags = MAP_PRIVATE | MAP_NORESERVE
        guard let base = mmap(nil, byteCount, PROT_READ | PROT_WRITE, flags, descriptor, 0), base != MAP_FAILED else {
            throw FileSystemError("map", path, code: errno)
        }
        return AlignedBuffer(
            borrowing: base, byteCount: byteCount, owner: Mapping(base: base, byteCount: byteCount))
    }
}

/// Keeps a mapped file mapped.
private final class Mapping {
    private let base: UnsafeMutableRawPointer
    private let byteCount: Int

    init(base: UnsafeMutableRawPointer, byteCount: Int) {
        self.base = base
        self.byteCount = byteCount
    }

    deinit { munmap(base, byteCount) }
}

// Inside the types above, the bare names would mean their own methods.
private func systemRename(_ source: String, _ destination: String) -> Int32 { rename(source, destination) }
private func systemClose(_ descriptor: Int32) -> Int32 { close(descriptor) }
private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int {
    write(descriptor, bytes.baseAddress, bytes.count)
}
