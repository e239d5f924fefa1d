#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

/// A file open for reading at any offset from any thread. Its size is fixed when it is opened: it is never mapped, so
/// that a file cut short while in use is an error and not a bus error.
final class DataFile: Sendable {
    let path: String
    let size: UInt64
    private let descriptor: Int32

    /// - Throws: `FaceDataError` when the file is missing, not a regular file or unreadable.
    init(_ path: String) throws(FaceDataError) {
        // A pipe that nobody writes to would be waited for.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw .reading(path, errno) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            let code = errno
            close(descriptor)
            throw .reading(path, code)
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw FaceDataError(.malformed, file: path, "not a regular file")
        }
        self.path = path
        self.descriptor = descriptor
        size = UInt64(max(0, status.st_size))
    }

    deinit { close(descriptor) }

    /// Fills `buffer` from `offset`.
    /// - Throws: when the file ends before, or cannot be read.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(FaceDataError) {
        guard offset <= size, UInt64(buffer.count) <= size - offset else {
            throw FaceDataError(
                .malformed, file: path, at: .byte(offset),
                "\(buffer.count) bytes are announced here, but the file ends at byte \(size)",
                advice: "the file is truncated or damaged: copy it again")
        }
        var done = 0
        while done < buffer.count {
            let count = pread(
                descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(offset) + off_t(done))
            if count < 0 {
                if errno == EINTR { continue }
                throw .reading(path, errno)
            }
            if count == 0 {
                throw FaceDataError(.cannotRead, file: path, "became shorter while it was being read")
            }
            done += count
        }
    }

    func bytes(at offset: UInt64, count: Int) throws(FaceDataError) -> [UInt8] {
        // Checked before the allocation: `count` may come from the file itself.
        guard offset <= size, UInt64(max(0, count)) <= size - offset else {
            throw FaceDataError(
                .malformed, file: path, at: .byte(offset),
                "\(count) bytes are announced here, but the file ends at byte \(size)",
                advice: "the file is truncated or damaged: copy it again")
        }
        var failure: FaceDataError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            do throws(FaceDataError) {
                try read(
                    into: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[..<count]),
                    at: offset)
                filled = count
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return bytes
    }

    /// The whole file, in memory that is used again.
    /// - Throws: also when it is longer than `limit` bytes.
    func contents(limit: Int, into buffer: ByteBuffer) throws(FaceDataError) -> Range<Int> {
        guard size <= UInt64(limit) else { throw tooLong(limit) }
        buffer.reserve(Int(size))
        try read(into: buffer[0..<Int(size)], at: 0)
        return 0..<Int(size)
    }

    /// Asks the system to read a stretch ahead; it may or may not.
    func willNeed(_ range: Range<UInt64>) {
        let end = min(range.upperBound, size)
        guard range.lowerBound < end else { return }
        _ = posix_fadvise(
            descriptor, off_t(range.lowerBound), off_t(end - range.lowerBound), Int32(POSIX_FADV_WILLNEED))
    }

    private func tooLong(_ limit: Int) -> FaceDataError {
        FaceDataError(.tooLarge, file: path, "\(size) bytes, more than the limit of \(limit)")
    }

    /// The whole file.
    /// - Throws: also when it is longer than `limit` bytes.
    func contents(limit: Int) throws(FaceDataError) -> [UInt8] {
        guard size <= UInt64(limit) else { throw tooLong(limit) }
        return try bytes(at: 0, count: Int(size))
    }

    /// Calls `body` for every line without its line break (LF or CRLF), with its number from 1 and its byte offset.
    /// The file is read in pieces; no line may be longer than 64 KiB.
    func forEachLine(
        _ body: (_ line: ArraySlice<UInt8>, _ number: Int, _ offset: UInt64) throws(FaceDataError) -> Void
    ) throws(FaceDataError) {
        let piece = 1 << 20
        let longest = 1 << 16
        var rest: [UInt8] = []
        var restOffset: UInt64 = 0
        var next: UInt64 = 0
        var number = 0
        while next < size || !rest.isEmpty {
            let count = Int(min(UInt64(piece), size - next))
            rest += try bytes(at: next, count: count)
            next += UInt64(count)
            // A byte order mark, as some editors write.
            var start = number == 0 && rest.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
            while start < rest.count {
                let end = rest[start...].firstIndex(of: 0x0A)
                if end == nil, next < size, rest.count - start <= longest { break }
                let stop = end ?? rest.count
                number += 1
                guard stop - start <= longest else {
                    throw FaceDataError(.malformed, file: path, at: .line(number), "longer than \(longest) bytes")
                }
                let trimmed = stop > start && rest[stop - 1] == 0x0D ? stop - 1 : stop
                try body(rest[start..<trimmed], number, restOffset + UInt64(start))
                start = min(rest.count, stop + 1)
            }
            rest.removeFirst(start)
            restOffset += UInt64(start)
        }
    }
}

extension FaceDataError {
    static func reading(_ path: String, _ code: Int32) -> FaceDataError {
        if code == ENOENT || code == ENOTDIR {
            return FaceDataError(.missing, file: path, "no such file or folder", advice: "check the path")
        }
        let isDenied = [EACCES, EPERM, ELOOP, ENAMETOOLONG].contains(code)
        return FaceDataError(
            isDenied ? .denied : .cannotRead, file: path, "cannot be read (\(String(cString: strerror(code))))")
    }

    static func writing(_ path: String, _ code: Int32) -> FaceDataError {
        FaceDataError(.cannotWrite, file: path, "cannot be written (\(String(cString: strerror(code))))")
    }
}
