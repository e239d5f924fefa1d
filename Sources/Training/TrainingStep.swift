package import Collectives
package import Layers
package import Networks
package import Objectives
package import Recipes
package import Tensors

/// This rank's share of one micro-batch, as the step takes it.
package struct StepInput: Sendable {
    /// (B, 3, height, width), fp32, normalised; unchanged until the pass has ended.
    package let images: Tensor
    /// B global class indices and record indices.
    package let labels: [Int]
    package let records: [Int]

    package init(images: Tensor, labels: [Int], records: [Int]) {
        self.images = images
        self.labels = labels
        self.records = records
    }
}

/// What one update did; the same on every rank, but for the times.
package struct StepReport: Sendable {
    package var outcome: ObjectiveOutcome
    /// Norm of the backbone's gradient before clipping.
    package var gradientNorm: Double
    package var learningRate: Double
    /// Seconds of the whole update, and of waiting for the other ranks' gradients.
    package var seconds: Double
    package var reduceWait: Double
    /// Seconds that the gradients' reduction took, beside backward or after it.
    package var reduceSeconds: Double
    /// Sums over ranks of the flags that went in.
    package var flags: StepFlags

    package var loss: Double { outcome.loss }
}

/// What a rank tells the others with every update: counts that are summed.
package struct StepFlags: Sendable, Equatable {
    /// Ranks that were asked to stop.
    package var stop = 0
    /// Rank 0's clock passed `max_time`.
    package var timeUp = 0
    /// Records quarantined by this rank in this update.
    package var quarantined = 0
    /// Seconds waited for data.
    package var dataWait = 0.0

    package init() {}
}

/// What the thread that gathers labels is told.
private struct LabelGathering: Sendable {
    let input: StepInput
    let step: Int
}

/// One update of everything that learns: forward, objective, backward with overlapped reduction, one small reduction of
/// flags and norms, clipping, SGD. It knows no method: that is the objective's. Once the first updates have been made,
/// another one allocates no memory.
package final class TrainingStep {
    package let network: Network
    package let execution: Execution
    package let arena: ParameterArena
    package let objective: any Objective
    package let communicator: any Communicator
    package let reducer: GradientReducer
    package let pool: ThreadPool
    package let optimizer: OptimizerSection
    package let schedule: LearningRateSchedule
    /// Records some of the updates; nil for none.
    package var trace: StepTrace? {
        didSet {
            reducer.trace = trace?.recorder
            objective.trace = trace?.recorder
        }
    }
    /// Gathers labels beside the backbone's forward.
    private let labels: BackgroundCollective<LabelGathering>
    /// What the ranks sum at the end of an update.
    private var control = [Double](repeating: 0, count: 5)
    private let headRateFactor: Float
    private let headDecay: Float
    private let seed: UInt64
    /// Gradients are reduced while backward goes on.
    private let overlaps: Bool

    /// - Parameter batch: images per rank and micro-batch.
    /// - Throws: `CollectiveError`.
    package init(
        network: Network, objective: any Objective, communicator: any Communicator, pool: ThreadPool, batch: Int,
        recipe: Recipe, schedule: LearningRateSchedule
    ) throws {
        self.network = network
        self.objective = objective
        self.communicator = communicator
        self.pool = pool
        self.schedule = schedule
        optimizer = recipe.optimizer
        seed = recipe.run.seed
        overlaps = recipe.compute.overlap
        headRateFactor = Float(ParameterArena.rateFactor("head", recipe.start))
        headDecay = Float(recipe.optimizer.decayExempt.contains("head") ? 0 : recipe.optimizer.weightDecay)
        arena = ParameterArena(
            network.graph, bucketBytes: Int(recipe.compute.bucketMiB * 1_048_576), optimizer: recipe.optimizer,
            start: recipe.start)
        execution = Execution(
            network.graph, batch: batch, purpose: .training, precision: RunSetup.precision(recipe.compute), pool: pool)
        reducer = try GradientReducer(
            communicator: communicator, elementCount: max(arena.count, 1), bucketRanges: arena.buckets,
            messages: recipe.compute.messages == .bf16 ? .bf16 : .fp32)
        nonisolated(unsafe) let objective = objective
        labels = try BackgroundCollective(over: communicator, channel: "labels") { gathering, channel in
            let input = gathering.input
            try input.labels.withUnsafeBufferPointer { labels in
                try input.records.withUnsafeBufferPointer { records in
                    try objective.begin(labels: labels, records: records, step: gathering.step, over: channel)
                }
            }
        }
        if let gradients = reducer.gradients.baseAddress { arena.bind(gradients: gradients, owner: reducer) }
    }

    /// Performs the update that follows `step` completed ones.
    ///
    /// - Parameters:
    ///   - microBatches: at least one; called in turn with the index of the micro-batch.
    ///   - count: how many there are; each loss counts 1/count.
    /// - Throws: `TrainingError.nonFinite` on every rank before anything was changed; `CollectiveError`;
    ///   what `input` throws.
    package func update(
        step: Int, count: Int, flags: () -> StepFlags, input: (Int) throws -> StepInput
    ) throws -> StepReport {
        StepMark.begin()
        guard let trace else { return try perform(step: step, count: count, flags: flags, input: input) }
        return try trace.record(step: step + 1) {
            try perform(step: step, count: count, flags: flags, input: input)
        }
    }

    private func perform(
        step: Int, count: Int, flags: () -> StepFlags, input: (Int) throws -> StepInput
    ) throws -> StepReport {
        let recorder = trace?.recorder
        let start = monotonicSeconds()
        var outcome = ObjectiveOutcome()
        reducer.begin()
        for micro in 0..<count {
            do {
                let share = try recorder.slice("data wait") { try input(micro) }
                outcome.add(try pass(share, step: step, micro: micro, count: count), of: count)
            } catch {
                reducer.cancel(error)
                throw error
            }
        }
        let timing = try recorder.slice("reduction wait") { try reducer.finish() }

        let (squares, headSquares, summed) = try recorder.slice("control") {
            let squares = Vectors.sumSquares(pool, reducer.gradients)
            let (headSquares, summed) = try sum(objective.gradientSquares(), flags())
            return (squares, headSquares, summed)
        }
        guard outcome.loss.isFinite, squares.isFinite, headSquares.isFinite else {
            let what =
                !outcome.loss.isFinite
                ? "the loss" : !squares.isFinite ? "a gradient of the backbone" : "a gradient of the head"
            throw TrainingError.nonFinite(step: step + 1, what: what)
        }
        let norm = squares.squareRoot()
        let rate = schedule.rate(step: step)
        recorder.slice("update") { apply(clip: clipFactor(norm), rate: Float(rate)) }
        return StepReport(
            outcome: outcome, gradientNorm: norm, learningRate: rate, seconds: monotonicSeconds() - start,
            reduceWait: timing.waited, reduceSeconds: timing.communication, flags: summed)
    }

    /// Forward, objective, backward of one micro-batch; its buckets go out with the last one.
    private func pass(_ input: StepInput, step: Int, micro: Int, count: Int) throws -> ObjectiveOutcome {
        let recorder = trace?.recorder
        let batch = input.labels.count
        let weight = 1 / Float(count)
        // The labels travel while the backbone computes.
        labels.start(LabelGathering(input: input, step: step))
        let embeddings = recorder.slice("forward") {
            execution.forward(
                input.images.pointer, count: batch, mode: .training,
                key: .init(
                    seed: seed, step: UInt64(step),
                    firstImage: UInt64((micro * communicator.size + communicator.rank) * batch)))
        }
        try recorder.slice("label wait") { try labels.wait() }
        let gradient = execution.outputGradient
        gradient.fill(0)
        let outcome = try recorder.slice("head") {
            try objective.step(
                ObjectivePass(embeddings: embeddings, embeddingGradient: gradient, step: step), weight: weight,
                accumulate: micro > 0)
        }
        let isLast = micro == count - 1
        recorder.slice("backward") { backward(accumulate: micro > 0, isLast: isLast, recorder) }
        if isLast, !overlaps {
            for bucket in arena.buckets.indices { reducer.bucketReady(bucket) }
        }
        return outcome
    }

    /// Backward of the backbone. In the trace it is cut where a bucket of gradients is complete.
    private func backward(accumulate: Bool, isLast: Bool, _ recorder: TraceRecorder?) {
        var start = MonotonicClock.nanoseconds
        execution.backward(accumulate: accumulate) { index in
            guard isLast, let bucket = arena.bucketAfterStep[index] else { return }
            if overlaps { reducer.bucketReady(bucket) }
            guard let recorder else { return }
            let end = MonotonicClock.nanoseconds
            recorder.add(
                TraceRecorder.Slice(
                    track: .step, name: "gradients of bucket", number: bucket, start: start, end: end,
                    bytes: arena.buckets[bucket].count * MemoryLayout<Float>.stride, detail: ""))
            start = end
        }
    }

    /// The head's squares and the flags, summed over the ranks.
    private func sum(_ headSquares: Double, _ flags: StepFlags) throws -> (headSquares: Double, flags: StepFlags) {
        control[0] = headSquares
        control[1] = Double(flags.stop)
        control[2] = Double(flags.timeUp)
        control[3] = Double(flags.quarantined)
        control[4] = flags.dataWait
        try control.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "step control") }
        var summed = StepFlags()
        summed.stop = Int(control[1])
        summed.timeUp = Int(control[2])
        summed.quarantined = Int(control[3])
        summed.dataWait = control[4]
        return (control[0], summed)
    }

    /// min(1, c / (‖g‖ + 1e-6)).
    private func clipFactor(_ norm: Double) -> Float {
        optimizer.clipNorm > 0 ? Float(min(1, optimizer.clipNorm / (norm + 1e-6))) : 1
    }

    private func apply(clip: Float, rate: Float) {
        let recorder = trace?.recorder
        let momentum = Float(optimizer.momentum)
        recorder.slice("backbone") {
            for run in arena.runs {
                Vectors.sgd(
                    pool, parameters: .init(rebasing: arena.values.floats[run.range]),
                    velocity: .init(rebasing: arena.momentum.floats[run.range]),
                    gradient: .init(rebasing: reducer.gradients[run.range]), scale: clip, rate: rate * run.rateFactor,
                    momentum: momentum, decay: run.decay)
            }
        }
        recorder.slice("class centres") {
            objective.update(rate: rate * headRateFactor, momentum: momentum, decay: headDecay)
        }
    }
}
