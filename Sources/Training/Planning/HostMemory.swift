import Collectives

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// What a host has for its ranks.
package struct HostMemory: Sendable, Equatable {
    /// Bytes that processes may use: the machine's memory, or less where a control group says so.
    package var limit: Int
    /// What sets the limit.
    package var origin: String
    /// Bytes free in the shared-memory file system; nil where there is none.
    package var sharedFree: Int?

    package init(limit: Int, origin: String, sharedFree: Int?) {
        self.limit = limit
        self.origin = origin
        self.sharedFree = sharedFree
    }

    /// Of the machine that this process runs on.
    package static var here: HostMemory {
        var result = HostMemory(
            limit: sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE)), origin: "the machine's memory",
            sharedFree: SharedMemoryWindow.freeBytes)
        for (file, limit) in controlGroupLimits() where limit < result.limit {
            result.limit = limit
            result.origin = file
        }
        return result
    }

    /// The memory limits of this process's control group and of those above it, by file; both versions of the interface.
    private static func controlGroupLimits() -> [(file: String, limit: Int)] {
        guard let groups = read("/proc/self/cgroup") else { return [] }
        var found: [(String, Int)] = []
        for line in groups.split(separator: "\n") {
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3 else { continue }
            let isUnified = fields[0] == "0" && fields[1].isEmpty
            guard isUnified || fields[1].split(separator: ",").contains("memory") else { continue }
            let root = isUnified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory"
            let name = isUnified ? "memory.max" : "memory.limit_in_bytes"
            var parts = fields[2].split(separator: "/")
            while true {
                let file = ([root] + parts.map(String.init) + [name]).joined(separator: "/")
                if let text = read(file), let limit = Int(text.filter { !$0.isWhitespace }) { found.append((file, limit)) }
                if parts.isEmpty { break }
                parts.removeLast()
            }
        }
        return found
    }

    private static func read(_ path: String) -> String? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = Glibc.read(file, &bytes, bytes.count)
        return count < 0 ? nil : String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    /// Bytes of this process that are resident now.
    package static var residentBytes: Int {
        guard let fields = read("/proc/self/statm")?.split(separator: " "), fields.count > 1, let pages = Int(fields[1])
        else { return 0 }
        return pages * sysconf(Int32(_SC_PAGESIZE))
    }
}
