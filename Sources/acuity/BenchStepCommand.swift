import ArgumentParser
import Benchmarks
import Collectives
import Foundation
import Layers
import Networks
import Tensors
import Training

extension Bench {
    struct Step: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time a training step (or inference) of a backbone, on random images or on data.",
            discussion: "mpirun -np 2 acuity bench step mobilefacenet --batch 64")

        @Argument(help: "The backbone.")
        var network: String

        @Option(help: "Images of all ranks together.")
        var batch = 32

        @Option(help: "fp32, bf16.")
        var precision = Precision.fp32

        @Option(help: "Classes of the head.")
        var classes = 10_000

        @Option(help: "Steps measured.")
        var steps = 10

        @Option(help: "Steps before, thrown away.")
        var warmup = 3

        @Option(help: "A data set to train on, through the loader; random images ready in memory by default.")
        var data: String?

        @Option(help: "KEY=VALUE of a recipe's section data, such as data.threads=2; may come several times.")
        var with: [String] = []

        @Flag(help: "Inference instead of training.")
        var forwardOnly = false

        @Flag(help: "Time of every layer of rank 0, and of every kind of layer.")
        var layers = false

        @Flag(inversion: .prefixedNo, help: "Reduce gradients while backward goes on.")
        var overlap = true

        @Option(help: "Of gradients that travel between hosts: fp32, bf16.")
        var messages = Precision.fp32

        @Flag(help: "Print one JSON object.")
        var json = false

        @OptionGroup var session: SessionOptions
        @OptionGroup var tracing: TraceOptions

        func validate() throws {
            if forwardOnly, tracing.trace != nil { throw ValidationError("--trace shows training steps only") }
            if batch < 1 || steps < 1 || warmup < 0 || classes < 2 {
                throw ValidationError("--batch, --steps and --classes must be positive, --warmup not negative")
            }
            if data != nil, forwardOnly { throw ValidationError("--data is for training steps") }
            if data == nil, !with.isEmpty { throw ValidationError("--with says more about --data, which is not there") }
        }

        func run() throws {
            try Session.run(session) { environment in
                let communicator = environment.communicator
                var benchmark = StepBenchmark(network: NetworkSpecification(network))
                try communicator.together("set-up") {
                    _ = try benchmark.network.build()
                    if let data {
                        benchmark.data = try DataOptions.recipe(data, folder: nil, threads: 1, with)
                    }
                    try Bench.check(batch: batch, ranks: communicator.size)
                }
                benchmark.precision = precision
                benchmark.globalBatch = batch
                benchmark.classes = classes
                benchmark.steps = steps
                benchmark.warmup = warmup
                benchmark.forwardOnly = forwardOnly
                benchmark.profilesLayers = layers
                benchmark.overlap = overlap
                benchmark.messages = messages
                let trace = try tracing.make(environment)
                defer { trace?.abandon() }
                let result = try benchmark.run(communicator, environment.pool, trace: trace)
                try trace?.finish()
                if environment.isRoot { report(result, environment) }
                return Training.ExitCode.success
            }
        }

        private func report(_ result: StepBenchmark.Result, _ environment: RunEnvironment) {
            let (ranks, threads) = (environment.communicator.size, environment.pool.threads)
            let rates = RateReport(result.times)
            if json {
                print(
                    rates.json(
                        "\"network\":\"\(network)\",\"precision\":\"\(precision.rawValue)\",\"batch\":\(batch),"
                            + "\"ranks\":\(ranks),\"threads\":\(threads)"))
            } else {
                print(
                    "\(network) \(precision.rawValue), \(batch) images, \(ranks) rank(s) x \(threads) thread(s): "
                        + rates.text)
            }
            if layers { LayerReport(result, MachinePeak(environment.pool), precision).print() }
        }
    }
}

/// Where a step's time goes: by layer, then by kind of layer.
struct LayerReport {
    private let result: StepBenchmark.Result
    private let peak: Double

    init(_ result: StepBenchmark.Result, _ peak: MachinePeak, _ precision: Precision) {
        self.result = result
        self.peak = peak.flops(precision.mapType)
    }

    private func line(_ name: String, _ time: StepBenchmark.LayerTime) -> String {
        func share(_ flops: Double, _ seconds: Double) -> String {
            flops > 0 && seconds > 0 ? String(format: "%.0f %%", 100 * flops / seconds / peak) : ""
        }
        let total = time.forward + time.backward
        return Table.row(
            [
                name, String(format: "%.2f", time.forward * 1e3), share(time.forwardFlops, time.forward),
                String(format: "%.2f", time.backward * 1e3), share(time.backwardFlops, time.backward),
                String(format: "%.1f %%", 100 * total / result.times.stepSeconds),
            ], first: 52)
    }

    func print() {
        let header = Table.row(
            ["layer", "forward ms", "of peak", "backward ms", "of peak", "of step"], first: 52)
        Swift.print(header)
        for layer in result.layers { Swift.print(line("\(layer.name)  \(layer.shape)", layer)) }
        Swift.print("")
        Swift.print(header)
        var kinds: [String: StepBenchmark.LayerTime] = [:]
        for layer in result.layers {
            guard var sum = kinds[layer.kind] else {
                kinds[layer.kind] = layer
                continue
            }
            sum.forward += layer.forward
            sum.backward += layer.backward
            sum.forwardFlops += layer.forwardFlops
            sum.backwardFlops += layer.backwardFlops
            kinds[layer.kind] = sum
        }
        for (kind, time) in kinds.sorted(by: { $0.value.forward + $0.value.backward > $1.value.forward + $1.value.backward }) {
            Swift.print(line(kind, time))
        }
        let layers = result.layers.reduce(0) { $0 + $1.forward + $1.backward }
        let rest = result.times.stepSeconds - layers
        Swift.print(
            Table.row(
                [
                    "head, optimizer, reduction", "", "", String(format: "%.2f", rest * 1e3), "",
                    String(format: "%.1f %%", 100 * rest / result.times.stepSeconds),
                ], first: 52))
        Swift.print(
            String(
                format: "step %.1f ms; maps, their gradients and scratch %.0f MiB", result.times.stepSeconds * 1e3,
                result.executionMiB))
    }
}
