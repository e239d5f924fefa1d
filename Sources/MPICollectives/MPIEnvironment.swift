#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// What the launcher told this process about the job, before MPI starts.
package struct MPIEnvironment: Sendable, Equatable {
    /// Who started this process.
    package enum Launcher: String, Sendable {
        /// OpenMPI's mpirun, or another launcher that speaks PMIx.
        case mpirun
        /// Slurm's srun.
        case srun
        /// A launcher that speaks PMI, which OpenMPI may not know (Hydra, Intel MPI).
        case pmi = "a PMI launcher"
        /// That of another MPI library.
        case foreign = "the launcher of another MPI library"
        /// Nobody: a plain start.
        case none = "nobody"
    }

    package var launcher: Launcher
    /// The number of ranks that the launcher has started; nil where it does not say.
    package var size: Int?
    package var rank: Int?
    package var localRank: Int?
    package var localSize: Int?

    /// The environment of this process.
    package static var current: MPIEnvironment {
        MPIEnvironment { name in getenv(name).map { String(cString: $0) } }
    }

    /// Whether a launcher started this process as one rank of a job, so that MPI has to be initialised.
    package static var launched: Bool { current.launcher != .none }

    /// Slurm numbers steps that are none of srun's (the batch script, an interactive shell) from here.
    private static let firstSpecialStep = 0xFFFF_FFF0

    /// - Parameter variable: the value of an environment variable.
    package init(_ variable: (String) -> String?) {
        func number(_ name: String) -> Int? { variable(name).flatMap { Int($0) }.flatMap { $0 >= 0 ? $0 : nil } }
        if let size = number("OMPI_COMM_WORLD_SIZE") {
            launcher = .mpirun
            self.size = size
            rank = number("OMPI_COMM_WORLD_RANK")
            localRank = number("OMPI_COMM_WORLD_LOCAL_RANK")
            localSize = number("OMPI_COMM_WORLD_LOCAL_SIZE")
        } else if let step = number("SLURM_STEP_ID"), step < Self.firstSpecialStep, let rank = number("SLURM_PROCID"),
            let size = number("SLURM_STEP_NUM_TASKS") ?? number("SLURM_NTASKS")
        {
            launcher = .srun
            self.size = size
            self.rank = rank
            localRank = number("SLURM_LOCALID")
        } else if let size = number("PMI_SIZE") {
            launcher = .pmi
            self.size = size
            rank = number("PMI_RANK")
            localRank = number("MPI_LOCALRANKID")
            localSize = number("MPI_LOCALNRANKS")
        } else if let names = Self.foreign.first(where: { number($0.size) != nil }) {
            launcher = .foreign
            size = number(names.size)
            rank = number(names.rank)
        } else {
            rank = number("PMIX_RANK")
            launcher = rank == nil ? .none : .mpirun
        }
    }

    /// What launchers of other MPI libraries say: MVAPICH's, IBM's jsrun, Cray's PALS.
    private static let foreign = [
        (size: "MV2_COMM_WORLD_SIZE", rank: "MV2_COMM_WORLD_RANK"),
        (size: "JSM_NAMESPACE_SIZE", rank: "JSM_NAMESPACE_RANK"),
        (size: "PALS_SIZE", rank: "PALS_RANKID"),
    ]

    /// Why an MPI world of `mpiSize` ranks cannot be the job that the launcher started; nil when it can.
    ///
    /// A launcher that this MPI library does not understand starts N processes that each believe to be a job of one
    /// rank: all of them would train alone and write the same files.
    package func disagreement(mpiSize: Int) -> String? {
        if size == nil, let rank, rank >= mpiSize {
            return "\(launcher.rawValue) calls this process rank \(rank), but MPI sees \(mpiSize) rank(s): this MPI "
                + "library does not understand the launcher; start with the mpirun that belongs to it"
        }
        guard let size, size != mpiSize else { return nil }
        let remedy =
            switch launcher {
            case .srun: "start with 'srun --mpi=pmix' (if 'srun --mpi=list' has it) or with mpirun in the allocation"
            case .mpirun: "start with the mpirun that belongs to this OpenMPI"
            case .pmi, .foreign, .none: "start with OpenMPI's mpirun"
            }
        return "\(launcher.rawValue) started \(size) processes, but MPI sees \(mpiSize): this MPI library does not "
            + "understand the launcher; \(remedy)"
    }
}
