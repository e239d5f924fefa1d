import ArgumentParser
import Foundation
import Recipes
import Tensors
import Training

struct ReplayUpdate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay",
        abstract: "Compute an update that was refused once more, and find the first value that is not finite.",
        discussion: """
            acuity replay runs/first/incidents/step-00000020-1

            A run records an update whose loss or gradient is not finite, or whose loss is a spike, in its folder \
            'incidents': images, records, labels, parameters and the gradient of the embeddings. One process goes through \
            what each rank has computed, layer by layer. Batch norms that the next layer applies show there.
            """)

    @Argument(help: "The folder of an incident.")
    var bundle: String

    @Option(help: "Look at the images of this rank only.")
    var rank: Int?

    @Option(help: "Threads; by default the processors of the affinity mask.")
    var threads: Int?

    @Flag(help: "Print the findings as JSON.")
    var json = false

    func validate() throws {
        if let threads, !(1...4096).contains(threads) { throw ValidationError("--threads must lie in 1...4096") }
        if let rank, rank < 0 { throw ValidationError("--rank must not be negative") }
    }

    private struct Output: Encodable {
        var step: Int
        var reason: String
        var first: Replay.Finding?
        var findings: [Replay.Finding]
        var gradientsNotFinite: [String]
    }

    func run() throws {
        // Under a launcher one rank does it: the others would print the same lines.
        if Launch.rank > 0 { return }
        do {
            var replay = try Replay(bundle, pool: ThreadPool(threads: threads ?? ThreadPool.availableProcessors))
            if let rank, !replay.incident.shares.contains(where: { $0.rank == rank }) {
                throw TrainingError.incompatible(
                    "\(bundle) holds \(replay.incident.shares.count) ranks, not rank \(rank)")
            }
            try replay.run(rank: rank)
            try report(replay)
        } catch {
            Launch.fail(error, Training.ExitCode.of(error))
        }
    }

    private func report(_ replay: Replay) throws {
        let incident = replay.incident
        let bad = incident.gradients.filter { !$0.norm.isFinite }.map(\.name)
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            let output = Output(
                step: incident.step, reason: incident.reason, first: replay.first, findings: replay.findings,
                gradientsNotFinite: bad)
            print(String(decoding: try encoder.encode(output), as: UTF8.self))
            return
        }
        print(incident.reason)
        print(
            "loss \(incident.loss), norm of the gradient \(incident.gradientNorm), learning rate \(incident.learningRate); "
                + "\(incident.ranks) rank(s), \(incident.passes) pass(es) of \(incident.batch) records each")
        if let checkpoint = incident.checkpoint, let since = incident.stepsSinceCheckpoint {
            print("last checkpoint \(checkpoint), \(since) updates before")
        }
        let largest = incident.gradients.filter(\.norm.isFinite).sorted { $0.norm > $1.norm }.prefix(5)
        for gradient in largest { print("gradient of \(gradient.name): norm \(gradient.norm)") }
        if !bad.isEmpty {
            print(
                "gradients that were not finite: \(bad.prefix(8).joined(separator: ", "))\(bad.count > 8 ? ", …" : "")")
        }
        print("computed once more, the embeddings differ by at most \(replay.largestDifference)")
        guard let first = replay.first else {
            print(
                "every value is finite here"
                    + (bad.isEmpty
                        ? "" : ": what was not has come from outside of the computation, as from memory or network"))
            return
        }
        print("first value that is not finite: \(first.description)")
        for finding in replay.findings.dropFirst() { print("also: \(finding.description)") }
    }
}
