import Artifacts
import Collectives
import Foundation
import Layers
import Networks
import Objectives
import Recipes
import Tensors
import Testing
import Training

@Suite struct PlanningTests {
    // MARK: - Time

    @Test func bucketsAreReducedInTheirOrderWhileBackwardGoesOn() {
        let timeline = StepTimeline(
            backward: [1, 2, 3], bucketAfterStep: [2: 0, 1: 1, 0: 2], reductions: [4, 1, 0.5])
        #expect(timeline.backward == 6)
        #expect(
            timeline.buckets == [
                .init(ready: 3, start: 3, end: 7), .init(ready: 5, start: 7, end: 8), .init(ready: 6, start: 8, end: 8.5),
            ])
        #expect(timeline.exposed == 2.5)
        #expect(timeline.communication == 5.5)
    }

    @Test func whatBackwardHidesCostsNothing() {
        let hidden = StepTimeline(backward: [1, 1], bucketAfterStep: [1: 0], reductions: [0.5])
        #expect(hidden.exposed == 0)
        #expect(StepTimeline(backward: [1], bucketAfterStep: [:], reductions: []).exposed == 0)
    }

    /// Alone: 2 s of backward, of which 1 s is left when a bucket of 0.5 s is ready. Side by side, computing takes 1.5
    /// and messages twice as long: the bucket travels for 1 s, in which 2/3 s are computed.
    @Test func computingAndMessagesHinderEachOther() {
        let timeline = StepTimeline(
            backward: [1, 1], bucketAfterStep: [1: 0], reductions: [0.5], contention: .init(computing: 1.5, messages: 2))
        #expect(timeline.buckets == [.init(ready: 1, start: 1, end: 2)])
        #expect(abs(timeline.backward - (2 + 1.0 / 3)) < 1e-12 && timeline.exposed == 0)
        // What is left at the end of backward goes on alone: 0.75 s of 1.5 hide 0.375 of 2 s.
        let late = StepTimeline(
            backward: [0.5, 1], bucketAfterStep: [1: 0, 0: 1], reductions: [2, 1],
            contention: .init(computing: 1.5, messages: 2))
        #expect(late.backward == 1.75)
        #expect(late.buckets == [.init(ready: 1, start: 1, end: 3.375), .init(ready: 1.75, start: 3.375, end: 4.375)])
        #expect(late.exposed == 2.625)
    }

    @Test func networkMeasurementsAreReadBackAndChecked() throws {
        let folder = NSTemporaryDirectory() + "network-\(ProcessInfo.processInfo.processIdentifier)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let measured = NetworkMeasurement(
            hosts: 2, ranksPerHost: 1, threads: 4, link: Link(latency: 3e-5, bandwidth: 1.1e8),
            contention: .init(computing: 1.2, messages: 1.6))
        try JSONEncoder().encode(measured).write(to: URL(filePath: folder + "/good"))
        #expect(try NetworkMeasurement(contentsOf: folder + "/good") == measured)
        try Data("{}".utf8).write(to: URL(filePath: folder + "/other"))
        var broken = measured
        broken.link.bandwidth = 0
        try JSONEncoder().encode(broken).write(to: URL(filePath: folder + "/broken"))
        for name in ["other", "broken", "none"] {
            #expect(throws: ArtifactError.self) { try NetworkMeasurement(contentsOf: "\(folder)/\(name)") }
        }
    }

    @Test func headRateIsFoundFromThreeSamples() {
        let truth = HeadRate(perRow: 1e-6, perClass: 2e-7, perElement: 3e-9)
        func sample(_ rows: Int, _ classes: Int) -> HeadRate.Sample {
            .init(
                rows: rows, classes: classes, seconds: truth.seconds(rows: Double(rows), classes: Double(classes)))
        }
        let found = HeadRate(sample(64, 4000), fewerClasses: sample(64, 1000), fewerRows: sample(32, 4000))
        for (a, b) in [
            (found.perRow, truth.perRow), (found.perClass, truth.perClass), (found.perElement, truth.perElement),
        ] {
            #expect(abs(a - b) < 1e-9 * b)
        }
        // A sample that took longer with less to do is noise.
        let noisy = HeadRate(
            .init(rows: 64, classes: 4000, seconds: 1), fewerClasses: .init(rows: 64, classes: 1000, seconds: 1.1),
            fewerRows: .init(rows: 32, classes: 4000, seconds: 1.2))
        #expect(noisy.perElement == 0 && noisy.perClass == 0 && noisy.perRow > 0)
    }

    private let network = NetworkModel(
        local: Link(latency: 1e-5, bandwidth: 1e10), remote: Link(latency: 1e-4, bandwidth: 1e8), memoryBandwidth: 4e10)

    @Test func collectivesOfTwoRanks() {
        let hosts = Placement(ranks: 2, ranksPerHost: 1, threads: 1, batch: 8)
        // Half of the bytes each way, twice; in memory three times read and written.
        #expect(abs(network.bucket(1e8, hosts) - (1 + 2e-4 + 6e8 / 4e10)) < 1e-12)
        #expect(abs(network.allGather(1e8, hosts) - (0.5 + 1e-4)) < 1e-12)
        // Small ones cost one latency.
        #expect(abs(network.allReduce(8, hosts) - (1e-4 + 8e-8)) < 1e-15)
        let one = Placement(ranks: 2, ranksPerHost: 2, threads: 1, batch: 8)
        // Both segments read and written once.
        #expect(abs(network.bucket(1e8, one) - (4e8 / 4e10 + 5e-6)) < 1e-12)
        let solo = Placement(ranks: 1, ranksPerHost: 1, threads: 2, batch: 8)
        #expect(network.bucket(1e8, solo) == 0 && network.allReduce(1e8, solo) == 0 && network.allGather(1, solo) == 0)
    }

    @Test func moreHostsNeverMakeAStepCheaper() throws {
        let plan = try RunPlan(
            recipe(), Placement(ranks: 4, ranksPerHost: 2, threads: 1, batch: 8), classes: 1000, images: 10_000, base: 0)
        let steps = plan.workload.bucketAfterStep.keys.max()! + 1
        let rates = MachineRates(
            batch: 8, forward: .init(repeating: 1e-3, count: steps), backward: .init(repeating: 2e-3, count: steps),
            head: HeadRate(perRow: 1e-6, perClass: 1e-8, perElement: 1e-9), updateSecondsPerParameter: 1e-9,
            memoryBandwidth: 4e10)
        let scaling = plan.scaling(rates, network, most: 64)
        #expect(scaling.map(\.ranks) == [1, 2, 4, 8, 16, 32, 64])
        #expect(scaling.map(\.hosts) == [1, 1, 2, 4, 8, 16, 32])
        #expect(scaling[0].efficiency == 1)
        #expect(scaling[0].step.exposedReduction == 0 && scaling[0].step.headBytes == 0)
        for (a, b) in zip(scaling, scaling.dropFirst()) {
            #expect(b.imagesPerSecond < 2 * a.imagesPerSecond)
            #expect(b.epochSeconds == 10_000 / b.imagesPerSecond)
        }
    }

    // MARK: - Memory

    private func recipe() -> Recipe {
        var recipe = Recipe()
        recipe.network.name = "mobilefacenet"
        recipe.network.width = 0.25
        recipe.network.embedding = 64
        return recipe
    }

    @Test(arguments: [Execution.Purpose.training, .inference], [Precision.fp32, .bf16])
    func anExecutionTakesWhatWasSaid(_ purpose: Execution.Purpose, _ precision: Precision) throws {
        let graph = try RunSetup.specification(recipe().network).build().graph
        for threads in [1, 3] {
            let execution = Execution(
                graph, batch: 3, purpose: purpose, precision: precision, pool: ThreadPool(threads: threads))
            let said = Execution.byteCount(graph, batch: 3, purpose: purpose, precision: precision, threads: threads)
            #expect(said == execution.byteCount)
        }
    }

    @Test func memoryIsThatOfTheParts() throws {
        let recipe = recipe()
        let placement = Placement(ranks: 2, ranksPerHost: 2, threads: 1, batch: 4)
        let plan = try RunPlan(recipe, placement, classes: 1001, images: 5000, base: 7)
        let parts = Dictionary(uniqueKeysWithValues: plan.memory.parts.map { ($0.name, $0.byteCount) })
        let network = try RunSetup.specification(recipe.network).build()
        #expect(parts["weights"] == 4 * network.parameterCount)
        #expect(parts["momentum"] == 4 * network.trainedParameterCount)
        // The larger shard.
        #expect(parts["class centres"] == 501 * 64 * 4)
        #expect(parts["centres' momentum"] == 501 * 64 * 4)
        #expect(parts["process and libraries"] == 7)
        // Gradients lie in the window.
        #expect(parts["gradients"] == nil)
        #expect(plan.memory.window == 2 * 4 * network.trainedParameterCount)
        #expect(plan.memory.perHost == 2 * plan.memory.perRank + plan.memory.window)
        let alone = try RunPlan(
            recipe, Placement(ranks: 2, ranksPerHost: 1, threads: 1, batch: 4), classes: 1001, images: 5000, base: 7)
        #expect(alone.memory.window == 0)
        #expect(alone.memory.perHost == plan.memory.perRank + 4 * network.trainedParameterCount)
    }

    @Test func whatDoesNotFitSaysWhy() {
        let memory = MemoryEstimate(
            parts: [.init("weights", 1 << 20), .init("class centres", 3 << 30)], window: 1 << 20, ranksPerHost: 2)
        let host = HostMemory(limit: 4 << 30, origin: "memory.max", sharedFree: 1 << 19)
        let reason = memory.shortage(host) ?? ""
        #expect(reason.contains("memory.max") && reason.contains("'class centres', 3072 MiB a rank"), "\(reason)")
        #expect(memory.warning(host)?.contains("as messages") == true)
        let large = HostMemory(limit: 8 << 30, origin: "the machine's memory", sharedFree: 1 << 30)
        #expect(memory.shortage(large) == nil && memory.warning(large) == nil)
        #expect(HostMemory.here.limit > 1 << 28)
    }

    @Test func ratesOfThisMachineAreMeasured() throws {
        let placement = Placement(ranks: 2, ranksPerHost: 2, threads: 1, batch: 2)
        let measurement = RateMeasurement(recipe(), placement, classes: 200)
        let rates = try measurement.run()
        #expect(rates.forward.count == rates.backward.count && rates.forward.allSatisfy { $0 >= 0 })
        #expect(rates.forward.reduce(0, +) > 0 && rates.backward.reduce(0, +) > 0)
        #expect(rates.head.seconds(rows: 32, classes: 100) > 0 && rates.updateSecondsPerParameter > 0)
        #expect(rates.memoryBandwidth > 1e8)
    }
}
