import CKernels

/// The process's compute threads: a face of the kernels' pool. Work is split in fixed partitions, so the same number of
/// threads gives the same bits.
package final class ThreadPool: @unchecked Sendable {
    package let handle: OpaquePointer
    package let threads: Int

    /// - Parameter threads: participants, the caller included; all processors of the affinity mask by default.
    package init(threads: Int? = nil) {
        let threads = max(1, threads ?? Self.availableProcessors)
        guard let pool = ak_pool_create(Int32(threads), nil) else { fatalError("cannot start \(threads) threads") }
        handle = pool
        self.threads = Int(ak_pool_threads(pool))
    }

    deinit { ak_pool_destroy(handle) }

    /// The processors that this process may run on (its affinity mask, as mpirun, Slurm or taskset left it).
    package static var availableProcessors: Int { Int(ak_available_processors()) }

    /// Runs `body(part, parts)` once for each part on all threads and returns when all have ended.
    package func run(_ body: (_ part: Int, _ parts: Int) -> Void) {
        withoutActuallyEscaping(body) { body in
            var box = body
            withUnsafeMutablePointer(to: &box) { pointer in
                ak_pool_run(
                    handle,
                    { context, part, parts in
                        let body = context!.assumingMemoryBound(to: ((Int, Int) -> Void).self)
                        body.pointee(Int(part), Int(parts))
                    }, pointer)
            }
        }
    }

    /// Splits 0..<count into one contiguous range per thread.
    package func forEachRange(_ count: Int, _ body: (Range<Int>) -> Void) {
        run { part, parts in
            let range = count * part / parts..<count * (part + 1) / parts
            if !range.isEmpty { body(range) }
        }
    }
}
