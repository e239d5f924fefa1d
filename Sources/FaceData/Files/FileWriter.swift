#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

/// Writes a file under a temporary name beside it (`PATH.partial`) and gives it its name when all is on disk, so that a
/// half-written file never bears the final name.
final class FileWriter {
    let path: String
    private(set) var position: UInt64
    private var descriptor: Int32
    private var buffer: [UInt8] = []
    private let temporary: String
    /// What is written stays under the temporary name where `finish` is never called.
    private let isKept: Bool

    /// A new file; nothing stays of it without `finish`.
    ///
    /// - Parameter isShared: others may be writing the same file at the same time; the last one to finish wins.
    init(_ path: String, isShared: Bool = false) throws(FaceDataError) {
        self.path = path
        temporary = FileWriter.unfinished(path) + (isShared ? "-\(UInt64.random(in: 0...UInt64.max))" : "")
        isKept = false
        position = 0
        descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw .writing(path, errno) }
        buffer.reserveCapacity(1 << 20)
    }

    /// A file that another process goes on with where this one ends before `commit`.
    ///
    /// - Parameter kept: how many bytes of what is there are gone on with; the rest is cut off.
    /// - Throws: also when another process is writing it.
    init(_ path: String, keeping kept: UInt64) throws(FaceDataError) {
        self.path = path
        temporary = FileWriter.unfinished(path)
        isKept = true
        position = kept
        descriptor = open(temporary, O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw .writing(path, errno) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            guard errno == EWOULDBLOCK else { throw .writing(path, errno) }
            throw FaceDataError(
                .cannotWrite, file: path, "another process is writing it", advice: "wait for it, or choose another name"
            )
        }
        guard ftruncate(descriptor, off_t(kept)) == 0, lseek(descriptor, off_t(kept), SEEK_SET) == off_t(kept) else {
            throw .writing(path, errno)
        }
        buffer.reserveCapacity(1 << 20)
    }

    deinit {
        guard descriptor >= 0 else { return }
        close(descriptor)
        if !isKept { unlink(temporary) }
    }

    private static func unfinished(_ path: String) -> String { path + ".partial" }

    /// The length of what an earlier process left of a file; nil when there is nothing.
    static func unfinishedSize(of path: String) -> UInt64? {
        var status = stat()
        guard stat(unfinished(path), &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return UInt64(max(0, status.st_size))
    }

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

    /// Puts everything on disk and gives the file its name.
    /// - Parameter isDurable: false leaves the moment when bytes reach the disk to the operating system: for many files
    ///   that can be made again.
    func finish(isDurable: Bool = true) throws(FaceDataError) {
        if isDurable { try sync() } else { try flush() }
        let status = close(descriptor)
        descriptor = -1
        guard status == 0, rename(temporary, path) == 0 else {
            let code = errno
            if !isKept { unlink(temporary) }
            throw .writing(path, code)
        }
    }

    /// Gives what `sync` has put on disk its name; does nothing when that has been done before.
    static func commit(_ path: String) throws(FaceDataError) {
        guard rename(unfinished(path), path) == 0 || errno == ENOENT else { throw .writing(path, errno) }
    }

    static func save(_ bytes: some Collection<UInt8>, to path: String) throws(FaceDataError) {
        let writer = try FileWriter(path)
        try writer.append(bytes)
        try writer.finish()
    }

    /// - Parameter lines: without their line breaks.
    static func save(lines: [String], to path: String) throws(FaceDataError) {
        try save((lines.joined(separator: "\n") + "\n").utf8, to: path)
    }
}
