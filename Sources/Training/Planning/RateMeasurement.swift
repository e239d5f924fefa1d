import Collectives
import Layers
import Networks
import Objectives
package import Recipes
import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Measures a recipe's backbone, head and optimizer on random numbers, with as many ranks side by side as will share a
/// host: they share its memory, too.
package struct RateMeasurement: Sendable {
    package let recipe: Recipe
    package let placement: Placement
    package let classes: Int
    /// Ranks that run side by side: no more than this machine has processors for.
    package let sharers: Int

    private static let passes = 5
    /// Classes that take part, enough for the arithmetic to run at the rate of more.
    private static let headClasses = 16_384.0
    private static let headRows = 32...256

    /// - Parameter beside: ranks that share this machine; those of a host by default.
    package init(_ recipe: Recipe, _ placement: Placement, classes: Int, beside: Int? = nil) {
        self.recipe = recipe
        self.placement = placement
        self.classes = classes
        sharers = max(1, min(beside ?? placement.ranksPerHost, ThreadPool.availableProcessors / placement.threads))
    }

    /// - Throws: `NetworkError`.
    package func run() throws -> MachineRates {
        _ = try RunSetup.network(recipe)
        let results = try InProcessGroup.run(ranks: sharers, deadline: 3600) { try measure($0) }
        // Ranks wait for the slowest one.
        var slowest = results[0]
        for rates in results.dropFirst() {
            for step in slowest.forward.indices {
                slowest.forward[step] = max(slowest.forward[step], rates.forward[step])
                slowest.backward[step] = max(slowest.backward[step], rates.backward[step])
            }
            slowest.updateSecondsPerParameter = max(slowest.updateSecondsPerParameter, rates.updateSecondsPerParameter)
            slowest.head = slower(slowest.head, rates.head)
        }
        // The threads that talk need processors, too.
        if sharers * placement.threads >= ThreadPool.availableProcessors {
            slowest.messageSecondsPerByte = MessageCost.secondsPerByte() ?? 0
        }
        return slowest
    }

    /// The one that takes longer at the size of the run.
    private func slower(_ a: HeadRate, _ b: HeadRate) -> HeadRate {
        let rows = Double(placement.globalBatch)
        let columns = Double(classes) / Double(placement.ranks)
        return a.seconds(rows: rows, classes: columns) > b.seconds(rows: rows, classes: columns) ? a : b
    }

    private func measure(_ neighbours: any Communicator) throws -> MachineRates {
        let pool = ThreadPool(threads: placement.threads)
        let backbone = try backbone(neighbours, pool)
        let full = min(max(classes / placement.ranks, 64), Int(Self.headClasses / recipe.head.sampling.rate))
        let rows = min(max(placement.globalBatch, Self.headRows.lowerBound), Self.headRows.upperBound)
        func sample(_ rows: Int, _ classes: Int) throws -> HeadRate.Sample {
            try head(rows: rows, classes: classes, neighbours, pool)
        }
        let headRate = HeadRate(
            try sample(rows, full), fewerClasses: try sample(rows, full / 4), fewerRows: try sample(rows / 2, full))
        let bandwidth = try neighbours.allReduce(memoryBandwidth(pool), .sum, "bandwidth")
        return MachineRates(
            batch: placement.batch, forward: backbone.forward, backward: backbone.backward, head: headRate,
            updateSecondsPerParameter: backbone.update, memoryBandwidth: bandwidth)
    }

    // MARK: - Backbone and optimizer

    private func backbone(
        _ neighbours: any Communicator, _ pool: ThreadPool
    ) throws -> (forward: [Double], backward: [Double], update: Double) {
        let network = try RunSetup.network(recipe)
        network.initialize(seed: recipe.run.seed)
        let batch = placement.batch
        let arena = ParameterArena(
            network.graph, bucketBytes: .max, optimizer: recipe.optimizer, start: recipe.start)
        let gradients = Tensor([max(arena.count, 1)])
        arena.bind(gradients: gradients.floats.baseAddress!, owner: gradients.buffer)
        let execution = Execution(
            network.graph, batch: batch, purpose: .training, precision: RunSetup.precision(recipe.compute), pool: pool)
        let images = Tensor([batch, network.graph.inputShape.count])
        fill(images, rank: neighbours.rank)
        var forward: [[Double]] = []
        var backward: [[Double]] = []
        var updates: [Double] = []
        for pass in 0...Self.passes {
            let profile = LayerProfile(network.graph)
            execution.profile = profile
            try neighbours.barrier("plan")
            execution.forward(images.pointer, count: batch, mode: .training)
            let output = execution.outputGradient
            for i in output.floats.indices { output.floats[i] = Float(i % 13 - 6) * 1e-4 }
            execution.backward()
            try neighbours.barrier("plan")
            let start = monotonicSeconds()
            _ = Vectors.sumSquares(pool, gradients.floats)
            for run in arena.runs {
                Vectors.sgd(
                    pool, parameters: .init(rebasing: arena.values.floats[run.range]),
                    velocity: .init(rebasing: arena.momentum.floats[run.range]),
                    gradient: .init(rebasing: gradients.floats[run.range]), rate: 0, momentum: 0.9, decay: run.decay)
            }
            // The first pass meets cold memory.
            if pass == 0 { continue }
            updates.append(monotonicSeconds() - start)
            forward.append(profile.forward)
            backward.append(profile.backward)
        }
        withExtendedLifetime(images) {}
        return (
            medians(forward), medians(backward), median(updates) / Double(max(arena.count, 1))
        )
    }

    private func fill(_ images: Tensor, rank: Int) {
        var random = RandomStream(seed: 7, purpose: .augmentation, index: UInt64(rank), step: 0)
        let values = images.floats
        for i in values.indices { values[i] = Float(random.uniform(-1, 1)) }
    }

    // MARK: - Head

    private func head(
        rows: Int, classes: Int, _ neighbours: any Communicator, _ pool: ThreadPool
    ) throws -> HeadRate.Sample {
        let head = MarginClassification(
            ShardedClassifier<Float>(
                classes: classes, dimension: recipe.network.embedding, batch: rows,
                margin: RunSetup.margin(recipe.head, seed: recipe.run.seed, ranks: 1),
                communicator: SoloCommunicator(), pool: pool, seed: recipe.run.seed,
                frozen: recipe.freezesHead, keepsGradient: RunSetup.keepsCentreGradient(recipe),
                sampling: RunSetup.sampling(recipe.head)), pool: pool)
        let embeddings = Tensor([rows, recipe.network.embedding])
        fill(embeddings, rank: neighbours.rank)
        let gradient = Tensor([rows, recipe.network.embedding])
        let labels = (0..<rows).map { $0 % classes }
        let records = Array(0..<rows)
        var seconds: [Double] = []
        for pass in 0...Self.passes {
            try labels.withUnsafeBufferPointer { labels in
                try records.withUnsafeBufferPointer {
                    try head.begin(labels: labels, records: $0, step: pass, over: SoloCommunicator())
                }
            }
            try neighbours.barrier("plan")
            let start = monotonicSeconds()
            _ = try head.step(
                ObjectivePass(embeddings: embeddings, embeddingGradient: gradient, step: pass), weight: 1,
                accumulate: false)
            _ = head.gradientSquares()
            head.update(rate: 0, momentum: 0.9, decay: 0)
            if pass > 0 { seconds.append(monotonicSeconds() - start) }
        }
        return HeadRate.Sample(rows: rows, classes: classes, seconds: median(seconds))
    }

    // MARK: - Memory

    /// Bytes per second of adding one large vector to another: two reads and a write.
    private func memoryBandwidth(_ pool: ThreadPool) -> Double {
        let from = Tensor([8 << 20])
        let to = Tensor([8 << 20])
        let seconds = (0...Self.passes).map { _ in
            let start = monotonicSeconds()
            Vectors.accumulate(pool, from.floats, into: to.floats)
            return monotonicSeconds() - start
        }
        return 3 * Double(from.bytes.count) / median(Array(seconds.dropFirst()))
    }

    private func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

    private func medians(_ passes: [[Double]]) -> [Double] {
        passes[0].indices.map { index in median(passes.map { $0[index] }) }
    }
}
