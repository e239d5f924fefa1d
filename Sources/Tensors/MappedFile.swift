#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Why memory in a file could not be had.
package struct MappedFileError: Error, Equatable, CustomStringConvertible {
    package let folder: String
    package let byteCount: Int
    /// What was being done, as a verb.
    package let operation: String
    /// errno
    package let code: Int32

    package var description: String {
        let mebibytes = (byteCount + 1 << 20 - 1) >> 20
        let advice =
            switch code {
            case ENOSPC, EDQUOT, EFBIG: "free some space or name another folder"
            case EACCES, EPERM, EROFS: "check the folder's owner and permissions, or name another one"
            case ENOENT, ENOTDIR: "make the folder, or name another one"
            default: "name another folder"
            }
        return "\(folder): a file of \(mebibytes) MiB for memory: \(operation) failed: "
            + "\(String(cString: strerror(code))); \(advice)"
    }

    /// The folder or its disk is at fault, and not the reading or writing.
    package var isRefusal: Bool {
        [ENOSPC, EDQUOT, EFBIG, EACCES, EPERM, EROFS, ENOENT, ENOTDIR].contains(code)
    }
}

/// Memory that lies in files.
package enum MappedFile {
    /// Zeroed memory in a new file of `folder`. The file has no name once this returns, so that nothing is left behind
    /// however the process ends, and all of its blocks are reserved: a full disk is an error here and not a signal at the
    /// first write.
    ///
    /// - Throws: `MappedFileError`.
    package static func temporary(in folder: String, byteCount: Int) throws(MappedFileError) -> AlignedBuffer {
        precondition(byteCount >= 0, "negative file size \(byteCount)")
        if byteCount == 0 { return AlignedBuffer(byteCount: 0) }
        func failure(_ operation: String, _ code: Int32) -> MappedFileError {
            MappedFileError(folder: folder, byteCount: byteCount, operation: operation, code: code)
        }
        var path = Array("\(folder)/.acuity-memory-XXXXXX".utf8CString)
        let descriptor = mkstemp(&path)
        guard descriptor >= 0 else { throw failure("create", errno) }
        // The mapping keeps the file.
        defer { close(descriptor) }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        guard unlink(path) == 0 else { throw failure("remove its name", errno) }
        var status: Int32
        repeat { status = posix_fallocate(descriptor, 0, off_t(byteCount)) } while status == EINTR
        guard status == 0 else { throw failure("reserve", status) }
        guard let base = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), base != MAP_FAILED
        else { throw failure("map", errno) }
        return AlignedBuffer(
            borrowing: base, byteCount: byteCount, owner: Mapping(base: base, byteCount: byteCount))
    }

    /// Unmaps when nobody holds it any more.
    final class Mapping {
        private let base: UnsafeMutableRawPointer
        private let byteCount: Int

        init(base: UnsafeMutableRawPointer, byteCount: Int) {
            self.base = base
            self.byteCount = byteCount
        }

        deinit { munmap(base, byteCount) }
    }
}
