package import Collectives
package import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// The contrast of low-quality pairs against a queue (QGFace, authors' code): two views of each record, the recognisable one
/// and a degraded one, are each other's positive; embeddings of recent steps, corrected to the present class centres, are the
/// negatives. Pairs of good quality are gated off: the classifier has them.
///
/// Queue entries live with the ranks that own their classes, as the class centres do, so nothing of the queue travels. Each
/// rank compares the gathered embeddings with its entries; one sum of a value per row joins the ranks' shares, and a
/// reduce-scatter returns the gradients. Rows are canonical: all first views of the global batch in the sampler's order,
/// then all second views, on any number of ranks.
package final class QueueContrast: AddedObjective {
    /// Which of a pair's two qualities counts.
    package enum PairQuality: String, Sendable, CaseIterable {
        case lesser = "min"
        case mean
        case greater = "max"
    }

    package struct Options: Sendable, Equatable {
        /// λ.
        package var weight = 1.0
        package var scale = 64.0
        package var capacity = 8192
        package var correction = ProxyQueue.Correction.proxy
        package var gate = ContrastGate()
        package var pairQuality = PairQuality.lesser
        /// Whether the first view's rows are compared with the queue too.
        package var comparesBothViews = true
        /// Whether the first view of a positive pair counts as constant.
        package var detachesKeys = false
        /// Subtracted from the positive's cosine.
        package var margin = 0.0
        /// Whether the batch itself is among its negatives, as in the authors' code; otherwise it joins the queue after.
        package var comparesWithBatch = true
        /// Brings the loss to the magnitude of one with 128 negatives.
        package var rescales = true
        /// Updates in which the queue grows from one batch to its capacity.
        package var growth = 0
        /// Share that a second encoder of the keys keeps of itself in an update (He et al., "MoCo", CVPR 2020); nil where keys
        /// are the network's own. Keys are constants then, only they enter the queue, after the comparison, and only
        /// queries are compared.
        package var keyMomentum: Double?

        package init() {}
    }

    package let name = "qgface"
    package let options: Options
    package let demand: StepDemand
    package let queue: ProxyQueue

    private let communicator: any Communicator
    private let pool: ThreadPool
    /// Whose queue entries live here.
    private let ownClasses: Range<Int>
    /// B, and N = B·P.
    private let batch: Int
    private let pairs: Int
    private let order: PairRows
    private let dimension: Int
    private let blockElements: Int
    /// Rows in gathered order, (2N x d): unit embeddings, and partial gradients.
    private let units: Tensor
    private let partial: Tensor
    private let own: Tensor
    private let inverses: Tensor
    /// What the keys' own encoder made of all views, (2N x d); (0 x d) where there is none.
    private let keys: Tensor
    private var logits = Tensor([0])
    private var negatives = Tensor([0])
    private var rows: [ContrastRow]
    /// By row: Σ exp(logit − shift) over negatives.
    private var sums: [Double]

    /// - Parameters:
    ///   - classes: C over all ranks.
    ///   - batch: B, records of this rank.
    ///   - blockElements: logits that are held at a time.
    package init(
        _ options: Options, classes: Int, batch: Int, dimension: Int, communicator: any Communicator, pool: ThreadPool,
        blockElements: Int = ColumnBlocks.elements
    ) {
        var options = options
        if options.keyMomentum != nil {
            (options.comparesBothViews, options.detachesKeys, options.comparesWithBatch) = (false, true, false)
        }
        self.options = options
        demand = StepDemand(
            views: 2, passes: [0..<2], classified: 2, teacher: 0..<(options.keyMomentum == nil ? 0 : 1),
            teacherMomentum: options.keyMomentum)
        keys = Tensor([options.keyMomentum == nil ? 0 : 2 * batch * communicator.size, dimension])
        ownClasses = ShardMap(classes: classes, ranks: communicator.size).range(ofRank: communicator.rank)
        self.batch = batch
        order = PairRows(batch: batch)
        self.blockElements = blockElements
        self.dimension = dimension
        self.communicator = communicator
        self.pool = pool
        pairs = batch * communicator.size
        queue = ProxyQueue(capacity: options.capacity, dimension: dimension, correction: options.correction)
        units = Tensor([2 * pairs, dimension])
        partial = Tensor([2 * pairs, dimension])
        own = Tensor([2 * batch, dimension])
        inverses = Tensor([2 * pairs])
        rows = .init(repeating: ContrastRow(scale: 0, positive: 0), count: 2 * pairs)
        sums = .init(repeating: 0, count: 2 * pairs)
    }

    private var x: UnsafeMutablePointer<Float> { units.floats.baseAddress! }

    package func step(
        _ pass: ObjectivePass, _ classification: MarginClassification, weight: Float, accumulate: Bool
    ) throws -> ObjectiveOutcome {
        let classifier = classification.classifier
        precondition(classifier.globalBatch == 2 * pairs, "a classification of other rows")
        normalise(classifier)
        if options.keyMomentum != nil { try takeKeys(pass) }
        queue.limit = limit(pass.step)
        if options.comparesWithBatch { enqueue(classifier) }
        let active = prepareRows(classifier)
        try compareWithQueue(classifier)
        let outcome = outcome(active: active)
        try propagate(pass, classifier, weight: weight)
        if !options.comparesWithBatch { enqueue(classifier) }
        return outcome
    }

    private func normalise(_ classifier: ShardedClassifier<Float>) {
        Float.normalise(
            pool, classifier.gatheredEmbeddings.floats.baseAddress!, rows: 2 * pairs, columns: dimension, into: x,
            inverse: inverses.floats.baseAddress!)
    }

    /// How long the queue may be: from a batch to the capacity, linearly.
    private func limit(_ step: Int) -> Int {
        let first = min(2 * pairs, options.capacity)
        guard step < options.growth else { return options.capacity }
        return first + (options.capacity - first) * step / options.growth
    }

    /// The keys' own encoder's unit embeddings take the first views' places.
    private func takeKeys(_ pass: ObjectivePass) throws {
        guard let teacher = pass.teacher else { preconditionFailure("a pass without the keys' encoder") }
        try communicator.allGather(UnsafeRawBufferPointer(teacher.bytes), into: keys.bytes, "keys")
        let raw = keys.floats.baseAddress!
        for pair in 0..<pairs {
            let place = order.row(view: 0, pair: pair) * dimension
            let inverse = Float(1 / max(Float.dot(raw + place, raw + place, count: dimension).squareRoot(), 1e-12))
            for i in place..<place + dimension { x[i] = inverse * raw[i] }
        }
    }

    private func enqueue(_ classifier: ShardedClassifier<Float>) {
        queue.push(
            options.keyMomentum == nil ? 2 * pairs : pairs,
            row: { place in
                let row = order.row(view: place / pairs, pair: place % pairs)
                return (UnsafePointer(x + row * dimension), Int(classifier.gatheredLabels[row]))
            },
            centre: { centre($0, classifier) })
    }

    private func centre(_ label: Int, _ classifier: ShardedClassifier<Float>) -> UnsafePointer<Float>? {
        guard classifier.classRange.contains(label) else { return nil }
        return UnsafePointer(
            classifier.centres.floats.baseAddress! + (label - classifier.classRange.lowerBound) * dimension)
    }

    // MARK: - Rows

    /// Positives and gates; returns how many pairs take part.
    private func prepareRows(_ classifier: ShardedClassifier<Float>) -> Int {
        var active = 0
        for pair in 0..<pairs {
            let (key, query) = (order.row(view: 0, pair: pair), order.row(view: 1, pair: pair))
            let cosine = Float.dot(x + key * dimension, x + query * dimension, count: dimension)
            let gate = options.gate.value(
                pairQuality(classifier, key, query),
                present: (classifier.margin as? QualityGatedMargin)?.presentThreshold)
            if gate > 0 { active += 1 }
            let positive = min(1, max(-1, cosine)) - options.margin
            rows[query] = ContrastRow(scale: options.scale * gate, positive: positive)
            rows[key] = ContrastRow(scale: options.comparesBothViews ? options.scale * gate : 0, positive: positive)
        }
        return active
    }

    private func pairQuality(_ classifier: ShardedClassifier<Float>, _ key: Int, _ query: Int) -> Double {
        guard let margin = classifier.margin as? QualityGatedMargin else { return 0 }
        let qualities = (
            margin.quality(norm: classifier.norms[key]), margin.quality(norm: classifier.norms[query])
        )
        return switch options.pairQuality {
        case .lesser: min(qualities.0, qualities.1)
        case .mean: (qualities.0 + qualities.1) / 2
        case .greater: max(qualities.0, qualities.1)
        }
    }

    private var counted: Double { Double(options.comparesBothViews ? 2 * pairs : pairs) }

    private func isCounted(_ row: Int) -> Bool { options.comparesBothViews || order.isSecond(row) }

    // MARK: - The queue

    /// Whether one block holds all of this rank's entries: what a comparison leaves is still there in the backward pass then.
    private var isOneBlock: Bool { width >= queue.localCount }

    /// Entries of a block.
    private var width: Int { ColumnBlocks.width(rows: 2 * pairs, of: queue.localCount, elements: blockElements) }

    /// This rank's entries by blocks: corrected, in `negatives`, and compared with all rows, cosines in `logits`.
    private func forEachBlock(
        _ classifier: ShardedClassifier<Float>, _ body: (_ entries: Range<Int>, _ logits: UnsafeMutablePointer<Float>) -> Void
    ) {
        let (count, width) = (queue.localCount, width)
        if logits.shape[0] < 2 * pairs * width { logits = Tensor([2 * pairs * width]) }
        if negatives.shape[0] < width * dimension { negatives = Tensor([width * dimension]) }
        let z = logits.floats.baseAddress!
        let entries = negatives.floats.baseAddress!
        for start in stride(from: 0, to: count, by: width) {
            let range = start..<min(start + width, count)
            queue.write(range, to: entries, pool: pool) { centre($0, classifier)! }
            Float.gemm(
                pool, transposeA: false, transposeB: true, m: 2 * pairs, n: range.count, k: dimension, a: x, b: entries,
                beta: 0, c: z)
            body(range, z)
        }
    }

    /// Σ exp(logit − shift) over all ranks' entries.
    private func compareWithQueue(_ classifier: ShardedClassifier<Float>) throws {
        for row in sums.indices { sums[row] = 0 }
        forEachBlock(classifier) { range, z in
            let labels = range.map { queue.label($0) }
            sums.withUnsafeMutableBufferPointer { sums in
                nonisolated(unsafe) let sums = sums
                pool.forEachRange(2 * pairs) { rows in
                    for row in rows { sums[row] += exponentials(row, labels, z, classifier) }
                }
            }
        }
        try sums.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "contrast") }
    }

    /// Cosines of a row become exp(logit − shift) where they have a gradient, and 0 elsewhere; returns the sum over all.
    private func exponentials(
        _ row: Int, _ labels: [Int], _ z: UnsafeMutablePointer<Float>, _ classifier: ShardedClassifier<Float>
    ) -> Double {
        guard isCounted(row) else { return 0 }
        let values = z + row * labels.count
        let label = Int(classifier.gatheredLabels[row])
        let (scale, shift) = (Float(rows[row].scale), Float(rows[row].shift))
        var sum = 0.0
        for column in labels.indices {
            // The original clamps; what exceeds 1 after a correction has no gradient.
            let cosine = values[column]
            let isSame = labels[column] == label
            let isInside = !isSame && cosine > -1 && cosine < 1
            let exponential = exp(scale * (isSame ? 0 : min(1, max(-1, cosine))) - shift)
            sum += Double(exponential)
            values[column] = isInside ? exponential : 0
        }
        return sum
    }

    /// Exponentials of a row become gradients of its cosines.
    private func differentiate(_ row: Int, _ count: Int, _ z: UnsafeMutablePointer<Float>) {
        let values = z + row * count
        guard isCounted(row), rows[row].scale > 0 else {
            values.update(repeating: 0, count: count)
            return
        }
        let factor = Float(rows[row].negativeFactor(negatives: sums[row]) / counted)
        for column in 0..<count { values[column] *= factor }
    }

    // MARK: - Loss and gradients

    private func outcome(active: Int) -> ObjectiveOutcome {
        var loss = 0.0
        var positives = 0.0
        for row in rows.indices where isCounted(row) { loss += rows[row].loss(negatives: sums[row]) / counted }
        for pair in 0..<pairs { positives += rows[order.row(view: 1, pair: pair)].positive / Double(pairs) }
        var outcome = ObjectiveOutcome(loss: options.weight * factor * loss)
        outcome.metrics.add("contrast_loss", factor * loss)
        outcome.metrics.add("contrast_share", Double(active) / Double(pairs))
        outcome.metrics.add("positive_cosine", positives)
        return outcome
    }

    private var factor: Double {
        options.rescales && queue.count > 0 ? ContrastRow.rescale(negatives: queue.count) : 1
    }

    private func propagate(
        _ pass: ObjectivePass, _ classifier: ShardedClassifier<Float>, weight: Float
    ) throws {
        let gradient = partial.floats.baseAddress!
        partial.fill(0)
        func add(_ count: Int, _ z: UnsafeMutablePointer<Float>) {
            pool.forEachRange(2 * pairs) { rows in for row in rows { differentiate(row, count, z) } }
            Float.gemm(
                pool, transposeA: false, transposeB: false, m: 2 * pairs, n: dimension, k: count, a: z,
                b: negatives.floats.baseAddress!, beta: 1, c: gradient)
        }
        if isOneBlock {
            if queue.localCount > 0 { add(queue.localCount, logits.floats.baseAddress!) }
        } else {
            forEachBlock(classifier) { range, z in
                let labels = range.map { queue.label($0) }
                pool.forEachRange(2 * pairs) { rows in
                    for row in rows { _ = exponentials(row, labels, z, classifier) }
                }
                add(range.count, z)
            }
        }
        addPositives(to: gradient)
        // To raw embeddings.
        let inverse = inverses.floats.baseAddress!
        Float.scaleRows(pool, gradient, factors: inverse, rows: 2 * pairs, columns: dimension)
        Float.project(
            pool, gradient, x: UnsafePointer(classifier.gatheredEmbeddings.floats.baseAddress!), inverse: inverse,
            rows: 2 * pairs, columns: dimension, radial: nil)
        try Float.reduceScatter(communicator, partial.floats, into: own.floats, "contrast gradients")
        let share = weight * Float(options.weight * factor)
        let target = pass.classified.gradient.floats
        let source = own.floats
        for i in target.indices { target[i] += share * source[i] }
    }

    /// The positives' gradients, on the rank whose pairs they are.
    private func addPositives(to gradient: UnsafeMutablePointer<Float>) {
        let first = communicator.rank * batch
        for pair in first..<first + batch {
            let (key, query) = (order.row(view: 0, pair: pair), order.row(view: 1, pair: pair))
            var slope = rows[query].positiveSlope(negatives: sums[query])
            if options.comparesBothViews { slope += rows[key].positiveSlope(negatives: sums[key]) }
            let share = Float(slope / counted)
            guard share != 0 else { continue }
            let (k, q) = (x + key * dimension, x + query * dimension)
            for i in 0..<dimension {
                gradient[query * dimension + i] += share * k[i]
                if !options.detachesKeys { gradient[key * dimension + i] += share * q[i] }
            }
        }
    }

    // MARK: - State

    package var keepsState: Bool { true }

    package var state: [(name: String, tensor: Tensor)] {
        let entries = queue.entries
        let features = Tensor([entries.count, dimension])
        let proxies = Tensor([entries.count, dimension])
        let numbers = Tensor([entries.count, 2], dtype: .int64)
        for (row, entry) in entries.enumerated() {
            _ = features.floats[(row * dimension)...].update(fromContentsOf: entry.feature)
            _ = proxies.floats[(row * dimension)...].update(fromContentsOf: entry.proxy)
            numbers.int64s[2 * row] = Int64(entry.number)
            numbers.int64s[2 * row + 1] = Int64(entry.label)
        }
        let total = Tensor([1], dtype: .int64)
        total.int64s[0] = Int64(queue.total)
        return [("features", features), ("proxies", proxies), ("numbers", numbers), ("total", total)]
    }

    package func restore(_ shares: [[String: Tensor]]) throws {
        var entries: [(number: Int, label: Int, feature: [Float], proxy: [Float])] = []
        var total = 0
        var oldest = Int.max
        for share in shares {
            guard let features = share["features"], let proxies = share["proxies"], let numbers = share["numbers"],
                let count = share["total"], features.shape == proxies.shape, features.shape.last == dimension,
                numbers.shape == [features.shape[0], 2], numbers.dtype == .int64, count.dtype == .int64, count.count == 1
            else { throw ObjectiveStateError(objective: name, reason: "the checkpoint's queue is of another shape") }
            total = Int(count.int64s[0])
            for row in 0..<features.shape[0] {
                let label = Int(numbers.int64s[2 * row + 1])
                oldest = min(oldest, Int(numbers.int64s[2 * row]))
                let range = row * dimension..<(row + 1) * dimension
                guard isOwn(label), numbers.int64s[2 * row] >= Int64(total - options.capacity) else { continue }
                entries.append(
                    (Int(numbers.int64s[2 * row]), label, Array(features.floats[range]), Array(proxies.floats[range])))
            }
        }
        guard entries.count <= options.capacity else {
            throw ObjectiveStateError(objective: name, reason: "the checkpoint's queue is longer than its capacity")
        }
        queue.restore(total: total, oldest: min(oldest, total), entries.sorted { $0.number < $1.number })
    }

    private func isOwn(_ label: Int) -> Bool { ownClasses.contains(label) }
}
