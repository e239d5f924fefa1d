#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

/// A file being written under a temporary name (`PATH.partial`), which stays when the process ends and which a later
/// process can go on with.
final class PartialFile {
    let path: String
    private(set) var position: UInt64
    private var descriptor: Int32
    private var buffer: [UInt8] = []

    /// The length of what an earlier process left; nil when there is nothing.
    static func size(of path: String) -> UInt64? {
        var status = stat()
        guard stat(path + ".partial", &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return UInt64(max(0, status.st_size))
    }

    /// - Parameter kept: how many bytes of what is there are gone on with; the rest is cut off.
    /// - Throws: also when another process is writing it.
    init(_ path: String, keeping kept: UInt64) throws(FaceDataError) {
        self.path = path
        position = kept
        descriptor = open(path + ".partial", O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw .writing(path, errno) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            close(descriptor)
            guard code == EWOULDBLOCK else { throw .writing(path, code) }
            throw FaceDataError(
                .cannotWrite, file: path, "another process is writing it", advice: "wait for it, or choose another name"
            )
        }
        guard ftruncate(descriptor, off_t(kept)) == 0, lseek(descriptor, off_t(kept), SEEK_SET) == off_t(kept) else {
            let code = errno
            close(descriptor)
            throw .writing(path, code)
        }
        buffer.reserveCapacity(1 << 20)
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    func append(_ bytes: some Collection<UInt8>) throws(FaceDataError) {
        buffer.append(contentsOf: bytes)
        position += UInt64(bytes.count)
        if buffer.count >= 1 << 20 { try flush() }
    }

    func append(_ text: String) throws(FaceDataError) { try append(text.utf8) }

    private func flush() throws(FaceDataError) {
        var done = 0
        while done < buffer.count {
            let count = buffer.withUnsafeBytes { write(descriptor, $0.baseAddress! + done, $0.count - done) }
            if count < 0 {
                if errno == EINTR { continue }
                throw .writing(path, errno)
            }
            done += count
        }
        buffer.removeAll(keepingCapacity: true)
    }

    /// Puts everything on disk.
    func sync() throws(FaceDataError) {
        try flush()
        guard fsync(descriptor) == 0 else { throw .writing(path, errno) }
    }

    /// Gives what `sync` has put on disk its name; does nothing when that has been done before.
    static func commit(_ path: String) throws(FaceDataError) {
        guard rename(path + ".partial", path) == 0 || errno == ENOENT else { throw .writing(path, errno) }
    }
}

/// How much can still be written.
package enum DiskSpace {
    /// Bytes that are free to this user where `folder` lies; nil when the system does not say.
    package static func free(_ folder: String) -> UInt64? {
        var information = statvfs()
        guard statvfs(folder, &information) == 0 else { return nil }
        return UInt64(information.f_bavail) * UInt64(information.f_frsize)
    }
}
