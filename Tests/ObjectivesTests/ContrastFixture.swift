import Collectives
import Foundation
import Objectives
import Tensors
import TestSupport
import Testing

/// Pairs in two views, key and query, the class centres, and a queue of other embeddings.
struct ContrastProblem: Sendable {
    /// What stands in the queue.
    struct Entry: Sendable {
        var label: Int
        var feature: [Double]
        /// The class centre of then.
        var proxy: [Double]
    }

    var d: Int
    var classes: Int
    /// Unit embeddings by view, pair and component.
    var units: [[Double]]
    var labels: [Int]
    /// z by view and pair.
    var qualities: [[Double]]
    /// Raw, as they are now.
    var centres: [Double]
    /// Oldest first.
    var entries: [Entry] = []

    var pairs: Int { labels.count }

    static func unit(_ x: [Double]) -> [Double] {
        let norm = DenseHead.norm(x)
        return x.map { $0 / norm }
    }

    /// Of length 1, also where a component was moved for a difference.
    func row(_ view: Int, _ pair: Int) -> [Double] { Self.unit(Array(units[view][pair * d..<(pair + 1) * d])) }
    func centre(_ label: Int) -> [Double] { Array(centres[label * d..<(label + 1) * d]) }

    /// - Parameter quality: z of all; by default between −1 and 0.
    static func random(pairs: Int, quality: Double? = nil, classes: Int = 11) -> ContrastProblem {
        var stream = RandomStream(seed: 5, purpose: .test, index: 0)
        let units = (0..<2).map { _ in (0..<pairs).flatMap { _ in unit((0..<6).map { _ in stream.normal() }) } }
        return ContrastProblem(
            d: 6, classes: classes, units: units, labels: (0..<pairs).map { _ in stream.below(classes) },
            qualities: (0..<2).map { _ in (0..<pairs).map { _ in quality ?? stream.uniform(-1, 0) } },
            centres: (0..<6 * classes).map { _ in stream.normal() })
    }

    /// Twelve pairs of any quality, and entries of several lengths whose centres were shorter then, and elsewhere.
    static func moving(classes: Int = 11) -> ContrastProblem {
        var problem = random(pairs: 12, classes: classes)
        let start = problem
        var stream = RandomStream(seed: 9, purpose: .test, index: 0)
        problem.qualities = (0..<2).map { _ in (0..<12).map { _ in stream.uniform(-1, 1) } }
        problem.entries = (0..<15).map { index -> Entry in
            let label = stream.below(classes)
            // Some are so long that cosines are cut off at 1.
            let length = stream.uniform(0.6, 1.2) * (index < 4 ? 2 : 1)
            let feature = unit((0..<6).map { _ in stream.normal() }).map { length * $0 }
            let proxy = start.centre(label).map { 0.8 * $0 + 0.4 * stream.normal() }
            return Entry(label: label, feature: feature, proxy: proxy)
        }
        return problem
    }
}

/// What one or more steps of the contrast gave, put together from all ranks.
struct ContrastOutcome: Sendable {
    var outcome: ObjectiveOutcome
    /// With respect to unit embeddings: by view, pair, component.
    var gradient: [Double]
    /// Of the queue's entries.
    var numbers: [Int]
    /// Entries of each rank.
    var counts: [Int]

    var loss: Double { outcome.loss }
}

extension ContrastProblem {
    /// Runs `steps` steps on `ranks` ranks and returns the last one's outcome.
    ///
    /// - Parameters:
    ///   - weight: of each step; below 1 they are the passes of one update.
    ///   - start: what each component of the gradient is before a step; the outcome is what was added.
    ///   - moved: the class centres from the second step on.
    ///   - block: entries that are compared at a time; nil: all.
    func run(
        ranks: Int, steps: Int = 1, weight: Float = 1, start: Float = 0, moved: [Double]? = nil, block: Int? = nil,
        _ change: (inout QueueContrast.Options) -> Void = { _ in }
    ) throws -> ContrastOutcome {
        let problem = self
        var options = QueueContrast.Options()
        change(&options)
        let chosen = options
        let parts = try InProcessGroup.run(ranks: ranks) { communicator in
            try problem.part(
                chosen, communicator, steps: steps, weight: weight, start: start, moved: moved, block: block)
        }
        for part in parts { #expect(part.outcome == parts[0].outcome, "the same on every rank") }
        let share = pairs / ranks * d
        return ContrastOutcome(
            outcome: parts[0].outcome,
            gradient: (0..<2).flatMap { view in
                parts.flatMap { $0.gradient[view * share..<(view + 1) * share] }
            },
            numbers: parts.flatMap(\.numbers).sorted(), counts: parts.flatMap(\.counts))
    }

    /// A length that AdaFace, with averages at rest, reads as the wanted quality.
    private static func length(_ z: Double) -> Double { 20 + z * (5 + 1e-3) / 0.333 }

    private func part(
        _ options: QueueContrast.Options, _ communicator: any Communicator, steps: Int, weight: Float, start: Float,
        moved: [Double]?, block: Int?
    ) throws -> ContrastOutcome {
        let pool = ThreadPool(threads: 2)
        let batch = pairs / communicator.size
        let own = communicator.rank * batch..<(communicator.rank + 1) * batch
        let margin = QualityGatedMargin(
            AdaFace(averaging: 0, mean: 20, deviation: 5), threshold: options.gate.threshold,
            onlySecondViews: options.keyMomentum == nil ? nil : batch)
        let head = HeadProblem(embeddings: [], centres: centres, labels: labels + labels, dimension: d)
        let classifier: ShardedClassifier<Float> = head.classifier(Float.self, margin, communicator)
        let classification = MarginClassification(classifier, pool: pool)
        let contrast = QueueContrast(
            options, classes: classes, batch: batch, dimension: d, communicator: communicator, pool: pool,
            blockElements: block.map { $0 * 2 * pairs } ?? ColumnBlocks.elements)
        fill(contrast.queue, classifier.classRange)
        let lengths = (0..<2).map { view in own.map { Self.length(qualities[view][$0]) } }
        let values = (0..<2).flatMap { view in
            own.enumerated().flatMap { index, pair in
                (0..<d).map { Float(units[view][pair * d + $0] * lengths[view][index]) }
            }
        }
        let embeddings = Tensor([2 * batch, d], values)
        // A second encoder's keys: those of the network, turned a little.
        let teacher = Tensor([2 * batch, d], values.indices.map { values[$0] + 0.3 * values[$0 ^ 1] })
        let gradient = Tensor([2 * batch, d])
        let ownLabels = Array(labels[own]) + Array(labels[own])
        var outcome = ObjectiveOutcome()
        for step in 0..<steps {
            if step > 0, let moved {
                classifier.load(0..<classes, centres: Tensor([classes, d], moved.map { Float($0) }))
            }
            try ownLabels.withUnsafeBufferPointer { try classifier.begin(labels: $0) }
            _ = try classifier.step(embeddings: embeddings, step: step)
            gradient.fill(start)
            let pass = ObjectivePass(
                embeddings: embeddings, embeddingGradient: gradient, batch: batch, teacher: teacher, step: step)
            outcome = try contrast.step(
                pass, classification, weight: weight, accumulate: weight < 1 && step > 0)
        }
        var toUnits = gradient.floats.map { Double($0) - Double(start) }
        for row in 0..<2 * batch {
            for j in 0..<d { toUnits[row * d + j] *= lengths[row / batch][row % batch] }
        }
        return ContrastOutcome(
            outcome: outcome, gradient: toUnits, numbers: contrast.queue.entries.map(\.number),
            counts: [contrast.queue.localCount])
    }

    /// Puts the entries of a rank's classes into its queue.
    private func fill(_ queue: ProxyQueue, _ own: Range<Int>) {
        var stored: [(number: Int, label: Int, feature: [Float], proxy: [Float])] = []
        for (number, entry) in entries.enumerated() where own.contains(entry.label) {
            stored.append((number, entry.label, entry.feature.map { Float($0) }, entry.proxy.map { Float($0) }))
        }
        queue.restore(total: entries.count, stored)
    }
}

/// The definition in double. What is constant in a step is taken from `constants`.
struct ContrastDefinition {
    let options: QueueContrast.Options
    let constants: ContrastProblem
    /// Entries with their centres where they are now; the batch itself among them where it is compared with itself.
    private let negatives: [(label: Int, row: [Double])]

    init(_ options: QueueContrast.Options, _ constants: ContrastProblem) {
        self.options = options
        self.constants = constants
        var entries = constants.entries
        if options.comparesWithBatch {
            for view in 0..<2 {
                for (pair, label) in constants.labels.enumerated() {
                    entries.append(
                        .init(label: label, feature: constants.row(view, pair), proxy: constants.centre(label)))
                }
            }
        }
        negatives = entries.map { entry in
            (
                label: entry.label,
                row: Self.corrected(entry, options.correction, now: constants.centre(entry.label))
            )
        }
    }

    /// e + (‖e‖/‖p‖)·(w − p), as it is or of length 1.
    private static func corrected(
        _ entry: ContrastProblem.Entry, _ correction: ProxyQueue.Correction, now centre: [Double]
    ) -> [Double] {
        guard correction != .none else { return entry.feature }
        let factor = DenseHead.norm(entry.feature) / DenseHead.norm(entry.proxy)
        let moved = entry.feature.indices.map { entry.feature[$0] + factor * (centre[$0] - entry.proxy[$0]) }
        return correction == .unit ? ContrastProblem.unit(moved) : moved
    }

    /// γ.
    func gate(_ pair: Int) -> Double {
        let (key, query) = ((constants.qualities[0][pair] + 1) / 2, (constants.qualities[1][pair] + 1) / 2)
        let quality =
            switch options.pairQuality {
            case .lesser: min(key, query)
            case .mean: (key + query) / 2
            case .greater: max(key, query)
            }
        let b = options.gate.threshold
        if b == 0 { return 1 }
        if quality >= b, options.gate.range == .half { return 0 }
        let (x, end) = quality < b ? (quality, b) : (1 - quality, 1 - b)
        return switch options.gate.shape {
        case .step: 1
        case .cosine: (1 - cos(.pi * x / (end + 1e-3))) / 2
        case .linear: x / (end + 1e-3)
        }
    }

    private static func clamped(_ cosine: Double) -> Double { min(1, max(-1, cosine)) }

    /// The key of a positive may be constant, too.
    private func positive(_ problem: ContrastProblem, _ pair: Int) -> Double {
        let key = (options.detachesKeys ? constants : problem).row(0, pair)
        return Self.clamped(DenseHead.dot(key, problem.row(1, pair))) - options.margin
    }

    func loss(_ problem: ContrastProblem) -> Double {
        let views = options.comparesBothViews ? 0..<2 : 1..<2
        var sum = 0.0
        for pair in 0..<problem.pairs {
            let scale = options.scale * gate(pair)
            let positive = positive(problem, pair)
            for view in views {
                let x = problem.row(view, pair)
                var total = exp(scale * positive)
                for negative in negatives {
                    let isSame = negative.label == problem.labels[pair]
                    total += exp(scale * (isSame ? 0 : Self.clamped(DenseHead.dot(x, negative.row))))
                }
                sum += log(total) - scale * positive
            }
        }
        let rescaling = options.rescales ? log(129) / log(Double(1 + negatives.count)) : 1
        return options.weight * rescaling * sum / Double(views.count * problem.pairs)
    }

    /// By central differences, with respect to the unit embeddings: by view, pair, component.
    func gradient() -> [Double] {
        let h = 1e-5
        var slopes: [Double] = []
        for view in 0..<2 {
            for i in constants.units[view].indices {
                var (up, down) = (constants, constants)
                up.units[view][i] += h
                down.units[view][i] -= h
                slopes.append((loss(up) - loss(down)) / (2 * h))
            }
        }
        return slopes
    }

    /// The share of pairs that take part, and the mean cosine of the positives.
    var share: Double {
        Double((0..<constants.pairs).filter { gate($0) > 0 }.count) / Double(constants.pairs)
    }
    var meanPositive: Double {
        (0..<constants.pairs).reduce(0) { $0 + positive(constants, $1) } / Double(constants.pairs)
    }
}
