import Collectives
import Foundation
import Layers
import Objectives
import Tensors

/// Twelve records in two views, their teacher, a queue and some classes in six dimensions.
struct ResolutionProblem: Sendable {
    static let (pairs, d) = (12, 6)
    let classes: Int

    /// By view, record and component.
    var student: [Double]
    var teacher: [Double]
    var centres: [Double]
    var labels: [Int]
    /// Unit rows.
    var queue: [Double]
    var queueLabels: [Int]

    init(classes: Int = 7) {
        var stream = RandomStream(seed: 11, purpose: .test, index: 0)
        let (pairs, d) = (Self.pairs, Self.d)
        self.classes = classes
        centres = (0..<classes * d).map { _ in stream.normal() }
        labels = (0..<pairs).map { _ in stream.below(classes) }
        student = []
        teacher = []
        for _ in 0..<2 {
            for label in labels {
                for j in 0..<d {
                    student.append(0.7 * centres[label * d + j] + stream.normal())
                    teacher.append(centres[label * d + j] + stream.normal())
                }
            }
        }
        queue = (0..<9).flatMap { _ in Self.unit((0..<d).map { _ in stream.normal() }) }
        queueLabels = (0..<9).map { _ in stream.below(classes) }
    }

    static func unit(_ x: some Collection<Double>) -> [Double] {
        let norm = x.reduce(0) { $0 + $1 * $1 }.squareRoot()
        return x.map { $0 / norm }
    }

    static func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }

    func row(_ values: KeyPath<Self, [Double]>, _ view: Int, _ pair: Int) -> [Double] {
        let start = (view * Self.pairs + pair) * Self.d
        return Array(self[keyPath: values][start..<start + Self.d])
    }

    func centre(_ label: Int) -> [Double] { Self.unit(centres[label * Self.d..<(label + 1) * Self.d]) }
    func entry(_ index: Int) -> [Double] { Array(queue[index * Self.d..<(index + 1) * Self.d]) }

    func cosine(_ values: KeyPath<Self, [Double]>, _ view: Int, _ pair: Int, _ label: Int) -> Double {
        Self.dot(Self.unit(row(values, view, pair)), centre(label))
    }
}

/// What one or more steps of the objective gave, put together from all ranks.
struct ResolutionOutcome: Sendable {
    var outcome: ObjectiveOutcome
    /// By view, record and component.
    var gradient: [Double]
    /// a_i by view and record.
    var shares: [Double]
    var queue: [Float]
    var queueLabels: [Int]
    /// Of the objective's own parameters, summed over ranks.
    var parameters: [Double]
    /// Elements of the centres' gradient.
    var centreGradients: Int
    var states: [[String: Tensor]]

    var loss: Double { outcome.loss }
}

extension ResolutionProblem {
    /// Runs `steps` steps on `ranks` ranks and returns the last one's outcome.
    ///
    /// - Parameters:
    ///   - weight: of each step; below 1 they are the passes of one update.
    ///   - start: what each component of the embeddings' gradient is before a step, and is without in the outcome; and of
    ///     the parameters' gradient before the first one, which must replace it.
    func run(
        _ options: ResolutionDistillation.Options, ranks: Int, steps: Int = 1, filled: Bool = true, weight: Float = 1,
        start: Float = 0
    ) throws -> ResolutionOutcome {
        let problem = self
        let parts = try InProcessGroup.run(ranks: ranks) { communicator in
            try problem.part(options, communicator, steps: steps, filled: filled, weight: weight, start: start)
        }
        let batch = Self.pairs / ranks
        func merge(_ width: Int, _ values: (ResolutionOutcome) -> [Double]) -> [Double] {
            (0..<2).flatMap { view in
                parts.flatMap { values($0)[view * batch * width..<(view + 1) * batch * width] }
            }
        }
        var result = parts[0]
        precondition(parts.allSatisfy { $0.outcome == result.outcome && $0.shares == result.shares }, "ranks differ")
        precondition(
            parts.allSatisfy { $0.queue == result.queue && $0.queueLabels == result.queueLabels }, "queues differ")
        result.gradient = merge(Self.d) { $0.gradient }
        result.parameters = result.parameters.indices.map { i in parts.reduce(0) { $0 + $1.parameters[i] } }
        result.centreGradients = parts.reduce(0) { $0 + $1.centreGradients }
        result.states = parts.flatMap(\.states)
        return result
    }

    private func part(
        _ options: ResolutionDistillation.Options, _ communicator: any Communicator, steps: Int, filled: Bool,
        weight: Float, start: Float
    ) throws -> ResolutionOutcome {
        let pool = ThreadPool(threads: 2)
        let (d, batch) = (Self.d, Self.pairs / communicator.size)
        let own = communicator.rank * batch..<(communicator.rank + 1) * batch
        let objective = ResolutionDistillation(
            options, batch: batch, dimension: d, communicator: communicator, pool: pool, seed: 3)
        for parameter in objective.parameters {
            parameter.gradient = Tensor(parameter.shape)
            parameter.gradient?.fill(start)
        }
        if filled {
            for (index, label) in queueLabels.enumerated() {
                entry(index).map { Float($0) }.withUnsafeBufferPointer {
                    objective.queue?.push($0.baseAddress!, label: label)
                }
            }
        }
        let head = HeadProblem(embeddings: [], centres: centres, labels: labels + labels, dimension: d)
        let classifier: ShardedClassifier<Float> = head.classifier(
            Float.self, objective.marginFunction, communicator, frozen: true)
        let stack = ObjectiveStack(
            MarginClassification(classifier, pool: pool), [objective], demand: objective.demand)
        func rows(_ values: [Double]) -> Tensor {
            Tensor(
                [2 * batch, d],
                (0..<2).flatMap { view in
                    values[(view * Self.pairs + own.lowerBound) * d..<(view * Self.pairs + own.upperBound) * d].map {
                        Float($0)
                    }
                })
        }
        let (embeddings, teacher, gradient) = (rows(student), rows(teacher), Tensor([2 * batch, d]))
        let given = Array(teacher.floats)
        let ownLabels = Array(labels[own]) + Array(labels[own])
        let records = Array(own) + Array(own)
        var outcome = ObjectiveOutcome()
        for step in 0..<steps {
            gradient.fill(start)
            outcome = try ownLabels.withUnsafeBufferPointer { labels in
                try records.withUnsafeBufferPointer { records in
                    try stack.begin(labels: labels, records: records, step: step, over: communicator)
                    return try stack.step(
                        ObjectivePass(
                            embeddings: embeddings, embeddingGradient: gradient, batch: batch,
                            labels: .init(rebasing: labels[..<batch]), records: records, teacher: teacher, step: step),
                        weight: weight, accumulate: weight < 1 && step > 0)
                }
            }
        }
        precondition(Array(teacher.floats) == given, "the teacher was written to")
        let ranks = communicator.size
        return ResolutionOutcome(
            outcome: outcome, gradient: gradient.floats.map { Double($0) - Double(start) },
            shares: (0..<2 * Self.pairs).map { row in
                let (view, pair) = row.quotientAndRemainder(dividingBy: Self.pairs)
                return objective.rows.shares[(2 * (pair / (Self.pairs / ranks)) + view) * batch + pair % batch]
            },
            queue: objective.queue.map { Array($0.features.floats[..<($0.count * d)]) } ?? [],
            queueLabels: objective.queue.map { Array($0.labels[..<$0.count]) } ?? [],
            parameters: objective.parameters.flatMap { $0.gradient!.floats.map(Double.init) },
            centreGradients: classifier.gradient.count,
            states: [objective.state.reduce(into: [:]) { $0[$1.name] = $1.tensor }])
    }
}

/// The definition in double. What is constant in a step is taken from `constants`.
struct ResolutionDefinition {
    var options: ResolutionDistillation.Options
    var constants: ResolutionProblem
    /// Of the predictor: W₁, b₁, W₂, b₂.
    var layers: [[Double]] = []

    func loss(_ problem: ResolutionProblem) -> Double {
        let count = Double(ResolutionProblem.pairs)
        var sum = 0.0
        for pair in 0..<ResolutionProblem.pairs {
            sum += crossEntropy(problem, 1, pair) + options.highWeight * crossEntropy(problem, 0, pair)
            sum += options.crossWeight * cross(problem, pair)
        }
        return sum / count
    }

    func share(_ view: Int, _ pair: Int) -> Double {
        let label = constants.labels[pair]
        let teacher = { constants.cosine(\.teacher, $0, pair, label) }
        let cosine =
            switch (options.marginSource, view) {
            case (_, 0), (.teacherHigh, _): teacher(0)
            case (.agreement, _):
                ResolutionProblem.dot(
                    ResolutionProblem.unit(constants.row(\.student, 1, pair)),
                    ResolutionProblem.unit(constants.row(\.teacher, 0, pair)))
            case (.student, _): constants.cosine(\.student, 1, pair, label)
            default: teacher(1)
            }
        return min(1, max(0, cosine))
    }

    private func crossEntropy(_ problem: ResolutionProblem, _ view: Int, _ pair: Int) -> Double {
        let label = problem.labels[pair]
        var logits = (0..<problem.classes).map { options.scale * problem.cosine(\.student, view, pair, $0) }
        let margin = options.margin * share(view, pair)
        let cosine = logits[label] / options.scale
        logits[label] =
            options.scale
            * (cosine <= cos(.pi - margin) ? cosine - margin * sin(margin) : cos(acos(cosine) + margin))
        let normaliser = log(logits.reduce(0) { $0 + exp($1) })
        guard options.targets == .soft else { return normaliser - logits[label] }
        let taught = (0..<problem.classes).map {
            exp(options.teacherScale * constants.cosine(\.teacher, 0, pair, $0))
        }
        let total = taught.reduce(0, +)
        return logits.indices.reduce(0) { sum, c in
            let target =
                options.teacherShare * taught[c] / total + (c == label ? 1 - options.teacherShare : 0)
            return sum + target * (normaliser - logits[c])
        }
    }

    private func cross(_ problem: ResolutionProblem, _ pair: Int) -> Double {
        let high = ResolutionProblem.unit(constants.row(\.student, 0, pair))
        let low = ResolutionProblem.unit(problem.row(\.student, 1, pair))
        let entries = problem.queueLabels.indices.map { problem.entry($0) }
        func softmax(_ x: [Double], _ temperature: Double) -> [Double] {
            let e = entries.map { exp(ResolutionProblem.dot(x, $0) / temperature) }
            let total = e.reduce(0, +)
            return e.map { $0 / total }
        }
        switch options.cross {
        case .none: return 0
        case .relation:
            return zip(softmax(high, options.teacherTemperature), softmax(low, options.studentTemperature))
                .reduce(0) { $0 - $1.0 * log($1.1) }
        case .contrast:
            let positive = ResolutionProblem.dot(high, low) / options.studentTemperature
            let others = entries.indices.filter { problem.queueLabels[$0] != problem.labels[pair] }
                .reduce(0) { $0 + exp(ResolutionProblem.dot(low, entries[$1]) / options.studentTemperature) }
            return log(exp(positive) + others) - positive
        case .predictor:
            let inner = affine(low, layers[0], layers[1]).map { max(0, $0) }
            let outer = affine(inner, layers[2], layers[3])
            return 1 - ResolutionProblem.dot(ResolutionProblem.unit(outer), high)
        }
    }

    private func affine(_ x: [Double], _ weight: [Double], _ bias: [Double]) -> [Double] {
        bias.indices.map { row in bias[row] + x.indices.reduce(0) { $0 + weight[row * x.count + $1] * x[$1] } }
    }
}
