#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Who holds a run.
package struct ProcessIdentity: Sendable, Equatable {
    package let host: String
    package let pid: Int
    /// When the process started, as the kernel counts it: "BOOT/TICKS". It tells a process from a later one that was
    /// given the same number. Empty where the system does not say.
    package let start: String

    package init(host: String, pid: Int, start: String) {
        self.host = host
        self.pid = pid
        self.start = start
    }

    package static var current: ProcessIdentity {
        let pid = Int(getpid())
        return ProcessIdentity(host: hostName, pid: pid, start: start(of: pid) ?? "")
    }

    private static var hostName: String {
        var name = [UInt8](repeating: 0, count: 256)
        let status = name.withUnsafeMutableBytes { gethostname($0.baseAddress!, $0.count - 1) }
        return status == 0 ? String(decoding: name.prefix { $0 != 0 }, as: UTF8.self) : "unknown"
    }

    /// Whether the process still runs; for a process of this host. One that has ended and that nobody has collected yet
    /// (in containers often nobody ever does) runs no more.
    package var isRunning: Bool {
        guard let pid = pid_t(exactly: self.pid), pid > 0 else { return false }
        if let fields = Self.status(of: self.pid), ["Z", "X"].contains(fields[0]) { return false }
        if let now = Self.start(of: self.pid) { return start.isEmpty || now == start }
        return kill(pid, 0) == 0 || errno != ESRCH
    }

    /// The boot's identity and field 22 of /proc/PID/stat (proc(5)); nil without such a process or without /proc.
    private static func start(of pid: Int) -> String? {
        guard let fields = status(of: pid) else { return nil }
        let boot = processText("/proc/sys/kernel/random/boot_id") ?? ""
        return boot.filter { !$0.isWhitespace } + "/" + fields[19]
    }

    /// The fields of /proc/PID/stat from the third on, which is the state.
    private static func status(of pid: Int) -> [Substring]? {
        guard let status = processText("/proc/\(pid)/stat"), let name = status.lastIndex(of: ")") else { return nil }
        // The name before ")" is the process's choice and may hold anything; field 3 follows it.
        let fields = status[status.index(after: name)...].split(separator: " ")
        return fields.count > 19 ? fields : nil
    }

    /// The text of a file under /proc, whose size is not known before it is read.
    private static func processText(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 4_096)
        let count = bytes.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
        return count > 0 ? String(decoding: bytes.prefix(count), as: UTF8.self) : nil
    }
}

/// The lock of a run folder, `RUN/run.lock`, so that two jobs never write one run. For rank 0.
///
/// A lock is stale, and taken over, when its host is this one and its process has ended. A lock of another host cannot
/// be judged from here: it takes `force`, or a hand that removes the file.
package struct RunLock: Sendable {
    package static let fileName = "run.lock"

    package let path: String
    private let text: [UInt8]
    private let fileSystem: any FileSystem

    /// - Parameters:
    ///   - force: take the lock whoever holds it; for a launcher that knows that no other job runs.
    ///   - identity: who takes it.
    ///   - isRunning: whether a process of this host still runs.
    /// - Throws: `ArtifactError` `.locked`, naming the holder; `.cannotWrite`, `.cannotRead`.
    package static func acquire(
        runFolder: String, force: Bool = false, identity: ProcessIdentity = .current,
        isRunning: (ProcessIdentity) -> Bool = { $0.isRunning }, fileSystem: any FileSystem = POSIXFileSystem()
    ) throws -> RunLock {
        let path = joinedPath(runFolder, fileName)
        let lock = RunLock(path: path, text: encode(identity), fileSystem: fileSystem)
        do {
            try fileSystem.makeDirectories(runFolder)
            // Each round either has the lock, or fails, or saw it change hands: a few rounds are plenty.
            for _ in 0..<8 {
                if try lock.create() { return lock }
                guard let held = try lock.heldText() else { continue }
                let holder = try? decode(held)
                if !force {
                    guard let holder, holder.host == identity.host, !isRunning(holder) else {
                        throw lock.locked(holder)
                    }
                }
                // Another job may have taken the stale lock over since it was read: that one stays.
                try lock.clear(held)
            }
        } catch let error as FileSystemError {
            throw ArtifactError.writing(error)
        }
        throw ArtifactError.locked(path: path, reason: "other jobs keep taking it")
    }

    /// Gives the lock back, unless another job has taken it by force.
    ///
    /// - Throws: `ArtifactError.cannotWrite`.
    package func release() throws {
        do {
            try clear(text)
        } catch let error as FileSystemError {
            throw ArtifactError.writing(error)
        }
    }

    /// False when the file is there already.
    private func create() throws -> Bool {
        let file: any WritableFile
        do {
            file = try fileSystem.createFile(path, exclusive: true)
        } catch let error as FileSystemError where error.code == EEXIST {
            return false
        }
        do {
            try text.withUnsafeBytes { try file.write($0) }
            // An empty lock after a power loss could not be judged.
            try file.synchronise()
            try file.close()
        } catch {
            try? file.close()
            try? fileSystem.removeFile(path)
            throw error
        }
        return true
    }

    private func heldText() throws -> [UInt8]? {
        do {
            return try fileSystem.readFile(path, atMost: 4_096)
        } catch let error as FileSystemError where error.isNotFound {
            return nil
        }
    }

    /// Removes the lock that reads `held`; another one stays.
    private func clear(_ held: [UInt8]) throws {
        do {
            try fileSystem.removeFile(path, holding: held)
        } catch let error as FileSystemError where error.isNotFound {}
    }

    private func locked(_ holder: ProcessIdentity?) -> ArtifactError {
        let who =
            if let holder { "process \(holder.pid) on \(quoted(holder.host)) holds it" } else {
                "its text does not say who holds it"
            }
        return .locked(path: path, reason: "\(who); if no job writes this run any more, remove the file")
    }

    private static func encode(_ identity: ProcessIdentity) -> [UInt8] {
        Array(
            ("{\"host\": \(JSONText.string(identity.host)), \"pid\": \(identity.pid), "
                + "\"start\": \(JSONText.string(identity.start))}\n").utf8)
    }

    private static func decode(_ bytes: [UInt8]) throws -> ProcessIdentity {
        var scanner = JSONScanner(bytes)
        var host: String?
        var pid: Int?
        var start: String?
        try scanner.object { scanner, key in
            switch key {
            case "host": host = try scanner.string()
            case "pid": pid = try scanner.count()
            case "start": start = try scanner.string()
            default: throw scanner.failure("unknown key \(quoted(key))")
            }
        }
        try scanner.finish(padding: [0x0A])
        guard let host, let pid, let start else { throw scanner.failure("host, pid and start are needed", at: 0) }
        return ProcessIdentity(host: host, pid: pid, start: start)
    }
}
