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
case nil: status = ParallelTests.runChecks(hosts: 1)
case "hosts": status = ParallelTests.runChecks(hosts: arguments.dropFirst().first.flatMap { Int($0) } ?? 1)
case "timeout": status = ParallelTests.runTimeout()
case "abort": status = ParallelTests.runAbort()
case "measure":
    status = ParallelTests.measureReduction(mebibytes: arguments.dropFirst().first.flatMap { Int($0) } ?? 96)
case let mode?:
    ParallelTests.report("no mode '\(mode)': none, hosts N, timeout, abort or measure [MiB]")
    status = 64
}
exit(status)
