internal import Tensors

#if canImport(Glibc)
    internal import Glibc
#else
    internal import Musl
#endif

/// A lock with a condition to wait for.
final class Monitor: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init() {
        mutex.initialize(to: pthread_mutex_t())
        condition.initialize(to: pthread_cond_t())
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    func locked<T>(_ body: () -> T) -> T {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }

    /// Waits for a change; only inside `locked`.
    func wait() { pthread_cond_wait(condition, mutex) }

    /// Wakes all that wait.
    func notifyAll() { pthread_cond_broadcast(condition) }
}

/// A thread of the operating system.
final class WorkerThread: Sendable {
    private let handle: pthread_t

    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    init(name: String, _ run: @escaping @Sendable () -> Void) {
        var handle = pthread_t()
        let body = Body {
            nameThread(name)
            run()
        }
        let context = Unmanaged.passRetained(body).toOpaque()
        let status = pthread_create(
            &handle, nil,
            { context in
                Unmanaged<Body>.fromOpaque(context!).takeRetainedValue().run()
                return nil
            }, context)
        guard status == 0 else { fatalError("cannot start a thread: \(String(cString: strerror(status)))") }
        self.handle = handle
    }

    func join() { pthread_join(handle, nil) }
}
