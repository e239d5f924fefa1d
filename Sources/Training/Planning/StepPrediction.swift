/// The time of one update, part by part, from this machine's rates and a model of the network.
///
/// What it leaves out: what objectives compute and send beside their passes of the backbone, decoding (hidden while the
/// workers keep up), evaluation, checkpoints, and ranks that are slower than this machine.
package struct StepPrediction: Sendable, Equatable {
    /// Seconds of all passes of an update.
    package var forward: Double
    package var backward: Double
    /// The head's own arithmetic, and its collectives, none of which is hidden.
    package var head: Double
    package var headCollectives: Double
    /// Reduction of gradients, and what of it backward does not hide.
    package var reduction: Double
    package var exposedReduction: Double
    /// The optimizer's, and the collective of flags and norms.
    package var update: Double
    package var control: Double
    /// Bytes that a rank sends in one update: embeddings and their gradients, and gradients of the backbone.
    package var headBytes: Double
    package var gradientBytes: Double

    package init(_ workload: StepWorkload, _ placement: Placement, _ rates: MachineRates, _ network: NetworkModel) {
        let passes = Double(workload.accumulation)
        let rows = Double(workload.classified * placement.globalBatch)
        let scale = Double(workload.views * placement.batch) / Double(rates.batch)
        // A teacher is taken for a network like the one that learns.
        let seen = Double((workload.views + workload.taught) * placement.batch) / Double(rates.batch)
        forward = passes * seen * rates.forward.reduce(0, +)
        backward = passes * scale * rates.backward.reduce(0, +)
        let columns = Double(workload.classes) / Double(placement.ranks)
        head = passes * rates.head.seconds(rows: rows, classes: columns)
        let embeddings = rows * Double(workload.dimension) * 4
        // Embeddings, maxima, sums, gradients of embeddings; the labels travel beside forward.
        headCollectives =
            passes
            * (2 * network.allGather(embeddings, placement) + network.allReduce(2 * rows * 8, placement)
                + network.allReduce(3 * rows * 8, placement))
        let reductions = workload.buckets.map { network.bucket(Double($0) * 4, placement) }
        let hosts = Double(placement.hosts)
        gradientBytes =
            placement.hosts > 1
            ? 2 * (hosts - 1) / hosts * Double(workload.parameters) * 4 / Double(placement.ranksPerHost) : 0
        // Only the last pass reduces.
        let alone = rates.backward.map { $0 * scale }
        let timeline = StepTimeline(
            backward: alone, bucketAfterStep: workload.bucketAfterStep, reductions: reductions,
            contention: placement.hosts > 1 ? network.contention : .none)
        backward += timeline.backward - alone.reduce(0, +)
        reduction = timeline.communication
        exposedReduction = workload.overlaps ? timeline.exposed : timeline.communication
        update = Double(workload.parameters) * rates.updateSecondsPerParameter
        control = network.allReduce(5 * 8, placement)
        let others = Double(placement.ranks - 1) / Double(placement.ranks)
        headBytes = passes * 2 * others * embeddings
    }

    package var total: Double { forward + backward + head + headCollectives + exposedReduction + update + control }
}

/// What of a recipe decides the time of a step.
package struct StepWorkload: Sendable, Equatable {
    package var classes: Int
    /// d, the length of an embedding.
    package var dimension: Int
    package var accumulation: Int
    /// Views of a record, and how many of them are classified.
    package var views: Int
    package var classified: Int
    /// Views that another backbone sees, too, which does not learn.
    package var taught: Int
    /// Trained parameters of the backbone.
    package var parameters: Int
    /// Elements of each bucket of gradients.
    package var buckets: [Int]
    package var bucketAfterStep: [Int: Int]
    /// Gradients are reduced while backward goes on.
    package var overlaps: Bool

    package init(
        classes: Int, dimension: Int, accumulation: Int, views: Int = 1, classified: Int = 1, taught: Int = 0,
        parameters: Int, buckets: [Int], bucketAfterStep: [Int: Int], overlaps: Bool = true
    ) {
        self.classes = classes
        self.dimension = dimension
        self.accumulation = accumulation
        self.views = views
        self.classified = classified
        self.taught = taught
        self.parameters = parameters
        self.buckets = buckets
        self.bucketAfterStep = bucketAfterStep
        self.overlaps = overlaps
    }
}
