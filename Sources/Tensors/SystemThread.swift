import CKernels

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// A thread of the operating system, outside Swift's cooperative pool, because its body blocks.
package final class SystemThread: @unchecked Sendable {
    private var handle = pthread_t()
    private static let stackBytes = 16 << 20

    private final class Start {
        let body: @Sendable () -> Void

        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    /// Starts the thread under a name, for `top -H`, profilers and debuggers; the system keeps 15 bytes of it.
    package init(name: String, _ body: @escaping @Sendable () -> Void) {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        pthread_attr_setstacksize(&attributes, Self.stackBytes)
        let start = Unmanaged.passRetained(
            Start {
                ak_name_thread(name)
                body()
            })
        let status = pthread_create(
            &handle, &attributes,
            { argument in
                let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
                start.body()
                return nil
            }, start.toOpaque())
        pthread_attr_destroy(&attributes)
        guard status == 0 else { fatalError("cannot start the thread '\(name)': error \(status)") }
    }

    /// Waits until the body has returned. Call it, or `detach`, once.
    package func join() { pthread_join(handle, nil) }

    /// Lets the thread end on its own.
    package func detach() { pthread_detach(handle) }
}
