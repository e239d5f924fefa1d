import Collectives

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// The most memory that the ranks of a job have used.
enum PeakMemory {
    /// MiB of all ranks together. Collective.
    static func sum(_ communicator: any Communicator) throws -> Double {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        return try communicator.allReduce(Double(usage.ru_maxrss) / 1024, .sum, "benchmark")
    }
}
