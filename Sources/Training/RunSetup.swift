package import Artifacts
package import Collectives
package import FaceData
package import Layers
package import Logging
package import Networks
package import Recipes
package import Telemetry
package import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Where and how a command runs.
package struct RunEnvironment {
    package let communicator: any Communicator
    package let pool: ThreadPool
    /// Prints on rank 0 only.
    package let logger: Logger
    package let progress: ProgressStyle
    /// Set by signal handlers; read at step boundaries.
    package let stopRequested: @Sendable () -> Bool
    /// Where checkpoints are written and read, and the recipe that a resumed run replaces is kept.
    package let fileSystem: any FileSystem
    /// Processor seconds of this rank's watchdog so far.
    package let watchdogSeconds: @Sendable () -> Double
    /// Faults that are injected on purpose.
    package let faults: FaultPlan

    package init(
        communicator: any Communicator, pool: ThreadPool, logger: Logger, progress: ProgressStyle,
        stopRequested: @escaping @Sendable () -> Bool = { false }, fileSystem: any FileSystem = POSIXFileSystem(),
        watchdogSeconds: @escaping @Sendable () -> Double = { 0 }, faults: FaultPlan = .empty
    ) {
        self.communicator = communicator
        self.pool = pool
        self.logger = logger
        self.progress = progress
        self.stopRequested = stopRequested
        self.fileSystem = fileSystem
        self.watchdogSeconds = watchdogSeconds
        self.faults = faults
    }

    package var isRoot: Bool { communicator.rank == 0 }
}

/// What a recipe's sections mean in terms of the engine.
package enum RunSetup {
    package static func preprocessing(_ recipe: Recipe) -> Preprocessing {
        let width = recipe.network.input[1]
        let crop = Preprocessing.Crop(x: (112 - width) / 2, y: 0, width: width, height: recipe.network.input[0])
        return Preprocessing(channelOrder: recipe.data.channelOrder == .rgb ? .rgb : .bgr, crop: crop)
    }

    package static func specification(_ network: NetworkSection) -> NetworkSpecification {
        NetworkSpecification(
            network.name, embeddingSize: network.embedding, inputHeight: network.input[0], inputWidth: network.input[1],
            width: network.width, dropout: network.dropout)
    }

    /// The backbone of a recipe, with what of it trains.
    ///
    /// - Throws: `NetworkError`; `TrainingError.incompatible` where a name fits nothing.
    package static func network(_ recipe: Recipe) throws -> Network {
        let network = try specification(recipe.network).build()
        if recipe.network.embeddingScale == .trained {
            for parameter in network.parameters where parameter.name == "features.weight" { parameter.isTrained = true }
        }
        for prefix in recipe.frozenPrefixes {
            let hit = network.parameters.filter { $0.name.hasPrefix(prefix) }
            guard !hit.isEmpty else {
                throw TrainingError.incompatible(
                    "init.freeze: no parameter of \(recipe.network.name) begins with '\(prefix)'")
            }
            for parameter in hit { parameter.isTrained = false }
        }
        return network
    }

    /// Whether checkpoints on the way are written behind the training, from a copy of what they hold. A head that lies
    /// in files is too large to be copied.
    package static func savesBehind(_ recipe: Recipe) -> Bool {
        recipe.checkpoint.asynchronous && recipe.head.storage == .memory
            && (recipe.checkpoint.everySteps != nil || recipe.checkpoint.keepBest != nil)
    }

    package static func precision(_ compute: ComputeSection) -> Precision {
        switch compute.precision {
        case .fp32: .fp32
        case .bf16: .bf16
        }
    }

    /// In what two ways of preparing images differ, in the words of each; nil when they are the same.
    package static func difference(_ have: Preprocessing, _ need: Preprocessing) -> (have: String, need: String)? {
        func face(_ p: Preprocessing) -> String { "a face of \(p.faceHeight)x\(p.faceWidth)" }
        func crop(_ p: Preprocessing) -> String {
            "an input of \(p.height)x\(p.width) from row \(p.crop.y), column \(p.crop.x)"
        }
        let aspects: [(Preprocessing) -> String] = [
            { "channel order \($0.channelOrder.rawValue)" }, { "(v - \($0.mean)) / \($0.scale)" }, face, crop,
        ]
        let differing = aspects.filter { $0(have) != $0(need) }
        if differing.isEmpty { return nil }
        return (
            differing.map { $0(have) }.joined(separator: ", "), differing.map { $0(need) }.joined(separator: ", ")
        )
    }

    /// The smallest s at which `classes` can be told apart with probability 0.9 at the optimum: normalised logits cannot
    /// give the own class more than 1/(1 + (C − 1)·exp(−s·C/(C − 1))) (Wang et al., CosFace, eq. 6).
    package static func scaleBound(classes: Int, probability: Double = 0.9) -> Double {
        guard classes > 1 else { return 0 }
        let others = Double(classes - 1)
        return others / Double(classes) * log(others * probability / (1 - probability))
    }
}
