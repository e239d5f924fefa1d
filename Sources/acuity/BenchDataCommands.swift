import ArgumentParser
import Benchmarks
import Collectives
import FaceData
import Foundation
import Layers
import Recipes
import Training

extension Bench {
    struct Loader: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time the loader on real data: decoding, degrading, mirroring, normalising.",
            discussion: "acuity bench loader faces/train.rec --workers 2 --augment adaface")

        @Argument(help: "A .rec file, a folder of identity folders, a list, or 'synthetic'.")
        var data: String

        @Option(help: "The folder that a list's paths are relative to.")
        var folder: String?

        @Option(help: "Decoding threads per rank.")
        var workers = 1

        @Option(help: "Images of all ranks together.")
        var batch = 64

        @Option(help: "Batches measured, in ten groups.")
        var batches = 200

        @Option(help: "What is done to each image, also timed by itself: none, adaface, qgface, ccface.")
        var augment = AugmentSection.Name.none

        @Option(help: "KEY=VALUE of a recipe, such as data.shuffle=chunks; may come several times.")
        var with: [String] = []

        @Flag(help: "Print one JSON object.")
        var json = false

        @OptionGroup var session: SessionOptions

        func validate() throws {
            if workers < 1 || batch < 1 || batches < 1 {
                throw ValidationError("--workers, --batch and --batches must be positive")
            }
        }

        func run() throws {
            try Session.run(session) { environment in
                let communicator = environment.communicator
                var benchmark = LoaderBenchmark()
                let source = try communicator.together("data") {
                    benchmark.recipe = try DataOptions.recipe(data, folder: folder, threads: workers, with)
                    if augment != .none { benchmark.recipe.data.augment = AugmentSection(augment) }
                    let source = try RunSetup.source(benchmark.recipe.data)
                    try Bench.check(batch: batch, ranks: communicator.size)
                    guard source.count >= batch else {
                        throw TrainingError.tooFewImages(images: source.count, needed: batch)
                    }
                    return source
                }
                benchmark.globalBatch = batch
                benchmark.batches = batches
                let result = try benchmark.run(source, communicator)
                let degrading = try RunSetup.degradation(benchmark.recipe.data.augment).map {
                    try DegradationBenchmark.seconds($0, on: source) * 1e3
                }
                if environment.isRoot { report(result, degrading: degrading, ranks: communicator.size) }
                return Training.ExitCode.success
            }
        }

        private func report(_ result: LoaderBenchmark.Result, degrading: Double?, ranks: Int) {
            let rates = Rates(result.rates)
            if json {
                print(
                    String(
                        format: "{\"images_per_second_median\":%.1f,\"min\":%.1f,\"max\":%.1f,\"peak_rss_mib\":%.0f,"
                            + "\"workers\":%d,\"ranks\":%d,\"images\":%d,\"unreadable\":%d,\"augment_ms\":%.4f}",
                        rates.median, rates.least, rates.most, result.peakMemoryMiB, workers, ranks, result.images,
                        result.quarantined, degrading ?? 0))
                return
            }
            print(
                String(
                    format: "%@: %.0f images/s (%.0f-%.0f), %.0f per worker (%d rank(s) x %d worker(s)); "
                        + "%d unreadable",
                    data, rates.median, rates.least, rates.most, rates.median / Double(workers * ranks), ranks, workers,
                    result.quarantined))
            if let degrading { print(String(format: "  degrading: %.3f ms per image on one thread", degrading)) }
            let seconds = max(1e-9, result.times.total)
            let images = Double(batch / ranks * batches)
            for (name, share) in result.times.shares {
                let each = share * seconds / images * 1e6
                print(String(format: "  %@ %.1f us an image, %.0f %%", name, each, 100 * share))
            }
        }
    }

    struct Open: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time opening a data set, and finding the records of its first batch and of a later one.",
            discussion: "acuity bench open ms1mv3/train.rec --epoch 3")

        @Argument(help: "A .rec file, a folder of identity folders, a list, or 'synthetic'.")
        var data: String

        @Option(help: "The folder that a list's paths are relative to.")
        var folder: String?

        @Option(help: "Images of a batch.")
        var batch = 512

        @Option(help: "The epoch, from 0, in the middle of which the second batch lies.")
        var epoch = 3

        @Option(help: "KEY=VALUE of a recipe, such as data.shuffle=chunks; may come several times.")
        var with: [String] = []

        @Flag(help: "Load both batches, too.")
        var read = false

        @Flag(help: "Print the keys of both batches' records.")
        var keys = false

        func validate() throws {
            if batch < 1 || epoch < 0 { throw ValidationError("--batch must be positive, --epoch not negative") }
        }

        func run() throws {
            try Command.run {
                let recipe = try DataOptions.recipe(data, folder: folder, threads: 1, with)
                var benchmark = OpenBenchmark(recipe: recipe)
                benchmark.globalBatch = batch
                benchmark.epoch = epoch
                benchmark.loads = read
                try print(benchmark.run().json(keys: keys))
            }
        }
    }

    struct Collectives: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time the sums over ranks: gradients as a step sends them, and plain messages.",
            discussion: """
                mpirun -np 2 --bind-to none acuity bench collectives
                mpirun --hostfile hosts -N 1 acuity bench collectives --network network.json
                """)

        @Option(help: "Measure what 'acuity plan --network' goes by, and write it to this file.")
        var network: String?

        @Option(help: "Sizes in MiB.")
        var sizes: [Double] = [1, 4, 16, 96]

        @Option(help: "Of gradients that travel as messages: fp32, bf16.")
        var messages = Precision.fp32

        @Option(help: "Repetitions of each.")
        var repetitions = 10

        @OptionGroup var session: SessionOptions

        func validate() throws {
            if repetitions < 1 || sizes.contains(where: { !($0 > 0 && $0 <= 4096) }) {
                throw ValidationError("--repetitions must be positive, --sizes between 0 and 4096 MiB")
            }
        }

        func run() throws {
            try Session.run(session) { environment in
                if let network { return try measure(network, environment) }
                var benchmark = CollectiveBenchmark()
                benchmark.repetitions = repetitions
                benchmark.precision = messages == .bf16 ? .bf16 : .fp32
                let timings = try benchmark.run(environment.communicator, mebibytes: sizes)
                guard environment.isRoot else { return Training.ExitCode.success }
                print("\(environment.communicator.size) rank(s) on \(environment.communicator.topology.hosts) host(s)")
                print(Table.row(["", "MiB", "ms", "GB/s"]))
                for timing in timings {
                    let bytes = timing.mebibytes * 1_048_576
                    print(
                        Table.row([
                            timing.name, timing.mebibytes > 0 ? String(format: "%g", timing.mebibytes) : "",
                            String(format: "%.3f", timing.seconds * 1e3),
                            bytes > 0 ? String(format: "%.1f", bytes / timing.seconds / 1e9) : "",
                        ]))
                }
                return Training.ExitCode.success
            }
        }

        private func measure(_ path: String, _ environment: RunEnvironment) throws -> Int32 {
            let result = try NetworkBenchmark().run(environment.communicator, environment.pool)
            guard environment.isRoot else { return Training.ExitCode.success }
            try Output.folder(of: path)
            try Output.write(Output.json(result), to: path)
            print(
                String(
                    format: "%@: %d hosts, %.0f us, %.3f Gbit/s; side by side computing takes %.2f and messages %.2f "
                        + "times as long", path, result.hosts, result.link.latency * 1e6, result.link.bandwidth / 1.25e8,
                    result.contention.computing, result.contention.messages))
            return Training.ExitCode.success
        }
    }
}

extension AugmentSection.Name: ExpressibleByArgument {}

/// A recipe's section `data` from the options of a benchmark.
enum DataOptions {
    /// - Throws: `RecipeError`.
    static func recipe(_ data: String?, folder: String?, threads: Int, _ overrides: [String]) throws -> Recipe {
        var recipe = try Recipe(files: [], overrides: ["data.threads=\(threads)"] + overrides)
        if let data { recipe.data.train = data }
        recipe.data.folder = folder ?? recipe.data.folder
        return recipe
    }
}
