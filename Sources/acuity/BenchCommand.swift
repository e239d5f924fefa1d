import ArgumentParser
import Benchmarks
import CKernels
import Collectives
import Foundation
import Layers
import Networks
import Tensors
import Training

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure this machine: kernels, a training step and its layers, the head, the loader, the network.",
        discussion: "Leave the processors otherwise idle; compare ratios of one run, never figures of two days.",
        subcommands: [Kernels.self, Step.self, Head.self, Loader.self, Open.self, Collectives.self])

    /// - Throws: where the ranks do not divide a batch.
    static func check(batch: Int, ranks: Int) throws {
        guard batch % ranks == 0 else {
            throw TrainingError.batchNotDivisible(global: batch, accumulation: 1, ranks: ranks)
        }
    }

    struct Kernels: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time every kind of convolution against this machine's measured peak.")

        @Option(help: "Element type of the maps: fp32, bf16.")
        var precision = Precision.fp32

        @Option(help: "Images per call.")
        var batch = 32

        @Option(help: "Only shapes whose name contains this text, such as '1x1' or '@112'.")
        var only: String?

        @Option(help: "Seconds per shape.")
        var seconds = 0.5

        @Flag(help: "Time every instruction set of this machine, not only the one in use.")
        var allInstructionSets = false

        @Flag(help: "Rounding error of every shape against double precision, in place of its time.")
        var errors = false

        @Flag(help: "Print one JSON object per line.")
        var json = false

        @OptionGroup var session: SessionOptions

        func validate() throws {
            if batch < 1 || seconds <= 0 { throw ValidationError("--batch and --seconds must be positive") }
        }

        func run() throws {
            try Session.run(session) { environment in
                guard environment.isRoot else { return Training.ExitCode.success }
                let sets = allInstructionSets ? (0...ak_isa_best().rawValue).map { ak_isa($0) } : [ak_isa_current()]
                for set in sets {
                    ak_isa_select(set)
                    if errors { compare(environment.pool) } else { measure(environment.pool) }
                }
                return Training.ExitCode.success
            }
        }

        private var shapes: [KernelBenchmark.Shape] {
            KernelBenchmark.shapes.filter { shape in only.map { shape.name.contains($0) } ?? true }
        }

        private func compare(_ pool: ThreadPool) {
            let benchmark = KernelBenchmark(images: 2, dtype: precision.mapType, pool: pool)
            if !json {
                print("\(KernelSet.current), \(precision.rawValue): relative root mean square error against double precision")
                print(Table.row(["shape", "forward", "dx", "dw"]))
            }
            for shape in shapes {
                let error = benchmark.error(shape)
                let values = [error.forward, error.inputGradient, error.weightGradient]
                if json {
                    print(
                        String(
                            format: "{\"isa\":\"%@\",\"precision\":\"%@\",\"shape\":\"%@\",\"forward_error\":%.3g,"
                                + "\"dx_error\":%.3g,\"dw_error\":%.3g}", KernelSet.current, precision.rawValue, shape.name,
                            values[0], values[1], values[2]))
                } else {
                    print(Table.row([shape.name] + values.map { String(format: "%.1e", $0) }))
                }
            }
        }

        private func measure(_ pool: ThreadPool) {
            let peak = MachinePeak(pool)
            let reference = peak.flops(precision.mapType)
            if !json {
                print(
                    String(
                        format: "%@, %d thread(s), %d images, %@: peak %.0f GFLOP/s, memory %.0f GB/s", KernelSet.current,
                        pool.threads, batch, precision.rawValue, reference / 1e9, peak.bandwidth / 1e9))
                print(Table.row(["shape", "forward ms", "GFLOP/s", "of peak", "backward ms", "GFLOP/s", "of peak"]))
            }
            let benchmark = KernelBenchmark(images: batch, dtype: precision.mapType, pool: pool)
            for shape in shapes {
                let timing = benchmark.time(shape, seconds: seconds)
                if json {
                    print(
                        String(
                            format: "{\"isa\":\"%@\",\"precision\":\"%@\",\"shape\":\"%@\",\"forward_s\":%.6g,"
                                + "\"forward_flops\":%.6g,\"backward_s\":%.6g,\"backward_flops\":%.6g,\"peak_flops\":%.6g}",
                            KernelSet.current, precision.rawValue, timing.shape, timing.forward.seconds,
                            timing.forward.rate, timing.backward.seconds, timing.backward.rate, reference))
                    continue
                }
                func cells(_ t: (seconds: Double, rate: Double)) -> [String] {
                    [
                        String(format: "%.2f", t.seconds * 1e3), String(format: "%.1f", t.rate / 1e9),
                        String(format: "%.0f %%", 100 * t.rate / reference),
                    ]
                }
                print(Table.row([timing.shape] + cells(timing.forward) + cells(timing.backward)))
            }
        }
    }
}

/// Columns of a plain table: the first to the left, the others to the right.
enum Table {
    static func row(_ cells: [String], first: Int = 26, width: Int = 12) -> String {
        let head = cells[0].padding(toLength: max(first, cells[0].count), withPad: " ", startingAt: 0)
        return head + cells.dropFirst().map { String(repeating: " ", count: max(1, width - $0.count)) + $0 }.joined()
    }
}
