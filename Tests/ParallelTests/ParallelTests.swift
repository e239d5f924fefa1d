import Collectives
import MPICollectives
import Tensors
import TestSupport

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

enum ParallelTests {
    /// Exit code of a lost peer or an unavailable MPI.
    static let unavailable: Int32 = 69

    static func report(_ text: String) {
        let line = Array((text + "\n").utf8)
        _ = line.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }

    /// The world; ends the process when there is none.
    static func start(_ options: MPICommunicator.Options = .init(deadline: 60, startDeadline: 60)) -> MPICommunicator {
        do {
            return try MPICommunicator.initialize(options)
        } catch {
            report("\(error)")
            exit(unavailable)
        }
    }

    /// Every check, first as it is, then with messages cut into small pieces and compared before each collective.
    static func runChecks(hosts: Int) -> Int32 {
        let world = start()
        let layout = MultiRankCheck("the ranks run on \(hosts) hosts") {
            try check($0.topology.hosts == hosts, "MPI tells of \($0.topology.hosts) hosts")
        }
        let plain = [layout] + MultiRankCheck.communicator + MultiRankCheck.reducer + MultiRankCheck.head + mpiChecks
        let cut = MultiRankCheck.communicator + MultiRankCheck.reducer
        let options = MPICommunicator.Options(
            deadline: 60, startDeadline: 60, checksAgreement: true, pieceBytes: 10_000)
        do {
            var failed = 0
            for check in plain { failed += try run(check, world, .init(deadline: 60, startDeadline: 60), "") }
            for check in cut { failed += try run(check, world, options, ", in pieces") }
            if world.rank == 0 {
                print("\(plain.count + cut.count - failed) passed, \(failed) failed")
                fflush(nil)
            }
            try world.finalize()
            return failed == 0 ? 0 : 1
        } catch {
            report("rank \(world.rank): \(error)")
            for entry in world.ring.entries.suffix(12) { report("rank \(world.rank):   \(entry)") }
            world.abort(unavailable)
        }
    }

    /// 1 when the check has failed on some rank. Throws when the ranks can no longer talk.
    private static func run(
        _ check: MultiRankCheck, _ world: MPICommunicator, _ options: MPICommunicator.Options, _ variant: String
    ) throws -> Int {
        let communicator = try world.split(color: 0, key: world.rank, channel: "check", options: options)
        var failed = 0
        do {
            try check.body(communicator)
        } catch {
            report("rank \(world.rank) of \(world.size): '\(check.name)'\(variant) failed: \(error)")
            failed = 1
            // The others may wait for this rank inside the check.
            if error is CollectiveError { throw error }
        }
        return try world.allReduce(failed, .max, "verdict on '\(check.name)'")
    }

    /// What only MPI has.
    private static let mpiChecks = [
        MultiRankCheck("the launcher's environment is understood") { _ in try checkEnvironment() },
        MultiRankCheck("the library names itself") { _ in
            let version = MPICommunicator.libraryVersion
            try check(version.contains("Open MPI"), "version '\(version)'")
        },
        MultiRankCheck("waiting in MPI leaves the processor alone") { communicator in
            try checkWaitingIsCheap(communicator) { try communicator.barrier("long wait") }
        },
        MultiRankCheck("waiting at a window leaves the processor alone") { communicator in
            let window = try communicator.makeSharedWindow(byteCount: 4_096)
            try checkWaitingIsCheap(communicator) { try window?.synchronise() }
        },
        MultiRankCheck("a window larger than the shared memory is refused") { communicator in
            let window = try communicator.makeSharedWindow(byteCount: 1 << 50)
            try check(window == nil, "a window of a pebibyte")
        },
        MultiRankCheck("ranks that disagree are told apart") { communicator in
            guard communicator.size > 1, let world = communicator as? MPICommunicator else { return }
            var options = world.options
            options.checksAgreement = true
            let checked = try world.split(color: 0, key: world.rank, channel: "checked", options: options)
            var values = [Float](repeating: 1, count: 3 + world.rank % 2)
            do {
                try values.withUnsafeMutableBufferPointer { try checked.allReduce($0, .sum, "norm") }
            } catch CollectiveError.mismatch("norm", let detail) {
                try check(detail.contains("sum of 3 Float") && detail.contains("sum of 4 Float"), detail)
                return
            }
            throw CheckFailure("different sizes went unnoticed")
        },
    ]

    /// The last rank is late by half a second; the others must not use a core meanwhile. A waiter that spins uses one every
    /// time; one that sleeps may look so once, on a busy machine.
    private static func checkWaitingIsCheap(_ communicator: any Communicator, _ wait: () throws -> Void) throws {
        func processorSeconds() -> Double {
            var time = timespec()
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
            return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
        }
        var most = [0.0]
        for _ in 0..<3 {
            try communicator.barrier("before a long wait")
            let start = processorSeconds()
            if communicator.rank == communicator.size - 1 { usleep(500_000) }
            try wait()
            most[0] = processorSeconds() - start
            try most.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .max, "processor time") }
            if most[0] < 0.15 { return }
        }
        throw CheckFailure("a rank used \(most[0]) s of processor time in half a second of waiting, three times")
    }

    private static func checkEnvironment() throws {
        func environment(_ variables: [String: String]) -> MPIEnvironment { MPIEnvironment { variables[$0] } }
        let plain = environment([:])
        try check(plain.launcher == .none && plain.disagreement(mpiSize: 1) == nil, "a plain start: \(plain)")
        let mpirun = environment([
            "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "2",
        ])
        try check(mpirun.launcher == .mpirun && mpirun.size == 4 && mpirun.rank == 2, "mpirun in Slurm: \(mpirun)")
        try check(mpirun.localRank == 0 && mpirun.localSize == 2, "local ranks: \(mpirun)")
        try check(mpirun.disagreement(mpiSize: 4) == nil, "4 of 4")
        let srun = environment(["SLURM_STEP_ID": "3", "SLURM_PROCID": "1", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"])
        try check(srun.launcher == .srun && srun.size == 8 && srun.rank == 1 && srun.localRank == 1, "srun: \(srun)")
        let detail = srun.disagreement(mpiSize: 1) ?? ""
        try check(detail.contains("8 processes") && detail.contains("--mpi=pmix"), "wrong srun: \(detail)")
        let batch = environment(["SLURM_NTASKS": "8", "SLURM_PROCID": "0"])
        try check(batch.launcher == .none, "a batch script is no step: \(batch)")
        let hydra = environment(["PMI_SIZE": "2", "PMI_RANK": "1"])
        try check(hydra.launcher == .pmi && hydra.disagreement(mpiSize: 1) != nil, "PMI: \(hydra)")
        try check(environment(["OMPI_COMM_WORLD_SIZE": "-4"]).launcher == .none, "a negative size")
    }

    /// Rank 1 stays away from a barrier; the others must be told so in time, and rank 0 ends the job with 3.
    static func runTimeout() -> Int32 {
        let world = start(.init(deadline: 0.5, startDeadline: 60))
        if world.rank == 1 { sleep(30) }
        let begin = MonotonicClock.seconds
        do {
            try world.barrier("without rank 1")
        } catch CollectiveError.timedOut("without rank 1", let seconds) {
            let waited = MonotonicClock.seconds - begin
            let running = world.ring.entries.last
            if seconds == 0.5 && waited < 3 && running?.state == .failed && world.rank == 0 {
                print("timed out as it should")
                fflush(nil)
            }
            // Nothing can follow a collective that has timed out, and finalize must not hang.
            do { try world.finalize() } catch { world.abort(3) }
        } catch {
            report("\(error)")
        }
        return 1
    }

    /// The last rank aborts while the others wait in a collective.
    static func runAbort() -> Int32 {
        let world = start()
        if world.rank == world.size - 1 { world.abort(7) }
        try? world.barrier("never")
        sleep(30)
        return 1
    }

    /// Times the reducer against one all-reduce of the same size; rank 0 prints medians over 15 rounds.
    static func measureReduction(mebibytes: Int) -> Int32 {
        let world = start()
        let count = mebibytes << 18
        let bucket = 4 << 20
        let buckets = stride(from: 0, to: count, by: bucket).map { $0..<min($0 + bucket, count) }
        do {
            for sharesMemory in [true, false] {
                let reducer = try GradientReducer(
                    communicator: world, elementCount: count, bucketRanges: buckets, sharesMemory: sharesMemory)
                reducer.gradients.update(repeating: 1)
                try measure("reducer, \(reducer.route), \(buckets.count) buckets", mebibytes, world) {
                    reducer.begin()
                    for index in buckets.indices { reducer.bucketReady(index) }
                    try reducer.finish()
                }
            }
            let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: count)
            defer { values.deallocate() }
            values.initialize(repeating: 1)
            try measure("one all-reduce", mebibytes, world) { try world.allReduce(values, .sum, "all") }
            try world.finalize()
            return 0
        } catch {
            report("\(error)")
            world.abort(unavailable)
        }
    }

    private static func measure(
        _ name: String, _ mebibytes: Int, _ world: MPICommunicator, _ body: () throws -> Void
    ) throws {
        var seconds: [Double] = []
        for round in -2..<15 {
            try world.barrier("round")
            let start = MonotonicClock.seconds
            try body()
            if round >= 0 { seconds.append(MonotonicClock.seconds - start) }
        }
        seconds.sort()
        let milliseconds = { (value: Double) in (value * 1e5).rounded() / 100 }
        if world.rank == 0 {
            print(
                "\(mebibytes) MiB, \(world.size) ranks, \(name): median \(milliseconds(seconds[7])) ms "
                    + "(\(milliseconds(seconds[0]))-\(milliseconds(seconds[14])))")
        }
    }
}
