#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// A clock that never jumps.
package enum MonotonicClock {
    package static var nanoseconds: UInt64 {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
    }

    package static var seconds: Double { Double(nanoseconds) * 1e-9 }
}

/// Seconds of the monotonic clock.
package func monotonicSeconds() -> Double { MonotonicClock.seconds }
