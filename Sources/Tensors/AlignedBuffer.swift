#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// A block of memory aligned to 64 bytes, or to 2 MiB and backed by huge pages when it is large.
///
/// The bytes are zero at first. A buffer either owns its memory or keeps alive the object that does (an arena, a
/// mapped file, a window shared between ranks).
package final class AlignedBuffer: @unchecked Sendable {
    package let base: UnsafeMutableRawPointer
    package let byteCount: Int
    private let owner: AnyObject?
    private let owned: Bool

    private static let hugePage = 2 << 20
    /// Below this size huge pages waste more than they save.
    private static let hugePageThreshold = 4 << 20

    /// Allocates zeroed memory of at least `byteCount` bytes.
    package init(byteCount: Int) {
        precondition(byteCount >= 0, "negative buffer size \(byteCount)")
        let huge = byteCount >= Self.hugePageThreshold
        let alignment = huge ? Self.hugePage : 64
        let size = max(alignment, (byteCount + alignment - 1) / alignment * alignment)
        var pointer: UnsafeMutableRawPointer?
        let status = posix_memalign(&pointer, alignment, size)
        guard status == 0, let pointer else { fatalError("out of memory: \(size) bytes") }
        if huge { _ = madvise(pointer, size, MADV_HUGEPAGE) }
        memset(pointer, 0, size)
        base = pointer
        self.byteCount = byteCount
        owner = nil
        owned = true
    }

    /// A view of memory that `owner` keeps alive.
    package init(borrowing base: UnsafeMutableRawPointer, byteCount: Int, owner: AnyObject?) {
        self.base = base
        self.byteCount = byteCount
        self.owner = owner
        owned = false
    }

    deinit {
        if owned { free(base) }
    }
}
