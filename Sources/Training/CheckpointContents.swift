package import Artifacts
package import Collectives
import FaceData
import Layers
import Networks
import Objectives
import Tensors

/// The scalar state of a run. Everything random is a function of the seed and these counts.
package struct RunState: Codable, Sendable, Equatable {
    /// Updates completed.
    package var step = 0
    /// Images consumed by all ranks.
    package var position = 0
    package var seed: UInt64 = 0
    package var worldSize = 1
    package var classes = 0
    package var images = 0
    /// Records that some rank could not read, in rising order.
    package var damagedRecords: [Int]?
    /// Best accuracy so far of the first evaluation set.
    package var bestAccuracy: Double?
    /// What the head keeps over steps (moving averages), by name.
    package var headStatistics: [String: Double]?
}

/// What a checkpoint holds and how it is put back, whatever the number of ranks.
package enum CheckpointContents {
    package static let modelFile = "model.safetensors"
    static let optimizerFile = "optimizer.safetensors"
    static let centres = "head/centres"
    static let momentum = "head/momentum"
    static let biases = "head/bias"
    static let biasMomentum = "head/bias_momentum"

    /// Adds this rank's files: rank 0 the model (statistics averaged over ranks), the optimizer's state and the
    /// scalars; every rank its head rows and its own running statistics.
    static func write(
        _ files: CheckpointFiles, state: RunState, step: TrainingStep, head: MarginClassification,
        averaged: RunningStatistics, card: ModelFile.Card, source: any FaceSource
    ) throws {
        let network = step.network
        if files.rank == 0 {
            let own = RunningStatistics(network.buffers)
            averaged.apply(to: network.buffers)
            defer { own.apply(to: network.buffers) }
            try files.addTensors(
                modelFile,
                network.state.map { CheckpointTensor($0.name, $0.value) }
                    + step.objective.parameters.map { CheckpointTensor($0.name, $0.value) }, metadata: card.metadata)
            try files.addTensors(
                optimizerFile,
                step.arena.optimizerState.map { CheckpointTensor($0.name, $0.tensor) })
            var state = state
            let statistics = head.classifier.margin.statistics
            state.headStatistics = statistics.isEmpty ? nil : statistics
            try files.addState(state)
            try ClassNames.write(files, of: source)
        }
        let classifier = head.classifier
        let rows = ShardRows(classifier.classRange, of: classifier.shards.classes)
        var shard = [CheckpointTensor(centres, classifier.centres, rows: rows)]
        if !classifier.isFrozen { shard.append(CheckpointTensor(momentum, classifier.momentum, rows: rows)) }
        if let bias = classifier.bias {
            shard.append(CheckpointTensor(biases, bias.values, rows: rows))
            if !classifier.isFrozen { shard.append(CheckpointTensor(biasMomentum, bias.momentum, rows: rows)) }
        }
        try files.addShard("head", shard)
        for added in (step.objective as? ObjectiveStack)?.added ?? [] where added.keepsState {
            try files.addShard(
                added.name,
                added.state.map { CheckpointTensor("\(added.name)/rank-\(files.rank)/\($0.name)", $0.tensor) })
        }
        let statistics = RunningStatistics(network.buffers).values
        try files.addShard(
            "statistics",
            [CheckpointTensor("statistics/rank-\(files.rank)", Tensor([statistics.count], statistics))])
    }

    /// Puts a checkpoint back: exactly on the same number of ranks, with averaged running statistics on another.
    static func read(
        _ checkpoint: Checkpoint, state: RunState, into step: TrainingStep, head: MarginClassification
    ) throws {
        try readStatistics(state.headStatistics ?? [:], of: checkpoint, into: head)
        let network = step.network
        try ModelFile.load(
            WeightsFile(checkpoint.folder + "/" + modelFile), into: network, beside: step.objective.parameters)
        try readOptimizer(checkpoint, into: step.arena)
        try readHead(checkpoint, into: head.classifier)
        for added in (step.objective as? ObjectiveStack)?.added ?? [] where added.keepsState {
            try readState(checkpoint, into: added)
        }
        let communicator = step.communicator
        if checkpoint.manifest.worldSize == communicator.size {
            let name = CheckpointFiles.shardName("statistics", rank: communicator.rank, worldSize: communicator.size)
            let values = try checkpoint.tensors(name).tensor("statistics/rank-\(communicator.rank)")
            RunningStatistics(values: Array(values.floats)).apply(to: network.buffers)
        }
    }

    private static func readOptimizer(_ checkpoint: Checkpoint, into arena: ParameterArena) throws {
        let file = try checkpoint.tensors(optimizerFile)
        let keepsSquares = file.names.contains { $0.hasSuffix(ParameterArena.squaresSuffix) }
        guard keepsSquares == (arena.squares != nil) || file.names.isEmpty else {
            throw ArtifactError.incompatible(
                path: checkpoint.folder,
                reason: "its optimizer is \(keepsSquares ? "adam" : "sgd"); resume with the run's optimizer.kind")
        }
        for (name, target) in arena.optimizerState {
            let stored = try file.tensor(name)
            guard stored.shape == target.shape else {
                throw ArtifactError.incompatible(
                    path: checkpoint.folder, reason: "momentum of '\(name)' is \(stored.shape)")
            }
            target.bytes.copyMemory(from: UnsafeRawBufferPointer(stored.bytes))
        }
    }

    /// What all ranks of the checkpoint kept of an objective.
    private static func readState(_ checkpoint: Checkpoint, into added: any AddedObjective) throws {
        let worldSize = checkpoint.manifest.worldSize
        try added.restore(
            (0..<worldSize).map { rank in
                let file = try checkpoint.tensors(
                    CheckpointFiles.shardName(added.name, rank: rank, worldSize: worldSize))
                let prefix = "\(added.name)/rank-\(rank)/"
                return try file.names.reduce(into: [:]) { result, name in
                    if name.hasPrefix(prefix) { result[String(name.dropFirst(prefix.count))] = try file.tensor(name) }
                }
            })
    }

    private static func readStatistics(
        _ statistics: [String: Double], of checkpoint: Checkpoint, into head: MarginClassification
    ) throws {
        func list(_ names: some Collection<String>) -> String {
            names.isEmpty ? "no statistics" : names.sorted().joined(separator: ", ")
        }
        let wanted = head.classifier.margin.statistics.keys
        guard wanted == statistics.keys else {
            throw ArtifactError.incompatible(
                path: checkpoint.folder,
                reason: "its head kept \(list(statistics.keys)), the recipe's keeps \(list(wanted)); resume with the "
                    + "head.margin of the run, or start another run from it with init.head")
        }
        if !statistics.isEmpty { head.classifier.margin.statistics = statistics }
    }

    /// This rank's rows of the class centres, of the biases, and of their momentum, read to where they stay.
    private static func readHead(_ checkpoint: Checkpoint, into classifier: ShardedClassifier<Float>) throws {
        let total = checkpoint.shardedTensors[centres]?.shape.first ?? 0
        guard total == classifier.shards.classes else {
            throw ArtifactError.incompatible(
                path: checkpoint.folder,
                reason: "its head has \(total) classes, the data has \(classifier.shards.classes)")
        }
        try checkLength(checkpoint, of: classifier)
        try checkpoint.readRows(centres, classifier.classRange, into: classifier.centres)
        if !classifier.isFrozen {
            try checkpoint.readRows(momentum, classifier.classRange, into: classifier.momentum)
        }
        let hasBiases = checkpoint.shardedTensors[biases] != nil
        guard hasBiases == (classifier.bias != nil) else {
            throw ArtifactError.incompatible(
                path: checkpoint.folder,
                reason: "its head has \(hasBiases ? "" : "no ")biases; resume with its head.bias")
        }
        guard let bias = classifier.bias else { return }
        try checkpoint.readRows(biases, classifier.classRange, into: bias.values)
        if !classifier.isFrozen { try checkpoint.readRows(biasMomentum, classifier.classRange, into: bias.momentum) }
    }

    static func checkLength(_ checkpoint: Checkpoint, of classifier: ShardedClassifier<Float>) throws {
        let length = checkpoint.shardedTensors[centres]?.shape.last ?? 0
        guard length == classifier.dimension else {
            throw ArtifactError.incompatible(
                path: checkpoint.folder,
                reason: "its class centres have \(length) components, the recipe's network.embedding is "
                    + "\(classifier.dimension)")
        }
    }

    /// What the store needs from the ranks.
    ///
    /// - Parameter failedHere: called when this rank could not do its own part.
    package static func coordination(
        _ communicator: any Communicator, failedHere: @escaping () -> Void = {}
    ) -> CheckpointCoordination {
        CheckpointCoordination(
            rank: communicator.rank, worldSize: communicator.size,
            confirm: { success in
                if !success { failedHere() }
                var flag: Int64 = success ? 1 : 0
                try withUnsafeMutablePointer(to: &flag) {
                    try communicator.allReduce(
                        UnsafeMutableBufferPointer(start: $0, count: 1), .min, "checkpoint confirmation")
                }
                return flag == 1
            },
            gather: { try communicator.gather($0, root: 0, "checkpoint files") },
            broadcast: { try communicator.broadcast($0, root: 0, "checkpoint name") })
    }
}
