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

        @Option(help: "Batches measured.")
        var batches = 200

        @Option(help: "What is done to each image, also timed by itself: none, adaface, qgface, ccface.")
        var augment = AugmentSection.Name.none

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
                let source = try communicator.together("data") {
                    var section = DataSection()
                    section.train = data
                    section.folder = folder
                    let source = try RunSetup.source(section)
                    guard batch % communicator.size == 0 else {
                        throw TrainingError.batchNotDivisible(global: batch, accumulation: 1, ranks: communicator.size)
                    }
                    guard source.count >= batch else {
                        throw TrainingError.tooFewImages(images: source.count, needed: batch)
                    }
                    return source
                }
                var benchmark = LoaderBenchmark()
                benchmark.workers = workers
                benchmark.globalBatch = batch
                benchmark.batches = batches
                benchmark.degradation = RunSetup.degradation(AugmentSection(augment))
                let result = try benchmark.run(source, communicator)
                let degrading = try benchmark.degradation.map { try DegradationBenchmark.seconds($0, on: source) * 1e3 }
                guard environment.isRoot else { return Training.ExitCode.success }
                if json {
                    print(
                        String(
                            format: "{\"images_per_second\":%.1f,\"workers\":%d,\"ranks\":%d,\"images\":%d,"
                                + "\"unreadable\":%d,\"augment\":\"%@\",\"augment_ms\":%.4f}", result.rate, workers,
                            communicator.size, result.images, result.quarantined, augment.rawValue, degrading ?? 0))
                } else {
                    print(
                        String(
                            format: "%@: %.0f images/s, %.0f per worker (%d rank(s) x %d worker(s)); %d unreadable", data,
                            result.rate, result.rate / Double(workers * communicator.size), communicator.size, workers,
                            result.quarantined))
                    if let degrading {
                        print(String(format: "%@: %.3f ms per image on one thread", augment.rawValue, degrading))
                    }
                }
                return Training.ExitCode.success
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
            try Output.write(result.json(), to: path)
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
