#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Tells a library that was loaded before the program (LD_PRELOAD) where an update begins and ends, if there is one that
/// defines `acuity_step_mark(int begins)`: the test that counts a step's allocations has one
/// (`Tests/ParallelTests/allocations.c`). Otherwise it does nothing.
enum StepMark {
    private typealias Function = @convention(c) (CInt) -> Void

    private static let function = dlsym(nil, "acuity_step_mark").map { unsafeBitCast($0, to: Function.self) }

    static func begin() { function?(1) }
    static func end() { function?(0) }
}
