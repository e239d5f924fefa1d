import Foundation
import MPICollectives

/// This process among those of its job, before MPI starts or without it.
enum Launch {
    static let rank = MPIEnvironment.current.rank ?? 0

    /// What a rank that gives way ends with.
    private nonisolated(unsafe) static var code: Int32 = 0

    /// On ranks other than 0, waits for the end of a program in which every rank finds the same error by itself.
    ///
    /// Rank 0 speaks, and its end makes the launcher end the others: by SIGTERM, which they answer with the same code, because
    /// srun ends with the highest status of all tasks, and that of SIGTERM is higher than every code. A rank that is still
    /// there afterwards has an error of its own, and says so.
    static func giveWay(_ code: Int32) {
        guard rank > 0 else { return }
        Self.code = code
        signal(SIGTERM) { _ in _exit(Launch.code) }
        Thread.sleep(forTimeInterval: 3)
    }

    /// Ends the program with an error that every rank finds by itself.
    static func fail(_ code: Int32, _ speak: () -> Void) -> Never {
        giveWay(code)
        speak()
        exit(code)
    }

    static func fail(_ error: any Error, _ code: Int32) -> Never {
        fail(code) { Session.complain((rank > 0 ? "rank \(rank): " : "") + "\(error)") }
    }
}
