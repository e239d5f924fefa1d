#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

/// Writes a new file under a temporary name beside it and gives it its name when all is on disk, so that a half-written
/// file never bears the final name.
final class FileWriter {
    let path: String
    private(set) var position: UInt64 = 0
    private var descriptor: Int32
    private var buffer: [UInt8] = []
    private let temporary: String

    /// - Parameter isShared: others may be writing the same file at the same time; the last one to finish wins.
    init(_ path: String, isShared: Bool = false) throws(FaceDataError) {
        self.path = path
        temporary = path + ".partial" + (isShared ? "-\(UInt64.random(in: 0...UInt64.max))" : "")
        descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw .writing(path, errno) }
        buffer.reserveCapacity(1 << 20)
    }

    deinit {
        if descriptor >= 0 {
            close(descriptor)
            unlink(temporary)
        }
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

    /// Puts everything on disk and gives the file its name.
    /// - Parameter isDurable: false leaves the moment when bytes reach the disk to the operating system: for many files
    ///   that can be made again.
    func finish(isDurable: Bool = true) throws(FaceDataError) {
        try flush()
        guard !isDurable || fsync(descriptor) == 0 else { throw .writing(path, errno) }
        let status = close(descriptor)
        descriptor = -1
        guard status == 0, rename(temporary, path) == 0 else {
            let code = errno
            unlink(temporary)
            throw .writing(path, code)
        }
    }

    static func save(_ bytes: some Collection<UInt8>, to path: String) throws(FaceDataError) {
        let writer = try FileWriter(path)
        try writer.append(bytes)
        try writer.finish()
    }
}
