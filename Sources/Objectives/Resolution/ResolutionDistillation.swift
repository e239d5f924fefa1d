package import Collectives
package import Layers
package import Tensors

/// Classification consistency across resolutions (CCFace, as reconstructed in `docs/methods.md`): a student learns on records at
/// full resolution and degraded, against the frozen class centres of a teacher; each row's angular margin follows how
/// recognisable it is, and a term draws the degraded embedding to the other, whose side is constant.
///
/// The first view is the record, the second its degraded copy. Collectives beside the classification's: where margins follow
/// the teacher, a gather of its embeddings and a sum of one value per row; with `agreement` another such sum, with `student`
/// that of the classification's own cosines before its margins; a sum for the loss. Soft targets add one value per record to
/// the first sum and one to the last.
package final class ResolutionDistillation: AddedObjective {
    /// What a_i, the share of the margin, is for a degraded row: a cosine, between 0 and 1.
    package enum MarginSource: String, Sendable, CaseIterable {
        /// The head has a margin of its own.
        case head
        /// Of the teacher's embedding of the degraded image to the class centre.
        case teacherLow = "teacher_low"
        /// Of the teacher's embedding of the image itself to the class centre.
        case teacherHigh = "teacher_high"
        /// Of the student's embedding of the degraded image to the teacher's of the image itself.
        case agreement
        /// Of the student's embedding of the degraded image to the class centre.
        case student
    }

    package enum CrossTerm: String, Sendable, CaseIterable { case none, relation, predictor, contrast }

    /// What a row is classified as.
    package enum Targets: String, Sendable, CaseIterable {
        /// Its class.
        case hard
        /// Partly what the teacher takes the image at full resolution for.
        case soft
    }

    package struct Options: Sendable, Equatable {
        /// m₀, s.
        package var margin = 0.5
        package var scale = 64.0
        package var marginSource = MarginSource.teacherLow
        package var targets = Targets.hard
        /// Of soft targets: the teacher's share, and s_T.
        package var teacherShare = 0.5
        package var teacherScale = 16.0
        /// α, of the classification of the images themselves.
        package var highWeight = 1.0
        /// λ, of the cross-resolution term.
        package var crossWeight = 1.0
        package var cross = CrossTerm.relation
        package var capacity = 8192
        /// τ_t and τ_s of `relation`; τ_s is `contrast`'s too.
        package var teacherTemperature = 0.04
        package var studentTemperature = 0.1
        /// Width of the predictor's inner layer.
        package var hidden = 512

        package init() {}
    }

    package let name = "ccface"
    package let options: Options
    package let demand: StepDemand
    package let rows: RowMargins
    package let queue: EmbeddingQueue?
    private let predictor: EmbeddingPredictor?

    private let communicator: any Communicator
    private let pool: ThreadPool
    private let batch: Int
    private let dimension: Int
    private let order: PairRows
    private let gathered: Tensor
    private let units: Tensor
    /// 1/‖x‖ of the rows of `gathered`, or of `units`.
    private let inverses: Tensor
    private let gradient: Tensor
    private var scratch = Tensor([0])
    /// By row of the global batch, the teacher's cosine; then by record, the normaliser of soft targets.
    private var shares: [Double]
    /// Made with the first step, which tells this rank's classes.
    private var soft: SoftTargets?
    /// The cross-resolution term, and what soft targets add to the classification.
    private var sums = [0.0, 0.0]

    package init(
        _ options: Options, batch: Int, dimension: Int, communicator: any Communicator, pool: ThreadPool, seed: UInt64
    ) {
        self.options = options
        self.batch = batch
        self.dimension = dimension
        order = PairRows(batch: batch)
        self.communicator = communicator
        self.pool = pool
        precondition(
            options.targets == .hard || options.marginSource != .head, "soft targets beside another head's margin")
        demand = Self.demand(options)
        let count = 2 * batch * communicator.size
        rows = RowMargins(rows: count)
        shares = .init(repeating: 0, count: options.targets == .soft ? count / 2 * 3 : count)
        let usesQueue = options.cross == .relation || options.cross == .contrast
        queue = usesQueue ? EmbeddingQueue(capacity: options.capacity, dimension: dimension) : nil
        predictor =
            options.cross == .predictor
            ? EmbeddingPredictor(dimension: dimension, hidden: options.hidden, rows: batch, seed: seed) : nil
        gathered = Tensor([count, dimension])
        units = Tensor([2 * batch, dimension])
        inverses = Tensor([count])
        gradient = Tensor([batch, dimension])
        // The mean over both views' rows shall be L(degraded) + α·L(itself).
        for row in 0..<count { rows.weights[row] = order.isSecond(row) ? 2 : 2 * options.highWeight }
    }

    /// What classifies: to be made with these rows.
    package var marginFunction: AdaptiveAngularMargin {
        AdaptiveAngularMargin(
            margin: options.margin, scale: options.scale, rows: rows, followsStudent: options.marginSource == .student,
            followers: { [order] in order.isSecond($0) })
    }

    package static func demand(_ options: Options) -> StepDemand {
        StepDemand(views: 2, passes: [0..<2], classified: 2, teacher: taughtViews(options.marginSource))
    }

    /// The views that the teacher is asked about: none where nothing follows it, else the image itself, and its degraded
    /// copy where a margin follows that.
    package static func taughtViews(_ source: MarginSource) -> Range<Int> {
        switch source {
        case .head: 0..<0
        case .teacherLow: 0..<2
        case .teacherHigh, .agreement, .student: 0..<1
        }
    }

    package var parameters: [Parameter] { predictor?.parameters ?? [] }
    /// A sample of the classes has another softmax.
    package var needsEveryClass: Bool { options.targets == .soft }

    // MARK: - Margins

    /// The teacher's cosines to the class centres, and from them each row's share of the margin.
    package func prepare(_ pass: ObjectivePass, _ classification: MarginClassification) throws {
        if options.marginSource == .head { return }
        guard let teacher = pass.teacher else { preconditionFailure("a pass without its teacher") }
        let classifier = classification.classifier
        try communicator.allGather(
            UnsafeRawBufferPointer(teacher.bytes), into: gathered.bytes, "teacher's embeddings")
        let x = gathered.floats.baseAddress!
        let d = dimension
        for row in rows.shares.indices {
            let label = Int(classifier.gatheredLabels[row])
            // Each class's owner knows the centre; the sum tells the others.
            guard classifier.classRange.contains(label) else {
                shares[row] = 0
                continue
            }
            let centre = classifier.centres.floats.baseAddress! + (label - classifier.classRange.lowerBound) * d
            shares[row] = Self.cosine(x + row * d, centre, d)
        }
        if options.targets == .soft { prepareTargets(classifier, x) }
        try shares.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "teacher's cosines") }
        if options.marginSource == .agreement { try agree(pass, teacher) }
        for row in rows.shares.indices {
            let source = order.isSecond(row) && options.marginSource == .teacherHigh ? row - batch : row
            if order.isSecond(row), options.marginSource == .student { continue }
            rows.shares[row] = min(1, max(0, shares[source]))
        }
    }

    /// The teacher's probabilities of this rank's classes; the classification's backward pass takes the rest from there.
    private func prepareTargets(_ classifier: ShardedClassifier<Float>, _ gathered: UnsafePointer<Float>) {
        precondition(
            classifier.isFrozen && classifier.comparesEveryClass, "soft targets on centres that move, or on a sample")
        let soft =
            soft
            ?? SoftTargets(
                share: options.teacherShare, scale: options.teacherScale, classes: classifier.classRange.count,
                batch: batch,
                pairs: batch * communicator.size, dimension: dimension, pool: pool)
        if self.soft == nil {
            self.soft = soft
            let (all, rows) = (rows.shares.count, rows)
            classifier.addend = { [unowned self] classifier in
                self.shares.withUnsafeBufferPointer { shares in
                    rows.weights.withUnsafeBufferPointer {
                        soft.add(to: classifier, sums: shares.baseAddress! + all, weights: $0.baseAddress!)
                    }
                }
            }
        }
        shares.withUnsafeMutableBufferPointer {
            soft.prepare(gathered, classifier, sums: $0.baseAddress! + rows.shares.count)
        }
    }

    /// The degraded rows' shares become the student's agreement with the teacher.
    private func agree(_ pass: ObjectivePass, _ teacher: Tensor) throws {
        let count = rows.shares.count
        for row in 0..<count where order.isSecond(row) { shares[row] = 0 }
        let first = communicator.rank * 2 * batch
        for pair in 0..<batch {
            shares[first + batch + pair] = Self.cosine(
                pass.embeddings.floats.baseAddress! + (batch + pair) * dimension,
                teacher.floats.baseAddress! + pair * dimension, dimension)
        }
        for row in 0..<count where !order.isSecond(row) && !(first..<first + batch).contains(row) { shares[row] = 0 }
        try shares.withUnsafeMutableBufferPointer {
            try communicator.allReduce(UnsafeMutableBufferPointer(rebasing: $0[..<count]), .sum, "agreement")
        }
    }

    private static func cosine(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ count: Int) -> Double {
        let norms = Float.dot(a, a, count: count).squareRoot() * Float.dot(b, b, count: count).squareRoot()
        return Float.dot(a, b, count: count) / max(norms, 1e-12)
    }

    // MARK: - Across resolutions

    package func step(
        _ pass: ObjectivePass, _ classification: MarginClassification, weight: Float, accumulate: Bool
    ) throws -> ObjectiveOutcome {
        var outcome = ObjectiveOutcome()
        guard options.cross != .none || options.targets == .soft else { return outcome }
        let count = Double(batch * communicator.size)
        sums[0] = 0
        sums[1] = soft?.loss ?? 0
        if options.cross != .none {
            normalise(pass.embeddings, into: units)
            let high = UnsafePointer(units.floats.baseAddress!)
            let low = high + batch * dimension
            let factor = Float(options.crossWeight / count) * weight
            sums[0] = compare(pass, high: high, low: low, factor: factor, accumulate: accumulate)
        }
        try sums.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "cross-resolution loss") }
        if options.targets == .soft {
            outcome.loss = sums[1]
            outcome.metrics.add("soft_target_loss", sums[1])
        }
        guard options.cross != .none else { return outcome }
        enqueue(classification.classifier)
        outcome.loss += options.crossWeight * sums[0] / count
        outcome.metrics.add("cross_resolution_loss", sums[0] / count)
        return outcome
    }

    private func normalise(_ raw: Tensor, into unit: Tensor) {
        Float.normalise(
            pool, raw.floats.baseAddress!, rows: unit.shape[0], columns: dimension, into: unit.floats.baseAddress!,
            inverse: inverses.floats.baseAddress!)
    }

    /// The sum over this rank's rows; adds the gradient of the degraded embeddings.
    private func compare(
        _ pass: ObjectivePass, high: UnsafePointer<Float>, low: UnsafePointer<Float>, factor: Float, accumulate: Bool
    ) -> Double {
        let g = gradient.floats.baseAddress!
        var share = factor
        let sum: Double
        if let predictor {
            sum = predictor.step(
                high: high, low: low, rows: batch, factor: factor, accumulate: accumulate, gradient: g, pool: pool)
            share = 1
        } else {
            guard let queue, queue.count > 0 else { return 0 }
            let room = 2 * batch * queue.count
            if scratch.shape[0] < room { scratch = Tensor([2 * batch * queue.capacity]) }
            let z = scratch.floats.baseAddress!
            sum =
                options.cross == .relation
                ? CrossResolutionTerm.relation(
                    high: high, low: low, rows: batch, queue: queue,
                    temperatures: (Float(options.teacherTemperature), Float(options.studentTemperature)), scratch: z,
                    gradient: g, pool: pool)
                : CrossResolutionTerm.contrast(
                    high: high, low: low, labels: pass.labels, rows: batch, queue: queue,
                    temperature: Float(options.studentTemperature), scratch: z, gradient: g, pool: pool)
        }
        project(pass, low, g, share)
        return sum
    }

    /// From unit embeddings to raw ones: (g − x̂(x̂·g)) / ‖x‖.
    private func project(
        _ pass: ObjectivePass, _ low: UnsafePointer<Float>, _ g: UnsafePointer<Float>, _ share: Float
    ) {
        let raw = pass.embeddings.floats.baseAddress! + batch * dimension
        let target = pass.embeddingGradient.floats.baseAddress! + batch * dimension
        for row in 0..<batch {
            let place = row * dimension
            let norm = max(Float.dot(raw + place, raw + place, count: dimension).squareRoot(), 1e-12)
            let along = Float(Float.dot(low + place, g + place, count: dimension))
            let factor = share / Float(norm)
            for i in place..<place + dimension { target[i] += factor * (g[i] - along * low[i]) }
        }
    }

    /// The high-resolution rows of the global batch, in the sampler's order on any number of ranks.
    private func enqueue(_ classifier: ShardedClassifier<Float>) {
        guard let queue else { return }
        normalise(classifier.gatheredEmbeddings, into: gathered)
        let x = gathered.floats.baseAddress!
        for row in rows.shares.indices where !order.isSecond(row) {
            queue.push(UnsafePointer(x + row * dimension), label: Int(classifier.gatheredLabels[row]))
        }
    }

    // MARK: - State

    package var keepsState: Bool { queue != nil }

    /// The queue is the same on every rank: the first one's is kept.
    package var state: [(name: String, tensor: Tensor)] {
        guard let queue, communicator.rank == 0 else { return [] }
        let labels = Tensor([queue.count + 1], dtype: .int64)
        for index in 0..<queue.count { labels.int64s[index] = Int64(queue.labels[index]) }
        labels.int64s[queue.count] = Int64(queue.next)
        return [("features", queue.features.rows(0..<queue.count).copy()), ("labels", labels)]
    }

    package func restore(_ shares: [[String: Tensor]]) throws {
        guard let queue else { return }
        guard let features = shares.first?["features"], let labels = shares.first?["labels"],
            features.shape.count == 2, features.shape[1] == dimension, labels.dtype == .int64,
            labels.count == features.shape[0] + 1, let next = labels.int64s.last,
            (0...Int64(features.shape[0])).contains(next)
        else { throw ObjectiveStateError(objective: name, reason: "the checkpoint's queue is of another shape") }
        queue.restore(
            features: features, labels: labels.int64s.dropLast().map { Int($0) }, next: Int(next))
    }
}
