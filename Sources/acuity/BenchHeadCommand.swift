import ArgumentParser
import Benchmarks
import Collectives
import Foundation
import Recipes
import Tensors
import Training

extension Bench {
    struct Head: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time the head's part of a training step on random embeddings, centres updated.",
            discussion: "mpirun -np 2 --bind-to none acuity bench head --classes 360000 --margin arcface")

        @Option(help: "Classes over all ranks.")
        var classes = 10_000

        @Option(help: "Embeddings of all ranks together.")
        var batch = 64

        @Option(help: "Length of an embedding.")
        var embedding = 512

        @Option(help: "The margin function, as in head.margin, with its defaults.")
        var margin = "arcface"

        @Option(help: "Share of the classes that a step compares with.")
        var rate = 1.0

        @Option(help: "Steps measured.")
        var steps = 20

        @Option(help: "Steps before, thrown away.")
        var warmup = 3

        @Option(help: "Columns of logits that are computed together; chosen by size by default.")
        var columns: Int?

        @Flag(
            inversion: .prefixedNo,
            help: "Keep all logits from forward to backward, or compute them twice; chosen by size by default.")
        var keepLogits: Bool?

        @Flag(help: "Make the whole gradient of the centres before their update.")
        var keepGradient = false

        @Flag(help: "Time of every part, of rank 0.")
        var parts = false

        @Flag(help: "Print one JSON object.")
        var json = false

        @OptionGroup var session: SessionOptions

        func validate() throws {
            if batch < 1 || steps < 1 || warmup < 0 || classes < 2 || embedding < 1 {
                throw ValidationError(
                    "--batch, --steps, --classes and --embedding must be positive, --warmup not negative")
            }
            if let columns, columns < 1 { throw ValidationError("--columns must be positive") }
        }

        func run() throws {
            let head: HeadSection
            do {
                head = try Recipe(files: [], overrides: ["head.margin=\(margin)", "head.sampling.rate=\(rate)"]).head
            } catch {
                Launch.fail(error, Training.ExitCode.of(error))
            }
            try Session.run(session) { environment in
                let communicator = environment.communicator
                try communicator.together("set-up") {
                    try Bench.check(batch: batch, ranks: communicator.size)
                }
                var benchmark = HeadBenchmark(head)
                benchmark.classes = classes
                benchmark.globalBatch = batch
                benchmark.dimension = embedding
                benchmark.steps = steps
                benchmark.warmup = warmup
                benchmark.columns = columns
                benchmark.keepsLogits = keepLogits
                benchmark.keepsGradient = keepGradient
                let result = try benchmark.run(communicator, environment.pool)
                if environment.isRoot { report(result, environment) }
                return Training.ExitCode.success
            }
        }

        private func report(_ result: HeadBenchmark.Result, _ environment: RunEnvironment) {
            let (ranks, threads) = (environment.communicator.size, environment.pool.threads)
            let rates = RateReport(result.times)
            if json {
                print(
                    rates.json(
                        "\"network\":\"head\",\"margin\":\"\(margin)\",\"classes\":\(classes),"
                            + "\"embedding\":\(embedding),\"batch\":\(batch),\"ranks\":\(ranks),"
                            + "\"threads\":\(threads)"))
            } else {
                print(
                    "\(margin), \(classes) classes of \(embedding), \(batch) embeddings, \(ranks) rank(s) x "
                        + "\(threads) thread(s): \(rates.text)")
            }
            if parts { printParts(result) }
        }

        private func printParts(_ result: HeadBenchmark.Result) {
            print(Table.row(["part", "ms", "of step"]))
            func row(_ name: String, _ seconds: Double) {
                print(
                    Table.row([
                        name, String(format: "%.3f", seconds * 1e3),
                        String(format: "%.1f %%", 100 * seconds / result.times.stepSeconds),
                    ]))
            }
            for part in result.parts { row(part.name, part.seconds) }
            row("step", result.times.stepSeconds)
        }
    }
}
