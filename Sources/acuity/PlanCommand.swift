import ArgumentParser
import FaceData
import Foundation
import Recipes
import Tensors
import Training

struct Plan: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say what a recipe needs and how long it takes, without training.",
        discussion: """
            acuity plan configs/ms1mv3-r50.yaml --ranks 16 --ranks-per-host 1 --classes 93431 --images 5179510

            Memory is counted from the recipe. Times come from this machine: the backbone, the head and the optimizer run a \
            few times on random numbers, as many ranks side by side as share a host, and a model of the network adds the \
            collectives. Run it on a machine like those that will train, otherwise idle.

            A run that does not fit ends with code 65 and the reason.
            """)

    @OptionGroup var recipe: RecipeArguments

    @Option(help: "Ranks of the run.")
    var ranks = 1

    @Option(help: "Ranks on one host.")
    var ranksPerHost = 1

    @Option(help: "Threads of each rank; by default this machine's processors, shared by the ranks of a host.")
    var threads: Int?

    @Option(help: "Ranks that compute side by side while times are measured; by default those of a host.")
    var beside: Int?

    @Option(help: "Identities, where the data is not here to be counted.")
    var classes: Int?

    @Option(help: "Images, where the data is not here to be counted.")
    var images: Int?

    @Option(help: "Between hosts, bits per second: 1gbit, 25gbit, 100mbit.", transform: Self.bandwidth)
    var link = 1.25e9

    @Option(help: "Of a message between hosts, microseconds.")
    var latency = 50.0

    @Option(help: "In place of both: what 'acuity bench collectives --network' measured between such hosts.")
    var network: String?

    @Option(help: "Memory of a host, such as 256GiB; by default this machine's or its control group's.", transform: Self.size)
    var hostMemory: Int?

    @Flag(help: "Memory only: measure nothing.")
    var memoryOnly = false

    @Flag(help: "Print one JSON object.")
    var json = false

    func validate() throws {
        try recipe.require()
        if ranks < 1 || ranksPerHost < 1 { throw ValidationError("--ranks and --ranks-per-host must be positive") }
        if let threads, !(1...4096).contains(threads) { throw ValidationError("--threads must lie in 1...4096") }
        if let beside, beside < 1 { throw ValidationError("--beside must be positive") }
        if let classes, classes < 2 { throw ValidationError("--classes must be at least 2") }
        if let images, images < 1 { throw ValidationError("--images must be positive") }
        if latency < 0 { throw ValidationError("--latency must not be negative") }
    }

    /// Bytes per second.
    private static func bandwidth(_ text: String) throws -> Double {
        for (unit, factor) in [("gbit", 1.25e8), ("mbit", 1.25e5)] where text.lowercased().hasSuffix(unit) {
            if let value = Double(text.dropLast(unit.count)), value > 0, value.isFinite { return value * factor }
        }
        throw ValidationError("'\(text)' is no bandwidth; write 1gbit or 100mbit")
    }

    private static func size(_ text: String) throws -> Int {
        for (unit, shift) in [("gib", 30.0), ("mib", 20)] where text.lowercased().hasSuffix(unit) {
            if let value = Double(text.dropLast(3)), value > 0, value < 1e9 { return Int(value * pow(2, shift)) }
        }
        throw ValidationError("'\(text)' is no size; write 256GiB or 512MiB")
    }

    func run() throws {
        try Command.run {
            let base = HostMemory.residentBytes
            let recipe = recipe.read()
            let plan = try plan(recipe, base: base)
            var host = HostMemory.here
            if let hostMemory { (host.limit, host.origin) = (hostMemory, "--host-memory") }
            if let reason = plan.memory.shortage(host) {
                if !json { PlanReport(plan, host: host).printMemory() }
                throw TrainingError.incompatible("this does not fit: \(reason). Lower batch.global, or use more hosts")
            }
            var report = PlanReport(plan, host: host)
            if !memoryOnly {
                let rates = try RateMeasurement(
                    recipe, plan.placement, classes: plan.classes, beside: beside
                ).run()
                let (remote, contention) = try remote(rates, plan.placement)
                let network = NetworkModel(
                    local: .sharedMemory, remote: remote, memoryBandwidth: rates.memoryBandwidth, contention: contention)
                report.prediction = plan.prediction(rates, network)
                report.scaling = plan.scaling(rates, network)
                report.remote = remote
            }
            if json { try report.printJSON() } else { report.printText() }
        }
    }

    /// The network between hosts, as measured or as assumed.
    private func remote(_ rates: MachineRates, _ placement: Placement) throws -> (Link, Contention) {
        if let network {
            let measured = try NetworkMeasurement(contentsOf: network)
            return (measured.link, measured.contention)
        }
        let remote = Link(latency: latency * 1e-6, bandwidth: Link.payload * link)
        return (
            remote, Contention(remote, secondsPerByte: rates.messageSecondsPerByte, threads: placement.threads)
        )
    }

    private func plan(_ recipe: Recipe, base: Int) throws -> RunPlan {
        let passes = recipe.batch.accumulation
        guard recipe.batch.global % (passes * ranks) == 0 else {
            throw TrainingError.batchNotDivisible(global: recipe.batch.global, accumulation: passes, ranks: ranks)
        }
        let perHost = min(ranks, ranksPerHost)
        let placement = Placement(
            ranks: ranks, ranksPerHost: perHost,
            threads: threads ?? recipe.compute.threads ?? max(1, ThreadPool.availableProcessors / perHost),
            batch: recipe.batch.global / passes / ranks)
        // Both given: the data need not be here.
        let source = classes != nil && images != nil ? nil : try RunSetup.source(recipe.data)
        return try RunPlan(
            recipe, placement, classes: classes ?? source?.classCount ?? 0, images: images ?? source?.count ?? 0,
            base: base)
    }
}

/// A plan on paper.
struct PlanReport {
    let plan: RunPlan
    let host: HostMemory
    var prediction: StepPrediction?
    var scaling: [RunPlan.Scaling] = []
    var remote: Link?

    init(_ plan: RunPlan, host: HostMemory) {
        self.plan = plan
        self.host = host
    }

    private func row(_ name: String, _ value: String) {
        print("  " + name.padding(toLength: max(36, name.count), withPad: " ", startingAt: 0) + value)
    }

    func printMemory() {
        let placement = plan.placement
        let memory = plan.memory
        print(
            "\(placement.ranks) rank(s) on \(placement.hosts) host(s), \(placement.threads) thread(s) each; "
                + "\(placement.batch) images a rank and pass; \(plan.classes) classes")
        print("\nmemory of a rank")
        for part in memory.parts { row(part.name, MemoryEstimate.text(part.byteCount)) }
        row("in all", MemoryEstimate.text(memory.perRank))
        if memory.mapped > 0 { row("in mapped files", MemoryEstimate.text(memory.mapped)) }
        if memory.root > 0 { row("rank 0 beside: copy for checkpoints", MemoryEstimate.text(memory.root)) }
        if memory.window > 0 { row("shared by a host's ranks", MemoryEstimate.text(memory.window)) }
        row(
            "of a host", "\(MemoryEstimate.text(memory.perHost)) of \(MemoryEstimate.text(host.limit)) (\(host.origin))")
        if let warning = memory.warning(host) { print("  note: \(warning)") }
    }

    func printText() {
        printMemory()
        guard let step = prediction, let remote else { return }
        func milliseconds(_ seconds: Double) -> String { String(format: "%.1f ms", seconds * 1e3) }
        print("\na step, predicted")
        row("forward", milliseconds(step.forward))
        row("head", milliseconds(step.head))
        row("head's collectives", milliseconds(step.headCollectives))
        row("backward", milliseconds(step.backward))
        row(
            "gradients not hidden by backward",
            "\(milliseconds(step.exposedReduction)) of \(milliseconds(step.reduction))")
        row("optimizer", milliseconds(step.update + step.control))
        let rate = Double(plan.placement.globalBatch * plan.workload.accumulation) / step.total
        row("in all", "\(milliseconds(step.total)), \(String(format: "%.1f", rate)) images/s")
        let objectives = plan.recipe.objectives.names
        if !objectives.isEmpty {
            print(
                "  note: without what \(objectives.map { "objectives.\($0)" }.joined(separator: ", ")) compute and send beside "
                    + "passes of the backbone")
        }
        row("epoch of \(plan.images) images", Self.duration(Double(plan.images) / rate))
        row("sent by a rank: head", MemoryEstimate.text(Int(step.headBytes)))
        row("sent by a rank: gradients to hosts", MemoryEstimate.text(Int(step.gradientBytes)))
        print(
            String(
                format: "\nmore ranks, %d images each, %d to a host, %.3g Gbit/s and %.0f us between hosts",
                plan.placement.batch, plan.placement.ranksPerHost, remote.bandwidth / Link.payload / 1.25e8,
                remote.latency * 1e6))
        print(Table.row(["ranks", "hosts", "step ms", "images/s", "efficiency", "epoch"], first: 8))
        for line in scaling {
            print(
                Table.row(
                    [
                        "\(line.ranks)", "\(line.hosts)", String(format: "%.1f", line.step.total * 1e3),
                        String(format: "%.1f", line.imagesPerSecond), String(format: "%.1f %%", 100 * line.efficiency),
                        Self.duration(line.epochSeconds),
                    ], first: 8))
        }
    }

    /// Such as "3 h 20 min".
    static func duration(_ seconds: Double) -> String {
        switch seconds {
        case ..<100: String(format: "%.1f s", seconds)
        case ..<6000: String(format: "%.0f min", seconds / 60)
        case ..<172_800: "\(Int(seconds / 3600)) h \(Int(seconds / 60) % 60) min"
        default: String(format: "%.1f days", seconds / 86_400)
        }
    }

    // MARK: - For machines

    private struct Document: Encodable {
        struct Step: Encodable {
            var forward: Double
            var head: Double
            var headCollectives: Double
            var backward: Double
            var reduction: Double
            var exposedReduction: Double
            var update: Double
            var seconds: Double
            var headBytes: Double
            var gradientBytes: Double

            init(_ step: StepPrediction) {
                forward = step.forward
                head = step.head
                headCollectives = step.headCollectives
                backward = step.backward
                reduction = step.reduction
                exposedReduction = step.exposedReduction
                update = step.update + step.control
                seconds = step.total
                headBytes = step.headBytes
                gradientBytes = step.gradientBytes
            }
        }
        struct Line: Encodable {
            var ranks: Int
            var hosts: Int
            var stepSeconds: Double
            var imagesPerSecond: Double
            var efficiency: Double
            var epochSeconds: Double
        }
        var ranks: Int
        var hosts: Int
        var threads: Int
        var batch: Int
        var classes: Int
        var images: Int
        var memory: [String: Int]
        var perRank: Int
        var residentPerRank: Int
        var rank0Beside: Int
        var window: Int
        var perHost: Int
        var step: Step?
        var scaling: [Line]
    }

    func printJSON() throws {
        let memory = plan.memory
        let document = Document(
            ranks: plan.placement.ranks, hosts: plan.placement.hosts, threads: plan.placement.threads,
            batch: plan.placement.batch, classes: plan.classes, images: plan.images,
            memory: Dictionary(uniqueKeysWithValues: memory.parts.map { ($0.name, $0.byteCount) }),
            perRank: memory.perRank, residentPerRank: memory.residentPerRank,
            rank0Beside: memory.root, window: memory.window,
            perHost: memory.perHost, step: prediction.map { Document.Step($0) },
            scaling: scaling.map {
                Document.Line(
                    ranks: $0.ranks, hosts: $0.hosts, stepSeconds: $0.step.total, imagesPerSecond: $0.imagesPerSecond,
                    efficiency: $0.efficiency, epochSeconds: $0.epochSeconds)
            })
        Output.show(try Output.jsonLine(document, keys: .convertToSnakeCase))
    }
}
