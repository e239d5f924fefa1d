import ArgumentParser
import Foundation
import MPICollectives
import Tensors
import Training

@main
struct Acuity: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "acuity",
        abstract: "Trains face recognisers that hold up on bad images, on CPU clusters.",
        discussion: """
            Start one process, or several with mpirun; all read the same recipe. Results go to standard output, logs and \
            progress to standard error.

            Exit codes: 0 done; 64 usage; 65 bad data or configuration; 66 missing input; 69 peer lost or MPI unavailable; \
            70 internal error; 73 cannot write; 74 input/output; 75 stopped after saving, run again; 76 loss or gradient not \
            finite.
            """,
        version: versionText,
        subcommands: [
            Train.self, Resume.self, Plan.self, Evaluate.self, Embed.self, Score.self, Annotate.self, Dataset.self,
            Import.self, Export.self, CheckpointCommand.self, ReplayUpdate.self, Config.self, Doctor.self, Bench.self,
        ])

    /// As the library's own `main`, but under a launcher usage errors, help and version are printed by one rank only.
    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch {
            if Launch.rank > 0, exitCode(for: error).isSuccess { Foundation.exit(0) }
            Launch.giveWay(exitCode(for: error).rawValue)
            exit(withError: error)
        }
    }

    private static var versionText: String {
        """
        acuity \(ModelFile.version)
        MPI: \(MPICommunicator.libraryVersion)
        BLAS: \(BLAS.description)
        kernels: \(KernelSet.current)
        """
    }
}
