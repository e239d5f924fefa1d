// The checks of the unit tests, run by the ranks of a real MPI job. See `run` beside this file.

import Collectives
import MPICollectives
import TestSupport

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

let arguments = Array(CommandLine.arguments.dropFirst())
let status: Int32
switch arguments.first {
case nil: status = ParallelTests.runChecks()
case "timeout": status = ParallelTests.runTimeout()
case "abort": status = ParallelTests.runAbort()
case "measure":
    status = ParallelTests.measureReduction(mebibytes: arguments.dropFirst().first.flatMap { Int($0) } ?? 96)
case let mode?:
    ParallelTests.report("no mode '\(mode)': none, timeout, abort or measure [MiB]")
    status = 64
}
exit(status)
