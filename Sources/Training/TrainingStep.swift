package import Collectives
package import FaceData
package import Layers
package import Networks
package import Objectives
package import Recipes
package import Tensors

/// This rank's share of one micro-batch, as the step takes it.
package struct StepInput: Sendable {
    /// (V·B, 3, height, width), fp32, normalised, all first views, then all second views, …; unchanged until the pass has
    /// ended.
    package let images: Tensor
    /// B global class indices, the same for every view.
    package let labels: [Int]
    /// V·B global record indices.
    package let records: [Int]
    /// V·B, whether the image is its record's mirror image.
    package let mirrored: [Bool]

    package init(images: Tensor, labels: [Int], records: [Int], mirrored: [Bool]? = nil) {
        self.images = images
        self.labels = labels
        self.records = records
        self.mirrored = mirrored ?? Array(repeating: false, count: records.count)
    }

    package init(_ batch: Batch) {
        self.init(images: batch.images, labels: batch.labels, records: batch.records, mirrored: batch.mirrored)
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
    /// Ranks that have written their part of the checkpoint that was begun.
    package var saved = 0

    package init() {}
}

/// One update of everything that learns: forward, objective, backward with overlapped reduction, one small reduction of
/// flags and norms, clipping, SGD or Adam. It knows no method: that is the objective's. Once the first updates have been made,
/// another one allocates no memory.
package final class TrainingStep {
    package let network: Network
    /// One for each pass that the objective asks for.
    package let executions: [Execution]
    /// A backbone that does not learn and sees `taught` views first, in the first pass's memory.
    private let teacher: Execution?
    private let taught: Range<Int>
    /// What it makes of the first view, where that lies in a file.
    private let cache: TeacherCache?
    /// What it is, where it follows the one that learns.
    package let follower: Network?
    package let arena: ParameterArena
    package let objective: any Objective
    package let communicator: any Communicator
    package let reducer: GradientReducer
    package let pool: ThreadPool
    package let optimizer: OptimizerSection
    package let schedule: LearningRateSchedule
    private let demand: StepDemand
    /// B, records of this rank in a micro-batch.
    private let batch: Int
    private let rows: StepRows
    /// Records some of the updates; nil for none.
    package var trace: StepTrace? {
        didSet {
            reducer.trace = trace?.recorder
            objective.trace = trace?.recorder
        }
    }
    /// Refuses updates whose loss is far above the last ones; nil where none is refused for that.
    package var spikes: SpikeGuard?
    /// What the last refused update would have reported.
    package private(set) var refused: StepReport?
    /// Whether a gradient of the update that follows so many shall become NaN, on this rank.
    package var poison: (Int) -> Bool = { _ in false }
    /// Gathers labels beside the backbone's forward, for the update that follows so many.
    private let labels: BackgroundCollective<Int>
    /// What the ranks sum at the end of an update.
    private var control = [Double](repeating: 0, count: 6)
    private let headRateFactor: Float
    private let headDecay: Float
    private let seed: UInt64
    /// A backbone of which nothing trains computes as it would in use.
    private let mode: Mode
    /// Gradients are reduced while backward goes on.
    private let overlaps: Bool

    package var execution: Execution { executions[0] }

    /// - Parameters:
    ///   - batch: records per rank and micro-batch.
    ///   - teacher: what objectives that ask for one learn from.
    ///   - cache: its embeddings of the first view.
    /// - Throws: `CollectiveError`.
    package init(
        network: Network, objective: any Objective, communicator: any Communicator, pool: ThreadPool, batch: Int,
        recipe: Recipe, schedule: LearningRateSchedule, teacher: Network? = nil, cache: TeacherCache? = nil
    ) throws {
        precondition((teacher != nil) != objective.demand.teacher.isEmpty, "a teacher that was not asked for, or none")
        self.network = network
        self.objective = objective
        self.communicator = communicator
        self.pool = pool
        self.schedule = schedule
        self.batch = batch
        demand = objective.demand
        optimizer = recipe.optimizer
        seed = recipe.run.seed
        overlaps = recipe.compute.overlap
        headRateFactor = Float(ParameterArena.rateFactor("head", recipe.start))
        headDecay = Float(recipe.optimizer.decayExempt.contains("head") ? 0 : recipe.optimizer.weightDecay)
        mode = network.graph.parameters.contains { $0.isTrained } ? .training : .evaluation
        arena = ParameterArena(
            network.graph, beside: objective.parameters, bucketBytes: Int(recipe.compute.bucketMiB * 1_048_576),
            optimizer: recipe.optimizer, start: recipe.start)
        executions = demand.passes.map { [demand] views in
            Execution(
                network.graph, batch: views.count * batch, purpose: .training,
                precision: RunSetup.precision(recipe.compute), pool: pool, taps: demand.taps)
        }
        follower = objective.demand.teacherMomentum == nil ? nil : teacher
        self.cache = cache
        let taught = demand.taughtViews(knowsFirst: cache != nil)
        self.taught = taught
        self.teacher =
            taught.isEmpty
            ? nil
            : teacher.map { [executions] in
                Execution(
                    $0.graph, batch: taught.count * batch, purpose: .inference,
                    precision: RunSetup.precision(recipe.compute), pool: pool, within: executions[0])
            }
        let rows = StepRows(demand, batch: batch, executions)
        self.rows = rows
        reducer = try GradientReducer(
            communicator: communicator, elementCount: max(arena.count, 1), bucketRanges: arena.buckets,
            messages: recipe.compute.messages == .bf16 ? .bf16 : .fp32)
        nonisolated(unsafe) let objective = objective
        nonisolated(unsafe) let classified = (rows.classifiedLabels, rows.classifiedRecords)
        labels = try BackgroundCollective(over: communicator, channel: "labels") { step, channel in
            try objective.begin(labels: classified.0, records: classified.1, step: step, over: channel)
        }
        if let gradients = reducer.gradients.baseAddress { arena.bind(gradients: gradients, owner: reducer) }
    }

    /// Performs the update that follows `step` completed ones.
    ///
    /// - Parameters:
    ///   - microBatches: at least one; called in turn with the index of the micro-batch.
    ///   - count: how many there are; each loss counts 1/count.
    /// - Throws: `TrainingError.nonFinite` and `.spike` on every rank before anything was changed; `CollectiveError`;
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
        let norm = squares.squareRoot()
        let rate = schedule.rate(step: step)
        var report = StepReport(
            outcome: outcome, gradientNorm: norm, learningRate: rate, seconds: 0, reduceWait: timing.waited,
            reduceSeconds: timing.communication, flags: summed)
        if let objection = objection(outcome.loss, squares, headSquares, step: step) {
            refused = report
            throw objection
        }
        recorder.slice("update") {
            apply(clip: clipFactor(norm), rate: rate, step: step + 1)
            follow()
        }
        spikes?.add(outcome.loss)
        report.seconds = monotonicSeconds() - start
        return report
    }

    /// Why an update is not made; every rank comes to the same, from the same sums.
    private func objection(_ loss: Double, _ squares: Double, _ headSquares: Double, step: Int) -> TrainingError? {
        guard loss.isFinite, squares.isFinite, headSquares.isFinite else {
            let what =
                !loss.isFinite ? "the loss" : !squares.isFinite ? "a gradient of the backbone" : "a gradient of the head"
            return .nonFinite(step: step + 1, what: what)
        }
        guard let spikes, let median = spikes.isSpike(loss) else { return nil }
        return .spike(step: step + 1, loss: loss, median: median, factor: spikes.factor)
    }

    /// Forward, objective, backward of one micro-batch; its buckets go out with the last pass of the last one.
    private func pass(_ input: StepInput, step: Int, micro: Int, count: Int) throws -> ObjectiveOutcome {
        precondition(
            input.labels.count == batch && input.records.count == demand.views * batch
                && input.mirrored.count == input.records.count,
            "\(input.labels.count) labels and \(input.records.count) records for \(demand.views) views of \(batch)")
        let recorder = trace?.recorder
        rows.take(input)
        // The labels travel while the backbone computes.
        labels.start(step)
        recorder.slice("forward") { forward(input, step: step, micro: micro, count: count) }
        try recorder.slice("label wait") { try labels.wait() }
        rows.clearGradients()
        let outcome = try recorder.slice("head") {
            try objective.step(rows.pass(step: step), weight: 1 / Float(count), accumulate: micro > 0)
        }
        if poison(step) { rows.poison() }
        let isLast = micro == count - 1
        recorder.slice("backward") { backward(accumulate: micro > 0, isLast: isLast, recorder) }
        if isLast, !overlaps {
            for bucket in arena.buckets.indices { reducer.bucketReady(bucket) }
        }
        return outcome
    }

    /// Forward and objective of a refused update's micro-batch once more, for an account of it. Collective.
    ///
    /// - Returns: the embeddings and their gradient, (V·B, d), before backward overwrites what they are computed from.
    /// - Throws: `CollectiveError`; what the objective throws.
    package func examine(
        _ input: StepInput, step: Int, micro: Int, count: Int
    ) throws -> (embeddings: Tensor, gradient: Tensor) {
        rows.take(input)
        labels.start(step)
        forward(input, step: step, micro: micro, count: count)
        try labels.wait()
        rows.clearGradients()
        let pass = rows.pass(step: step)
        _ = try objective.step(pass, weight: 1 / Float(count), accumulate: micro > 0)
        return (pass.embeddings.copy(), pass.embeddingGradient.copy())
    }

    /// The teacher and all passes of the backbone; their embeddings and energies go to `rows`.
    private func forward(_ input: StepInput, step: Int, micro: Int, count: Int) {
        let images = input.images
        let valueCount = network.graph.inputShape.count
        if let cache { rows.keepTeacher(cache, mirrored: input.mirrored) }
        if let teacher {
            let output = teacher.forward(
                images.pointer + taught.lowerBound * batch * valueCount, count: taught.count * batch, mode: .evaluation)
            rows.keepTeacher(output, taught)
        }
        for (execution, views) in zip(executions, demand.passes) {
            let embeddings = execution.forward(
                images.pointer + views.lowerBound * batch * valueCount, count: views.count * batch, mode: mode,
                key: .init(seed: seed, step: UInt64(step), firstImage: firstImage(views, micro: micro, count: count)))
            rows.collect(embeddings, views)
            for tap in rows.taps {
                TapEnergy.compute(
                    pool, execution.activation(tap: tap.name),
                    into: tap.energies.floats.baseAddress! + views.lowerBound * batch * tap.positions)
            }
        }
    }

    /// The place of a pass's first image among all images of the update, which dropout hangs on: for a pass of one view the
    /// same on any number of ranks.
    private func firstImage(_ views: Range<Int>, micro: Int, count: Int) -> UInt64 {
        let before = views.lowerBound * count * communicator.size
        return UInt64((before + (micro * communicator.size + communicator.rank) * views.count) * batch)
    }

    /// Backward of all passes. In the trace it is cut where a bucket of gradients is complete.
    private func backward(accumulate: Bool, isLast: Bool, _ recorder: TraceRecorder?) {
        var start = MonotonicClock.nanoseconds
        for (pass, views) in demand.passes.enumerated() {
            let execution = executions[pass]
            rows.hand(execution, views)
            for tap in rows.taps {
                TapEnergy.differentiate(
                    pool, execution.activation(tap: tap.name),
                    tap.gradient.floats.baseAddress! + views.lowerBound * batch * tap.positions,
                    into: execution.gradient(tap: tap.name))
            }
            let completes = isLast && pass == executions.count - 1
            execution.backward(accumulate: accumulate || pass > 0) { index in
                guard completes, let bucket = arena.bucketAfterStep[index] else { return }
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
    }

    /// The head's squares and the flags, summed over the ranks.
    private func sum(_ headSquares: Double, _ flags: StepFlags) throws -> (headSquares: Double, flags: StepFlags) {
        control[0] = headSquares
        control[1] = Double(flags.stop)
        control[2] = Double(flags.timeUp)
        control[3] = Double(flags.quarantined)
        control[4] = flags.dataWait
        control[5] = Double(flags.saved)
        try control.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "step control") }
        var summed = StepFlags()
        summed.stop = Int(control[1])
        summed.timeUp = Int(control[2])
        summed.quarantined = Int(control[3])
        summed.dataWait = control[4]
        summed.saved = Int(control[5])
        return (control[0], summed)
    }

    /// min(1, c / (‖g‖ + 1e-6)).
    private func clipFactor(_ norm: Double) -> Float {
        optimizer.clipNorm > 0 ? Float(min(1, optimizer.clipNorm / (norm + 1e-6))) : 1
    }

    /// The follower takes a step towards the backbone, its running statistics towards this rank's.
    private func follow() {
        guard let follower, let momentum = demand.teacherMomentum.map({ Float($0) }) else { return }
        for (own, other) in zip(follower.state, network.state) where own.value.dtype == .float32 {
            let (target, source) = (own.value.floats, other.value.floats)
            pool.forEachRange(target.count) { part in
                for i in part { target[i] += (1 - momentum) * (source[i] - target[i]) }
            }
        }
    }

    /// - Parameter step: of this update, counted from 1.
    private func apply(clip: Float, rate: Double, step: Int) {
        let recorder = trace?.recorder
        recorder.slice("backbone") {
            for run in arena.runs { move(run, clip: clip, rate: rate * Double(run.rateFactor), step: step) }
        }
        recorder.slice("class centres") {
            objective.update(
                rate: Float(rate) * headRateFactor, momentum: Float(optimizer.momentum), decay: headDecay)
        }
    }

    private func move(_ run: ParameterArena.Run, clip: Float, rate: Double, step: Int) {
        let parameters = UnsafeMutableBufferPointer(rebasing: arena.values.floats[run.range])
        let momentum = UnsafeMutableBufferPointer(rebasing: arena.momentum.floats[run.range])
        let gradient = UnsafeMutableBufferPointer(rebasing: reducer.gradients[run.range])
        guard let squares = arena.squares else {
            Vectors.sgd(
                pool, parameters: parameters, velocity: momentum, gradient: gradient, scale: clip, rate: Float(rate),
                momentum: Float(optimizer.momentum), decay: run.decay)
            return
        }
        Vectors.adam(
            pool, parameters: parameters, means: momentum,
            squares: UnsafeMutableBufferPointer(rebasing: squares.floats[run.range]), gradient: gradient, scale: clip,
            rate: rate, .init(beta1: optimizer.beta1, beta2: optimizer.beta2, epsilon: optimizer.epsilon),
            decay: run.decay, step: step)
    }
}
