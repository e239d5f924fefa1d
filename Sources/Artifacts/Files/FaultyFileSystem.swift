internal import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Passes file operations on until the n-th (from 0), which fails. Every write, fsync and rename of a checkpoint is such
/// an operation, so each of them can be made to fail in turn; for tests, and for faults injected into a run.
package final class FaultyFileSystem: FileSystem, @unchecked Sendable {
    package enum Fault: Sendable, Equatable {
        /// The operation is half done and fails, once, with this errno.
        case once(Int32)
        /// From here on nothing that needs space works.
        case full
        /// The process ends as far as files can tell: this operation is half done, and no other follows.
        case crash
        /// The process ends in truth: this operation is half done, then SIGKILL.
        case kill
        /// Half of the next write arrives on the disk, once, and nobody is told.
        case torn
    }

    /// The process has ended.
    package struct Crash: Error {
        package init() {}
    }

    private let base: any FileSystem
    // Guarded by the lock.
    private var place: Int
    private var fault: Fault
    private var count = 0
    private var hasFired = false
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

    /// - Parameter place: the operation that fails; all kinds are counted together. By default none does until `arm`.
    package init(_ base: any FileSystem, at place: Int = .max, _ fault: Fault = .full) {
        self.base = base
        self.place = place
        self.fault = fault
        lock.initialize(to: pthread_mutex_t())
        pthread_mutex_init(lock, nil)
    }

    deinit {
        pthread_mutex_destroy(lock)
        lock.deallocate()
    }

    private func withLock<Result>(_ body: () -> Result) -> Result {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return body()
    }

    /// Lets the operation fail that follows `operations` more.
    package func arm(after operations: Int = 0, _ fault: Fault) {
        withLock {
            place = count + operations
            self.fault = fault
        }
    }

    /// From here on everything works.
    package func disarm() { withLock { place = .max } }

    /// Operations that have begun.
    package var operations: Int { withLock { count } }
    /// Whether the fault has struck.
    package var fired: Bool { withLock { hasFired } }
    /// Whether the process has ended.
    package var crashed: Bool { withLock { fault == .crash && hasFired } }

    enum Need { case space, none }

    /// Counts an operation and throws what it has to suffer; `half` is done before the error.
    ///
    /// - Returns: whether the operation is to be done; false where half of it was.
    @discardableResult
    fileprivate func step(
        _ operation: String, _ path: String, _ need: Need, half: (() throws -> Void)? = nil
    ) throws -> Bool {
        let (fault, distance) = withLock { () -> (Fault, Int) in
            count += 1
            let distance = count - 1 - place
            if distance < 0 { return (self.fault, distance) }
            if self.fault == .torn {
                // It waits for a write.
                place = half == nil ? count : .max
                hasFired = hasFired || half != nil
            } else {
                hasFired = true
            }
            return (self.fault, distance)
        }
        switch fault {
        case .crash where distance == 0:
            try half?()
            throw Crash()
        case .crash where distance > 0: throw Crash()
        case .kill where distance == 0:
            try half?()
            _ = systemKill(getpid(), SIGKILL)
        case .once(let code) where distance == 0:
            try half?()
            throw FileSystemError(operation, path, code: code)
        case .full where distance >= 0 && need == .space:
            try half?()
            throw FileSystemError(operation, path, code: ENOSPC)
        case .torn where distance >= 0:
            guard let half else { break }
            try half()
            return false
        default: break
        }
        return true
    }

    package func createFile(_ path: String, exclusive: Bool) throws -> any WritableFile {
        try step("create", path, .space)
        return Writer(try base.createFile(path, exclusive: exclusive), path, self)
    }

    package func openFile(_ path: String) throws -> any ReadableFile {
        try step("open", path, .none)
        return Reader(try base.openFile(path), path, self)
    }

    package func rename(_ source: String, to destination: String) throws {
        try step("rename", source, .none)
        try base.rename(source, to: destination)
    }

    package func makeDirectory(_ path: String) throws {
        try step("make folder", path, .space)
        try base.makeDirectory(path)
    }

    package func removeFile(_ path: String) throws {
        try step("remove", path, .none)
        try base.removeFile(path)
    }

    package func removeFile(_ path: String, holding bytes: [UInt8]) throws {
        try step("remove", path, .none)
        try base.removeFile(path, holding: bytes)
    }

    package func removeDirectory(_ path: String) throws {
        try step("remove folder", path, .none)
        try base.removeDirectory(path)
    }

    package func synchroniseDirectory(_ path: String) throws {
        try step("fsync folder", path, .none)
        try base.synchroniseDirectory(path)
    }

    package func entries(of path: String) throws -> [String] {
        try step("list", path, .none)
        return try base.entries(of: path)
    }

    package func kind(of path: String) throws -> FileKind? {
        try step("examine", path, .none)
        return try base.kind(of: path)
    }

    private final class Writer: WritableFile {
        let base: any WritableFile
        let path: String
        let injector: FaultyFileSystem

        init(_ base: any WritableFile, _ path: String, _ injector: FaultyFileSystem) {
            self.base = base
            self.path = path
            self.injector = injector
        }

        func write(_ bytes: UnsafeRawBufferPointer) throws {
            let isWhole = try injector.step("write", path, .space) { [base] in
                try base.write(UnsafeRawBufferPointer(rebasing: bytes.prefix(bytes.count / 2)))
            }
            if isWhole { try base.write(bytes) }
        }

        func synchronise() throws {
            try injector.step("fsync", path, .space)
            try base.synchronise()
        }

        func close() throws {
            try injector.step("close", path, .none)
            try base.close()
        }
    }

    private final class Reader: ReadableFile {
        let base: any ReadableFile
        let path: String
        let injector: FaultyFileSystem

        init(_ base: any ReadableFile, _ path: String, _ injector: FaultyFileSystem) {
            self.base = base
            self.path = path
            self.injector = injector
        }

        var byteCount: Int { base.byteCount }

        func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws {
            try injector.step("read", path, .none)
            try base.read(at: offset, into: buffer)
        }

        func map() throws -> AlignedBuffer {
            try injector.step("map", path, .none)
            return try base.map()
        }
    }
}

private func systemKill(_ process: pid_t, _ number: Int32) -> Int32 { kill(process, number) }
