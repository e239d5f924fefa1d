#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

/// How much can still be written.
package enum DiskSpace {
    /// Bytes that are free to this user where `folder` lies; nil when the system does not say.
    package static func free(_ folder: String) -> UInt64? {
        var information = statvfs()
        guard statvfs(folder, &information) == 0 else { return nil }
        return UInt64(information.f_bavail) * UInt64(information.f_frsize)
    }
}
