import Foundation
import MPICollectives

/// This process among those of its job, before MPI starts or without it.
enum Launch {
    static let rank = MPIEnvironment.current.rank ?? 0

    /// Ends the program with an error that every rank finds by itself.
    ///
    /// Rank 0 speaks, and its end makes the launcher end the others. They wait for that; a rank that is still there
    /// afterwards has an error of its own, and says so.
    static func fail(_ code: Int32, _ speak: () -> Void) -> Never {
        if rank > 0 { Thread.sleep(forTimeInterval: 3) }
        speak()
        exit(code)
    }

    static func fail(_ error: any Error, _ code: Int32) -> Never {
        fail(code) { Session.complain((rank > 0 ? "rank \(rank): " : "") + "\(error)") }
    }
}
