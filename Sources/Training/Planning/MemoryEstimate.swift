import FaceData
import Layers
package import Networks
package import Objectives
package import Recipes
import Tensors

/// Bytes of one rank, part by part, and what its host needs.
package struct MemoryEstimate: Sendable, Equatable {
    package struct Part: Sendable, Equatable {
        package var name: String
        package var byteCount: Int

        package init(_ name: String, _ byteCount: Int) {
            self.name = name
            self.byteCount = byteCount
        }
    }

    /// Of one rank, without the window.
    package var parts: [Part]
    /// Gradients of all ranks of one host in shared memory; 0 where there is one rank to a host.
    package var window: Int
    /// Of one rank in mapped files, which a host without room for them writes out and reads again.
    package var mapped = 0
    /// Of rank 0 beside its parts: the copy of the model from which a checkpoint is written behind the training.
    package var root = 0
    package var ranksPerHost: Int

    package init(parts: [Part], window: Int, ranksPerHost: Int) {
        self.parts = parts
        self.window = window
        self.ranksPerHost = ranksPerHost
    }

    /// - Parameters:
    ///   - network: the recipe's backbone.
    ///   - base: bytes of a process before it has built anything: code and libraries.
    ///   - demand: of the recipe's objectives.
    package init(
        _ recipe: Recipe, _ network: Network, _ demand: StepDemand = .single, classes: Int, placement: Placement,
        base: Int
    ) {
        let trained = 4 * network.trainedParameterCount
        let frozen = 4 * (network.parameterCount - network.trainedParameterCount)
        let precision = RunSetup.precision(recipe.compute)
        let execution = demand.passes.reduce(0) { sum, views in
            sum
                + Execution.byteCount(
                    network.graph, batch: views.count * placement.batch, purpose: .training, precision: precision,
                    threads: placement.threads, taps: demand.taps)
        }
        let image = recipe.network.input[0] * recipe.network.input[1] * 3 * 4
        let ahead = recipe.data.prefetch + 1
        let head = HeadMemory(
            classes: (classes + placement.ranks - 1) / placement.ranks, dimension: recipe.network.embedding,
            rows: demand.classified * placement.globalBatch,
            margin: RunSetup.margin(recipe.head, seed: recipe.run.seed, ranks: placement.ranks),
            sampling: RunSetup.sampling(recipe.head), frozen: recipe.freezesHead, passes: recipe.batch.accumulation,
            keepsGradient: RunSetup.keepsCentreGradient(recipe), threads: placement.threads)
        // Mapped files are written out when memory is short: they need not fit.
        let inFiles = recipe.head.storage == .file
        let shares = placement.ranksPerHost > 1
        let copies = RunSetup.savesBehind(recipe)
        let momentum = recipe.optimizer.kind == .adam ? 2 * trained : trained
        let follows = demand.teacherMomentum != nil
        let objectives = ObjectiveMemory(
            recipe.objectives, dimension: recipe.network.embedding, classes: classes, placement: placement)
        let statistics = network.buffers.reduce(0) { $0 + $1.value.byteCount }
        parts = [
            Part("process and libraries", base), Part("weights", trained + frozen),
            Part("teacher's weights", demand.teacher.isEmpty ? 0 : trained + frozen),
            Part("momentum", momentum),
            Part("gradients", shares ? 0 : trained), Part("activations and scratch", execution),
            Part("class centres", inFiles ? 0 : head.centres), Part("centres' momentum", inFiles ? 0 : head.momentum),
            Part("sample of the centres", head.sample), Part("centres' gradients", head.gradient),
            Part("logits and embeddings of the head", head.workspace),
            Part("images ahead", ahead * demand.views * placement.batch * image),
            Part("evaluation", recipe.evaluation.sets.isEmpty ? 0 : recipe.evaluation.batch * image),
            Part("queues of the objectives", objectives.queues), Part("scratch of the objectives", objectives.scratch),
            Part(
                "copy for checkpoints",
                copies ? head.centres + head.momentum + statistics + objectives.queues + (follows ? statistics : 0) : 0),
        ].filter { $0.byteCount > 0 }
        mapped = inFiles ? head.centres + head.momentum : 0
        // Parameters and statistics, momentum, the network that follows; a cache line for each is not counted.
        root = copies ? trained + frozen + statistics + momentum + (follows ? trained + frozen : 0) : 0
        window = shares ? placement.ranksPerHost * trained : 0
        ranksPerHost = placement.ranksPerHost
    }

    /// Of one rank, without the window; of any but rank 0.
    package var perRank: Int { parts.reduce(0) { $0 + $1.byteCount } }
    /// Resident bytes of one rank as the system counts them: its own segment of the window, and the slices of its
    /// neighbours' segments that it sums.
    package var residentPerRank: Int {
        guard ranksPerHost > 1 else { return perRank }
        let segment = window / ranksPerHost
        return perRank + segment + segment * (ranksPerHost - 1) / ranksPerHost
    }
    /// Of the host that has most to hold, rank 0's.
    package var perHost: Int { perRank * ranksPerHost + root + window }

    /// Why the run would not fit; nil when it does.
    package func shortage(_ host: HostMemory) -> String? {
        guard perHost > host.limit else { return nil }
        let largest = parts.sorted { $0.byteCount > $1.byteCount }[0]
        return "\(ranksPerHost) rank(s) need \(Self.text(perHost)) on each host, but \(host.origin) is "
            + "\(Self.text(host.limit)); the largest part is '\(largest.name)', \(Self.text(largest.byteCount)) a rank"
    }

    /// What will go slower for lack of shared memory; nil when there is enough.
    package func warning(_ host: HostMemory) -> String? {
        guard window > 0, let free = host.sharedFree, window > free else { return nil }
        return
            "the gradients' window needs \(Self.text(window)) of shared memory, \(Self.text(free)) are free: gradients "
            + "will travel as messages; enlarge /dev/shm (containers: --shm-size)"
    }

    package static func text(_ byteCount: Int) -> String {
        let mebibytes = Double(byteCount) / 1_048_576
        let isLarge = mebibytes >= 10_240
        let value = isLarge ? mebibytes / 1024 : mebibytes
        let digits = value < 10 ? 100.0 : value < 100 ? 10 : 1
        let rounded = (value * digits).rounded() / digits
        return "\(digits == 1 ? "\(Int(rounded))" : "\(rounded)") \(isLarge ? "GiB" : "MiB")"
    }
}
