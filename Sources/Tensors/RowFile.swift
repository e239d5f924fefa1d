#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Rows of fp32 values in a file that several processes fill, each with rows of its own, and that all read afterwards.
///
/// All blocks are reserved when the file is made: a full disk is an error there. Rows are written by plain writes;
/// `map()` shows them. Between processes of several hosts, a file system shows what others wrote to those who open the
/// file after the writers have closed it.
package final class RowFile: @unchecked Sendable {
    package let path: String
    package let rows: Int
    package let columns: Int
    /// Bytes before the rows.
    private let start: Int
    private let descriptor: Int32

    private var byteCount: Int { start + rows * columns * MemoryLayout<Float>.stride }

    /// A new file of zeros whose name begins with `prefix`. It stays locked while this process has it open, where the file
    /// system knows locks.
    ///
    /// - Parameter head: what comes before the rows.
    /// - Throws: `MappedFileError`.
    package static func create(
        prefix: String, rows: Int, columns: Int, head: [UInt8] = []
    ) throws(MappedFileError) -> RowFile {
        precondition(rows > 0 && columns > 0, "a file of \(rows) x \(columns) values")
        // Not mkstemp, whose files nobody else may read.
        var name = ""
        var descriptor: Int32 = -1
        var code: Int32 = 0
        repeat {
            name = prefix + String(UInt32.random(in: 0...UInt32.max), radix: 36)
            descriptor = createdDescriptor(name)
            code = errno
            if descriptor >= 0 {
                let isTaken = !locked(descriptor) && errno == EWOULDBLOCK
                if isTaken || !hasName(descriptor) {
                    // Somebody has taken it for abandoned before it was locked.
                    unlink(name)
                    close(descriptor)
                    (descriptor, code) = (-1, EINTR)
                }
            }
        } while descriptor < 0 && (code == EEXIST || code == EINTR)
        let file = RowFile(descriptor, name, rows: rows, columns: columns, start: head.count)
        guard descriptor >= 0 else { throw file.failure("create", code) }
        var status: Int32
        repeat { status = posix_fallocate(descriptor, 0, off_t(file.byteCount)) } while status == EINTR
        guard status == 0 else {
            file.remove()
            throw file.failure("reserve", status)
        }
        do throws(MappedFileError) {
            // No closure: it would not keep the type of what is thrown.
            let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: head.count, alignment: 1)
            defer { bytes.deallocate() }
            bytes.copyBytes(from: head)
            try file.write(UnsafeRawBufferPointer(bytes), at: 0)
        } catch {
            file.remove()
            throw error
        }
        return file
    }

    /// Removes files that `create` has made with this prefix in processes that have ended without removing them: nobody holds
    /// their lock. Where the file system knows no locks, and where a file cannot be opened, they stay.
    package static func removeAbandoned(prefix: String) {
        let folder = prefix.contains("/") ? String(prefix[...prefix.lastIndex(of: "/")!]) : "./"
        let begin = String(prefix.split(separator: "/", omittingEmptySubsequences: false).last ?? "")
        guard let stream = opendir(folder) else { return }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            guard name.hasPrefix(begin), name.utf8.count > begin.utf8.count else { continue }
            let descriptor = openedDescriptor(folder + name)
            guard descriptor >= 0 else { continue }
            if locked(descriptor) { unlink(folder + name) }
            close(descriptor)
        }
    }

    /// The file that another process, or this one, has made.
    ///
    /// - Parameter start: bytes before the rows.
    /// - Throws: `MappedFileError`; its code is ENOENT where the file is not to be seen from here.
    package static func open(
        _ path: String, rows: Int, columns: Int, start: Int = 0
    ) throws(MappedFileError) -> RowFile {
        let descriptor = openedDescriptor(path)
        let code = errno
        let file = RowFile(descriptor, path, rows: rows, columns: columns, start: start)
        guard descriptor >= 0 else { throw file.failure("open", code) }
        return file
    }

    private init(_ descriptor: Int32, _ path: String, rows: Int, columns: Int, start: Int) {
        self.descriptor = descriptor
        self.path = path
        self.rows = rows
        self.columns = columns
        self.start = start
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Takes the name away; the memory stays for those who have the file open.
    package func remove() { unlink(path) }

    /// Gives the file another name, in the place of what had it.
    package func rename(to name: String) throws(MappedFileError) {
        guard renamed(path, name) == 0 else { throw failure("rename", errno) }
    }

    /// Writes whole rows from row `first` on. Safe from several threads and processes for rows that differ.
    package func write(_ values: UnsafeBufferPointer<Float>, first: Int) throws(MappedFileError) {
        precondition(
            values.count % columns == 0 && first >= 0 && first + values.count / columns <= rows,
            "\(values.count) values from row \(first) on in a file of \(rows) x \(columns)")
        try write(UnsafeRawBufferPointer(values), at: start + first * columns * MemoryLayout<Float>.stride)
    }

    private func write(_ bytes: UnsafeRawBufferPointer, at start: Int) throws(MappedFileError) {
        var done = 0
        while done < bytes.count {
            let count = pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(start + done))
            if count < 0 {
                if errno == EINTR { continue }
                throw failure("write", errno)
            }
            done += count
        }
    }

    /// Returns when what was written is on disk, for other hosts to read.
    package func synchronise() throws(MappedFileError) {
        guard fsync(descriptor) == 0 else { throw failure("synchronise", errno) }
    }

    /// The rows, to be read only: writing to them ends the process. They stay when the file is closed or loses its name.
    package func map() throws(MappedFileError) -> AlignedBuffer {
        guard let base = mmap(nil, byteCount, PROT_READ, MAP_SHARED, descriptor, 0), base != MAP_FAILED else {
            throw failure("map", errno)
        }
        // Rows are read in no order: reading ahead would fill the memory with others.
        _ = madvise(base, byteCount, MADV_RANDOM)
        return AlignedBuffer(
            borrowing: base + start, byteCount: byteCount - start,
            owner: MappedFile.Mapping(base: base, byteCount: byteCount))
    }

    private func failure(_ operation: String, _ code: Int32) -> MappedFileError {
        MappedFileError(folder: path, byteCount: byteCount, operation: operation, code: code)
    }
}

/// `open` for reading and writing, of a file that is there and of a new one, and `rename`; free functions, for `RowFile` has
/// methods of these names.
private func openedDescriptor(_ path: String) -> Int32 { open(path, O_RDWR | O_CLOEXEC) }
private func createdDescriptor(_ path: String) -> Int32 { open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666) }
private func locked(_ descriptor: Int32) -> Bool { flock(descriptor, LOCK_EX | LOCK_NB) == 0 }
private func hasName(_ descriptor: Int32) -> Bool {
    var status = stat()
    return fstat(descriptor, &status) != 0 || status.st_nlink > 0
}
private func renamed(_ path: String, _ name: String) -> Int32 { rename(path, name) }
