internal import Synchronization
package import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// A `SharedWindow` in the host's shared-memory file system, for ranks that are processes.
///
/// The pages are reserved when the window is made: a file system that is too small gives nil instead of a bus error at
/// the first write. The file has no name once all ranks have opened it, so nothing is left behind after a crash.
package final class SharedMemoryWindow: SharedWindow, @unchecked Sendable {
    package let own: AlignedBuffer
    package let segments: [UnsafeMutableRawPointer]
    private let mapping: Mapping
    private let arrival: ArrivalCounter

    private static let page = 4096

    /// Makes a window of `byteCount` bytes for each rank of `host`, a communicator of ranks that share memory; nil on
    /// all of them when the memory is not there.
    ///
    /// - Parameter deadline: seconds after which `synchronise` throws.
    package static func make(
        byteCount: Int, host: any Communicator, deadline: Double
    ) throws -> SharedMemoryWindow? {
        precondition(byteCount > 0, "a window of \(byteCount) bytes")
        let segment = (byteCount + page - 1) / page * page
        let total = page + segment * host.size
        let created = host.rank == 0 ? SharedMemoryFile.create(byteCount: total) : nil
        let name = try host.broadcast(Array((created?.name ?? "").utf8), root: 0, "window name")
        defer { created?.unlink() }
        guard !name.isEmpty else { return nil }
        let file = created ?? SharedMemoryFile.open(String(decoding: name, as: UTF8.self), byteCount: total)
        guard try host.allReduce(file == nil ? 0 : 1, .min, "window opened") == 1, let file else { return nil }
        created?.unlink()
        // Each rank reserves its own segment, so that the pages lie in the memory next to it.
        let start = host.rank == 0 ? 0 : page + segment * host.rank
        let end = page + segment * (host.rank + 1)
        let mapping = file.reserve(start..<end) ? file.map(byteCount: total) : nil
        guard try host.allReduce(mapping == nil ? 0 : 1, .min, "window mapped") == 1, let mapping else { return nil }
        return SharedMemoryWindow(mapping, byteCount: byteCount, segment: segment, host: host, deadline: deadline)
    }

    private init(_ mapping: Mapping, byteCount: Int, segment: Int, host: any Communicator, deadline: Double) {
        self.mapping = mapping
        let first = mapping.base + Self.page
        segments = (0..<host.size).map { first + $0 * segment }
        own = AlignedBuffer(borrowing: segments[host.rank], byteCount: byteCount, owner: mapping)
        arrival = ArrivalCounter(at: mapping.base, ranks: host.size, deadline: deadline)
    }

    package func synchronise() throws { try arrival.synchronise() }

    /// Bytes that the shared-memory file system has left; nil where there is none.
    package static var freeBytes: Int? {
        var status = statvfs()
        guard statvfs("/dev/shm", &status) == 0 else { return nil }
        return Int(status.f_bavail) * Int(status.f_frsize)
    }
}

/// A barrier in shared memory: counts arrivals for ever, so a round is over when it has seen ranks × rounds of them.
final class ArrivalCounter: @unchecked Sendable {
    private struct Header: ~Copyable {
        let arrivals = Atomic<UInt64>(0)
        let broken = Atomic<UInt64>(0)
    }

    private let header: UnsafeMutablePointer<Header>
    private let ranks: UInt64
    private let deadline: Double
    private var rounds: UInt64 = 0

    /// How long to spin before sleeping: about what a barrier between running threads takes.
    private static let spinNanoseconds: UInt64 = 20_000

    /// - Parameter memory: shared by the ranks and zero before the first of them arrives, which is what the fields of
    ///   the header start from.
    init(at memory: UnsafeMutableRawPointer, ranks: Int, deadline: Double) {
        header = memory.bindMemory(to: Header.self, capacity: 1)
        self.ranks = UInt64(ranks)
        self.deadline = deadline
    }

    func synchronise() throws {
        rounds += 1
        let target = rounds * ranks
        header.pointee.arrivals.add(1, ordering: .acquiringAndReleasing)
        let start = MonotonicClock.nanoseconds
        while header.pointee.arrivals.load(ordering: .acquiring) < target {
            let elapsed = MonotonicClock.nanoseconds - start
            if elapsed < Self.spinNanoseconds { continue }
            if header.pointee.broken.load(ordering: .acquiring) != 0 {
                throw CollectiveError.peerLost(label: "window", detail: "a neighbour on this host has given up waiting")
            }
            if Double(elapsed) * 1e-9 > deadline {
                header.pointee.broken.store(1, ordering: .releasing)
                throw CollectiveError.timedOut(label: "window", seconds: deadline)
            }
            // A waiting rank must not take a core from the neighbour it waits for.
            usleep(elapsed < 2_000_000 ? 20 : elapsed < 50_000_000 ? 100 : 500)
        }
    }
}

/// A mapped range of memory.
private final class Mapping: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    private let byteCount: Int

    init(base: UnsafeMutableRawPointer, byteCount: Int) {
        self.base = base
        self.byteCount = byteCount
    }

    deinit { munmap(base, byteCount) }
}

/// A file of the shared-memory file system.
private final class SharedMemoryFile {
    let name: String
    private let descriptor: Int32
    private var named: Bool

    private init(name: String, descriptor: Int32, named: Bool) {
        self.name = name
        self.descriptor = descriptor
        self.named = named
    }

    deinit { close(descriptor) }

    /// A new file under a name of its own; nil when the file system cannot hold `byteCount` more bytes.
    static func create(byteCount: Int) -> SharedMemoryFile? {
        let name = "/acuity-\(getpid())-" + String(UInt64.random(in: .min ... .max), radix: 16)
        let descriptor = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0o600)
        guard descriptor >= 0 else { return nil }
        let file = SharedMemoryFile(name: name, descriptor: descriptor, named: true)
        var status = statvfs()
        guard
            fstatvfs(descriptor, &status) == 0, Int(status.f_bavail) >= byteCount / Int(max(1, status.f_frsize)) + 1,
            ftruncate(descriptor, byteCount) == 0
        else {
            file.unlink()
            return nil
        }
        return file
    }

    /// The file that another rank has created; nil when this rank does not see it.
    static func open(_ name: String, byteCount: Int) -> SharedMemoryFile? {
        let descriptor = shm_open(name, O_RDWR, 0)
        guard descriptor >= 0 else { return nil }
        let file = SharedMemoryFile(name: name, descriptor: descriptor, named: false)
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_size == byteCount else { return nil }
        return file
    }

    /// Removes the name; the memory lives as long as it is open or mapped.
    func unlink() {
        if named { shm_unlink(name) }
        named = false
    }

    /// Takes the pages of `range` from the file system now; false when it has not enough.
    func reserve(_ range: Range<Int>) -> Bool {
        var status = EINTR
        while status == EINTR { status = posix_fallocate(descriptor, range.lowerBound, range.count) }
        return status == 0
    }

    func map(byteCount: Int) -> Mapping? {
        guard let base = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), base != MAP_FAILED
        else { return nil }
        _ = madvise(base, byteCount, MADV_HUGEPAGE)
        return Mapping(base: base, byteCount: byteCount)
    }
}
