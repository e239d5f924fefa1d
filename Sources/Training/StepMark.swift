#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Tells a library that was loaded before the program (LD_PRELOAD) where a step begins, if there is one that defines
/// `acuity_step_mark(void)`: the test that counts a step's allocations has one (`Tests/ParallelTests/allocations.c`).
/// Otherwise it does nothing.
enum StepMark {
    private typealias Function = @convention(c) () -> Void

    private static let function = dlsym(nil, "acuity_step_mark").map { unsafeBitCast($0, to: Function.self) }

    static func begin() { function?() }
}
