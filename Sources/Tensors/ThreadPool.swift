import CKernels

/// The process's compute threads: a face of the kernels' pool. Work is split in fixed partitions, so the same number of
/// threads gives the same bits.
package final class ThreadPool: @unchecked Sendable {
    package let handle: OpaquePointer
    package let threads: Int

    /// - Parameter threads: participants, the caller included; all processors of the affinity mask by default.
    package init(threads: Int? = nil) {
        let threads = max(1, threads ?? Self.availableProcessors)
        guard let pool = ak_pool_create(Int32(threads)) else { fatalError("cannot start \(threads) threads") }
        handle = pool
        self.threads = Int(ak_pool_threads(pool))
    }

    deinit { ak_pool_destroy(handle) }

    /// The processors that this process may run on (its affinity mask, as mpirun, Slurm or taskset left it).
    package static var availableProcessors: Int { Int(ak_available_processors()) }

    /// Runs `body(part, parts)` once for each part on all threads and returns when all have ended. Allocates nothing.
    package func run(_ body: (_ part: Int, _ parts: Int) -> Void) { runSwift(handle, body) }

    /// Splits 0..<count into one contiguous range per thread.
    package func forEachRange(_ count: Int, _ body: (Range<Int>) -> Void) {
        run { part, parts in
            let range = count * part / parts..<count * (part + 1) / parts
            if !range.isEmpty { body(range) }
        }
    }
}

/// `ak_pool_run_swift` of the kernels, which has Swift's calling convention.
///
/// A C function pointer with a context would need a closure in memory: `withoutActuallyEscaping` and the box around it
/// are two allocations for every parallel loop. Here the closure arrives as the two words that it is
/// (`Sources/CKernels/pool_swift.h`). The importer of C declarations knows no such functions, so this is declared by
/// name; the two declarations must agree.
@_silgen_name("ak_pool_run_swift")
private func runSwift(_ pool: OpaquePointer, _ body: (Int, Int) -> Void)
