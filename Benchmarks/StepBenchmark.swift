package import Collectives
import FaceData
package import Layers
package import Networks
import Objectives
package import Recipes
package import Tensors
package import Training

/// The time of one training step, or of inference, on random images: no data loading is in it.
package struct StepBenchmark: Sendable {
    package var network: NetworkSpecification
    package var precision = Precision.fp32
    /// Images of all ranks together.
    package var globalBatch = 32
    package var classes = 10_000
    package var steps = 10
    package var warmup = 3
    /// Inference in place of training.
    package var forwardOnly = false
    package var profilesLayers = false
    /// Images come from its `data` through the loader, in place of the same random ones in every step.
    package var data: Recipe?
    /// Gradients are reduced while backward goes on.
    package var overlap = true
    /// Of gradients that travel between hosts.
    package var messages = Precision.fp32

    package init(network: NetworkSpecification) { self.network = network }

    package struct Result: Sendable {
        package var times: StepTimes
        /// Of this rank: maps, their gradients and scratch.
        package var executionMiB: Double
        /// Of this rank, when asked for.
        package var layers: [LayerTime]
    }

    /// What one layer of the graph took in a mean step of this rank.
    package struct LayerTime: Sendable {
        package var name: String
        package var kind: String
        package var shape: String
        package var forward: Double
        package var backward: Double
        /// Multiply-adds count two, of one rank's images.
        package var forwardFlops: Double
        package var backwardFlops: Double
    }

    /// - Parameter trace: records some of the training steps, those of the warm-up counted.
    /// - Throws: `NetworkError`; `CollectiveError`; `TrainingError.nonFinite`.
    package func run(
        _ communicator: any Communicator, _ pool: ThreadPool, trace: StepTrace? = nil
    ) throws -> Result {
        let network = try network.build()
        network.initialize(seed: 1)
        precondition(globalBatch % communicator.size == 0, "the ranks do not divide the batch")
        let batch = globalBatch / communicator.size
        let images = Tensor([batch, network.graph.inputShape.count])
        var random = RandomStream(seed: 7, purpose: .augmentation, index: UInt64(communicator.rank), step: 0)
        let values = images.floats
        for i in values.indices { values[i] = Float(random.uniform(-1, 1)) }
        return forwardOnly
            ? try infer(network, images, batch, communicator, pool)
            : try train(network, images, batch, communicator, pool, trace)
    }

    // MARK: - Inference

    private func infer(
        _ network: Network, _ images: Tensor, _ batch: Int, _ communicator: any Communicator, _ pool: ThreadPool
    ) throws -> Result {
        let execution = Execution(
            network.graph, batch: batch, purpose: .inference, precision: precision, pool: pool)
        let profile = profilesLayers ? LayerProfile(network.graph) : nil
        execution.profile = profile
        let seconds = try times(communicator, profile) { _ in
            execution.forward(images.pointer, count: batch, mode: .evaluation)
        }
        return try result(seconds, nil, network, profile, batch, communicator, execution)
    }

    // MARK: - Training

    private func train(
        _ network: Network, _ images: Tensor, _ batch: Int, _ communicator: any Communicator, _ pool: ThreadPool,
        _ trace: StepTrace?
    ) throws -> Result {
        var recipe = Recipe()
        recipe.network.name = network.specification.name
        recipe.head = HeadSection(.arcface(ArcFaceSection()))
        recipe.batch.global = globalBatch
        recipe.compute.precision = precision == .bf16 ? .bf16 : .fp32
        recipe.compute.messages = messages == .bf16 ? .bf16 : .fp32
        recipe.compute.overlap = overlap
        let head = MarginClassification(
            ShardedClassifier<Float>(
                classes: classes, dimension: network.specification.embeddingSize, batch: batch,
                margin: RunSetup.margin(recipe.head, seed: 1, ranks: communicator.size), communicator: communicator,
                pool: pool, seed: 1, keepsGradient: false), pool: pool)
        let schedule = LearningRateSchedule(
            recipe.schedule, recipe.optimizer, globalBatch: globalBatch, stepsPerEpoch: 1000)
        let step = try TrainingStep(
            network: network, objective: head, communicator: communicator, pool: pool, batch: batch, recipe: recipe,
            schedule: schedule)
        step.trace = trace
        let profile = profilesLayers ? LayerProfile(network.graph) : nil
        step.execution.profile = profile
        var random = RandomStream(seed: 8, purpose: .augmentation, index: UInt64(communicator.rank), step: 0)
        let labels = (0..<batch).map { _ in Int(random.uniform(0, Double(classes))) }
        let input = StepInput(images: images, labels: labels, records: Array(0..<batch))
        let loader = try communicator.together("data") { try data.map { try makeLoader($0, communicator) } }
        var losses: [Double] = []
        let seconds = try times(communicator, profile) { index in
            let report = try step.update(
                step: index, count: 1, flags: { StepFlags() },
                input: { _ in
                    guard let batch = try loader?.next() else { return input }
                    return StepInput(images: batch.images, labels: batch.labels, records: batch.records)
                })
            losses.append(report.loss)
        }
        return try result(seconds, losses, network, profile, batch, communicator, step.execution)
    }

    private func makeLoader(_ recipe: Recipe, _ communicator: any Communicator) throws -> BatchLoader {
        let source = try RunSetup.source(recipe.data)
        guard source.classCount <= classes else {
            throw TrainingError.incompatible(
                "the data has \(source.classCount) identities, more than the head's \(classes) classes")
        }
        return BatchLoader(
            source: source,
            sampler: try RunSetup.sampler(recipe.data, source, globalBatch: globalBatch, seed: recipe.run.seed),
            rank: communicator.rank, worldSize: communicator.size, options: RunSetup.loaderOptions(recipe))
    }

    // MARK: - Measuring

    /// Seconds of every step, the warm-up first.
    private func times(
        _ communicator: any Communicator, _ profile: LayerProfile?, _ body: (Int) throws -> Void
    ) throws -> [Double] {
        let prepare: (Int) -> Void = { if $0 == warmup { profile?.reset() } }
        return try communicator.stepSeconds(warmup + steps, prepare: prepare, body)
    }

    private func result(
        _ seconds: [Double], _ losses: [Double]?, _ network: Network, _ profile: LayerProfile?, _ batch: Int,
        _ communicator: any Communicator, _ execution: Execution
    ) throws -> Result {
        Result(
            times: try StepTimes(seconds, warmup: warmup, rows: globalBatch, losses: losses, communicator),
            executionMiB: Double(execution.byteCount) / 1_048_576,
            layers: profile.map { layerTimes($0, network.graph, batch) } ?? [])
    }

    private func layerTimes(_ profile: LayerProfile, _ graph: Graph, _ batch: Int) -> [LayerTime] {
        graph.steps.enumerated().map { index, step in
            let inputs = graph.inputShapes(step)
            let (kind, flops) = Self.work(step, inputs[0], batch: batch)
            let isFirst = step.layer is StemConvolution
            let shape = inputs[0] == step.shape ? "\(inputs[0])" : "\(inputs[0]) to \(step.shape)"
            return LayerTime(
                name: step.name, kind: kind, shape: shape,
                forward: profile.forward[index] / Double(steps), backward: profile.backward[index] / Double(steps),
                forwardFlops: flops, backwardFlops: isFirst ? flops : 2 * flops)
        }
    }

    /// What kind of layer a step is, and the operations of its forward.
    private static func work(_ step: Graph.Step, _ input: MapShape, batch: Int) -> (kind: String, flops: Double) {
        let outputs = Double(batch * step.shape.count)
        switch step.layer {
        case let layer as StemConvolution:
            return ("first convolution", 2 * outputs * Double(layer.inputChannels * layer.kernel * layer.kernel))
        case let layer as Convolution:
            let taps = layer.kernel.height * layer.kernel.width
            let name =
                layer.groups == layer.inputChannels && layer.groups > 1
                ? "depthwise" : layer.groups > 1 ? "grouped" : "dense"
            let stride = layer.stride == 1 ? "" : " stride \(layer.stride)"
            return (
                "\(layer.kernel.height)x\(layer.kernel.width) \(name)\(stride)",
                2 * outputs * Double(layer.inputChannels / layer.groups * taps)
            )
        case is Normalization: return ("norm", 0)
        case let layer as Linear: return ("linear", 2 * outputs * Double(layer.inputs))
        default: return ("other", 0)
        }
    }
}
