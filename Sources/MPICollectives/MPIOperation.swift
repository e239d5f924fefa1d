internal import COpenMPI
internal import Collectives

/// A call of MPI as data. A closure would be a new object for each call, and a step makes many.
enum MPICall {
    case barrier(MPI_Comm)
    case broadcast(UnsafeMutableRawPointer, bytes: Int32, root: Int32, MPI_Comm)
    case allReduce(UnsafeMutableRawPointer, count: Int32, MPI_Datatype, MPI_Op, MPI_Comm)
    /// `bytes` of every rank into one element of `type` for each.
    case allGather(UnsafeRawPointer, bytes: Int32, UnsafeMutableRawPointer, count: Int32, MPI_Datatype, MPI_Comm)
    /// `count` elements of `type` to and from every rank.
    case allToAll(UnsafeRawPointer, UnsafeMutableRawPointer, count: Int32, MPI_Datatype, MPI_Comm)
    /// Anything else; what blocks leaves the request null.
    case other((UnsafeMutablePointer<MPI_Request?>) -> Int32)

    /// Starts the operation; returns MPI's error code.
    func start(_ request: UnsafeMutablePointer<MPI_Request?>) -> Int32 {
        let byte = acuity_mpi_byte()
        return switch self {
        case .barrier(let group): MPI_Ibarrier(group, request)
        case .broadcast(let memory, let bytes, let root, let group):
            MPI_Ibcast(memory, bytes, byte, root, group, request)
        case .allReduce(let values, let count, let type, let operation, let group):
            MPI_Iallreduce(acuity_mpi_in_place(), values, count, type, operation, group, request)
        case .allGather(let block, let bytes, let all, let count, let type, let group):
            MPI_Iallgather(block, bytes, byte, all, count, type, group, request)
        case .allToAll(let blocks, let received, let count, let type, let group):
            MPI_Ialltoall(blocks, count, type, received, count, type, group, request)
        case .other(let call): call(request)
        }
    }
}

/// A call on its way through the MPI thread. Each communicator keeps one, since it makes one call at a time.
final class MPIOperation: @unchecked Sendable {
    // Guarded by the engine's monitor, but for what the MPI thread alone uses between taking and completing it.
    var label = ""
    var call: MPICall?
    var request: MPI_Request? = acuity_mpi_request_null()
    var outcome: Result<Void, CollectiveError>?
}
