internal import COpenMPI
package import Collectives
internal import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// One rank of an MPI job.
///
/// All MPI calls run on one thread of their own, so a communicator may be used from any thread; two threads that call
/// collectives at the same time need communicators of their own (`split`). Communicators live until MPI is finalised.
package final class MPICommunicator: Communicator, @unchecked Sendable {
    package struct Options: Sendable {
        /// Seconds after which a collective throws `CollectiveError.timedOut`.
        package var deadline: Double
        /// Seconds that starting and ending MPI may take.
        package var startDeadline: Double
        /// Compares operation, sizes and label over the ranks before each collective.
        package var checksAgreement: Bool
        /// The most bytes that one MPI call sends to, or receives from, all ranks together: MPI counts in 32 bits.
        package var pieceBytes: Int

        package init(
            deadline: Double = 300, startDeadline: Double = 120, checksAgreement: Bool = false,
            pieceBytes: Int = 1 << 30
        ) {
            self.deadline = deadline
            self.startDeadline = startDeadline
            self.checksAgreement = checksAgreement
            self.pieceBytes = pieceBytes
        }
    }

    package let rank: Int
    package let size: Int
    package let topology: Topology
    package let ring: CollectiveRing
    let handle: MPI_Comm
    let engine: MPIEngine
    package let options: Options
    let channel: String
    let operation = MPIOperation()
    /// Grows to what `reduceScatter` needs.
    var receivedBlocks = AlignedBuffer(byteCount: 0)
    /// The host of each rank, as the world numbers hosts.
    private let hosts: [Int]

    private init(
        handle: MPI_Comm, rank: Int, hosts: [Int], hostName: String, channel: String, ring: CollectiveRing,
        engine: MPIEngine, options: Options
    ) {
        self.handle = handle
        self.rank = rank
        self.hosts = hosts
        size = hosts.count
        topology = Topology(rank: rank, hosts: hosts) { _ in hostName }
        self.channel = channel
        self.ring = ring
        self.engine = engine
        self.options = options
    }

    /// Initialises MPI and returns the world's communicator. Once per process.
    ///
    /// Without a launcher there is no need of MPI: ask `MPIEnvironment.launched` first.
    ///
    /// Throws `CollectiveError.unavailable` when MPI cannot start, or when its world is not what the launcher has
    /// started; `CollectiveError.timedOut` when ranks do not arrive.
    package static func initialize(
        _ options: Options = Options(), environment: MPIEnvironment = .current, ring: CollectiveRing = CollectiveRing()
    ) throws -> MPICommunicator {
        let engine = MPIEngine()
        let start = Start()
        try engine.perform(.other { _ in start.initialize() }, "start of MPI", deadline: options.startDeadline)
        guard start.threading >= MPI_THREAD_SERIALIZED else {
            try? engine.finalize(deadline: options.startDeadline)
            throw CollectiveError.unavailable(
                "the library offers thread level \(start.threading); MPI_THREAD_SERIALIZED (\(MPI_THREAD_SERIALIZED)) "
                    + "is needed: use an OpenMPI built with threads")
        }
        if let detail = environment.disagreement(mpiSize: Int(start.size)) {
            try? engine.finalize(deadline: options.startDeadline)
            throw CollectiveError.unavailable(detail)
        }
        return MPICommunicator(
            handle: acuity_mpi_comm_world(), rank: Int(start.rank), hosts: start.leaders.map(Int.init),
            hostName: start.hostName, channel: "world", ring: ring, engine: engine, options: options)
    }

    /// What the MPI thread finds out when it starts.
    private final class Start: @unchecked Sendable {
        var threading: Int32 = 0
        var rank: Int32 = 0
        var size: Int32 = 0
        /// For each rank the first rank of its host.
        var leaders: [Int32] = []
        var hostName = ""

        func initialize() -> Int32 {
            let world = acuity_mpi_comm_world()
            // OpenMPI 4.1 sends large messages over TCP as remote writes, whose requests wait behind the other direction's
            // data: an exchange takes up to 1.8 times as long as by plain sends. What the user has set stays.
            setenv("OMPI_MCA_btl_tcp_flags", "send,inplace", 0)
            var code = MPI_Init_thread(nil, nil, Int32(MPI_THREAD_SERIALIZED), &threading)
            func then(_ call: () -> Int32) { if code == MPI_SUCCESS { code = call() } }
            // Communicators made from these inherit the handler.
            then { MPI_Comm_set_errhandler(world, acuity_mpi_errors_return()) }
            then { MPI_Comm_set_errhandler(acuity_mpi_comm_self(), acuity_mpi_errors_return()) }
            then { MPI_Comm_rank(world, &rank) }
            then { MPI_Comm_size(world, &size) }
            var local: MPI_Comm? = acuity_mpi_comm_null()
            then {
                MPI_Comm_split_type(world, Int32(MPI_COMM_TYPE_SHARED), rank, acuity_mpi_info_null(), &local)
            }
            var leader = rank
            then { MPI_Bcast(&leader, 1, acuity_mpi_int32(), 0, local) }
            leaders = [Int32](repeating: 0, count: Int(size))
            then { MPI_Allgather(&leader, 1, acuity_mpi_int32(), &leaders, 1, acuity_mpi_int32(), world) }
            then { MPI_Comm_free(&local) }
            hostName = MPIEngine.mpiString(Int(MPI_MAX_PROCESSOR_NAME)) { MPI_Get_processor_name($0, $1) } ?? ""
            return code
        }
    }

    /// Ends MPI: all ranks call it, on any one communicator, after their last collective.
    ///
    /// Throws when a peer does not arrive; the process then has to end without it, by `abort`.
    package func finalize() throws {
        try barrier("end of the job")
        try engine.finalize(deadline: options.startDeadline)
    }

    /// Ends all ranks of the job with exit code `code`, from any thread and in any state.
    package func abort(_ code: Int32) -> Never {
        _ = try? engine.perform(.other { _ in MPI_Abort(acuity_mpi_comm_world(), code) }, "abort", deadline: 2)
        // MPI no longer answers: a launcher ends all ranks when one leaves with an error.
        _exit(code)
    }

    /// MPI's own description, its first line.
    package static var libraryVersion: String {
        let text = MPIEngine.mpiString(Int(MPI_MAX_LIBRARY_VERSION_STRING)) { MPI_Get_library_version($0, $1) } ?? ""
        return text.split(separator: "\n").first.map(String.init) ?? "unknown"
    }

    package func split(color: Int, key: Int, channel: String) throws -> any Communicator {
        try split(color: color, key: key, channel: channel, options: options)
    }

    /// The same with other options for the new communicator.
    package func split(color: Int, key: Int, channel: String, options: Options) throws -> MPICommunicator {
        let label = "split for \(channel)"
        // The call below blocks and knows no deadline; after this one all ranks are about to make it.
        try barrier(label)
        let made = Made()
        let parent = handle
        let key = Int32(key)
        let color = Int32(color)
        let call = MPICall.other { _ in
            var code = MPI_Comm_split(parent, color, key, &made.handle)
            if code == MPI_SUCCESS { code = MPI_Comm_rank(made.handle, &made.rank) }
            if code == MPI_SUCCESS { code = MPI_Comm_size(made.handle, &made.size) }
            if code == MPI_SUCCESS {
                made.hosts = [Int32](repeating: 0, count: Int(made.size))
                var host = Int32(self.hosts[self.rank])
                code = MPI_Allgather(
                    &host, 1, acuity_mpi_int32(), &made.hosts, 1, acuity_mpi_int32(), made.handle)
            }
            return code
        }
        try engine.perform(call, label, deadline: self.options.deadline)
        return MPICommunicator(
            handle: made.handle!, rank: Int(made.rank), hosts: made.hosts.map(Int.init),
            hostName: topology.hostName, channel: channel, ring: ring, engine: engine, options: options)
    }

    private final class Made: @unchecked Sendable {
        var handle: MPI_Comm?
        var rank: Int32 = 0
        var size: Int32 = 0
        var hosts: [Int32] = []
    }

    package func makeSharedWindow(byteCount: Int) throws -> (any SharedWindow)? {
        let host = try split(color: topology.host, key: rank, channel: "window")
        return try SharedMemoryWindow.make(byteCount: byteCount, host: host, deadline: options.deadline)
    }
}
