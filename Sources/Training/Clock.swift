#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Seconds of a clock that never jumps.
package func monotonicSeconds() -> Double {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) * 1e-9
}
