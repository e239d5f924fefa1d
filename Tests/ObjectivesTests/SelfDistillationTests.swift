import Collectives
import Foundation
import Objectives
import Tensors
import Testing

/// Quality self-distillation against values computed independently in double, against a dense definition by central
/// differences, and over ranks.
@Suite struct SelfDistillationTests {
    private static let first: [Double] = [30, 50, 70, 90, 55, 20]
    private static let second: [Double] = [60, 48, 40, 20, 55, 95]

    private func pairs(_ first: [Double], _ second: [Double]) -> (pairs: TeachingPairs, teachers: [TeachingPairs.Teacher]) {
        var pairs = TeachingPairs(capacity: first.count)
        first.withUnsafeBufferPointer { a in second.withUnsafeBufferPointer { pairs.select(first: a, second: $0) } }
        defer { pairs.deallocate() }
        return (pairs, Array(pairs.teachers))
    }

    @Test func pairsAreThoseOfTheTable() {
        let (pairs, teachers) = pairs(Self.first, Self.second)
        #expect(pairs.meanGap == 34.5 && pairs.count == 4)
        #expect(teachers == [.second, .none, .first, .first, .none, .second])
    }

    @Test func pairsWithoutAGapTeachNothing() {
        #expect(pairs([50, 50], [50, 50]).pairs.count == 0)
        let (one, teachers) = pairs([.nan, 10, 50], [80, 60, 50])
        #expect(one.meanGap == 50.0 / 3 && teachers == [.none, .second, .none])
    }

    // MARK: - Taps, in double

    private struct Tap {
        var channels: Int
        var positions: Int
        var value: (_ view: Int, _ n: Int, _ c: Int, _ position: Int) -> Double
        var isMap: Bool
        var weight: Double
        var expected: Double
    }

    private static func map(
        _ channels: Int, _ height: Int, _ width: Int, _ a: Double, _ expected: Double
    ) -> Tap {
        Tap(
            channels: channels, positions: height * width,
            value: { view, n, c, position in
                sin(
                    0.5 * Double(n) + 0.9 * Double(c) + 0.3 * Double(position / width) + 1.7 * Double(position % width)
                        + a * Double(view))
            }, isMap: true, weight: 1, expected: expected)
    }

    private static func vector(_ length: Int, _ a: Double, weight: Double, _ expected: Double) -> Tap {
        Tap(
            channels: length, positions: 1,
            value: { view, n, d, _ in cos(0.4 * Double(n) + 0.8 * Double(d) + a * Double(view)) }, isMap: false,
            weight: weight, expected: expected)
    }

    private static var taps: [Tap] {
        [
            map(3, 4, 2, 0.6, 0.0528349055), map(5, 2, 2, 0.9, 0.1888164925), map(4, 2, 1, 0.4, 0.0164107938),
            vector(5, 0.7, weight: 1, 0.2600291935), vector(3, 0.2, weight: 0.1, 0.0234362427),
        ]
    }

    /// The loss of a tap, and the norms of the weighted loss's gradient by view.
    private func evaluate(_ tap: Tap, differentiates: Bool) -> (loss: Double, norms: [Double]) {
        let (selected, teachers) = pairs(Self.first, Self.second)
        func values(_ view: Int, _ n: Int) -> [Double] {
            (0..<tap.channels * tap.positions).map { tap.value(view, n, $0 / tap.positions, $0 % tap.positions) }
        }
        func energies(_ x: [Double]) -> [Double] {
            (0..<tap.positions).map { p in
                (0..<tap.channels).reduce(0) { $0 + x[$1 * tap.positions + p] * x[$1 * tap.positions + p] }
                    / Double(tap.channels)
            }
        }
        var squares = [0.0, 0.0]
        func learn(_ pair: Int) -> (student: Int, x: [Double], t: [Double])? {
            switch teachers[pair] {
            case .none: nil
            case .first: (1, values(1, pair), values(0, pair))
            case .second: (0, values(0, pair), values(1, pair))
            }
        }
        guard tap.isMap else {
            var loss = 0.0
            for pair in 0..<6 {
                guard let (view, s, t) = learn(pair) else { continue }
                let products = CosineDistillation.Products(teacher: t, student: s, count: tap.channels)
                loss += (1 - products.cosine) / Double(selected.count)
                for d in 0..<tap.channels {
                    let g =
                        tap.weight * (products.teacherFactor * t[d] + products.studentFactor * s[d]) / Double(selected.count)
                    squares[view] += g * g
                }
            }
            return (loss, squares.map { $0.squareRoot() })
        }
        var share = EnergyDistillation.Share()
        for pair in 0..<6 {
            guard let (_, s, _) = learn(pair) else { continue }
            EnergyDistillation.extend(&share, student: energies(s), positions: tap.positions)
        }
        for pair in 0..<6 {
            guard let (_, s, t) = learn(pair) else { continue }
            EnergyDistillation.add(
                &share, student: energies(s), teacher: energies(t), positions: tap.positions, maximum: share.maximum,
                minimum: share.minimum)
        }
        let entries = selected.count * tap.positions
        let scale = EnergyDistillation.Scale(share, entries: entries, differentiates: differentiates)
        for pair in 0..<6 {
            guard let (view, s, t) = learn(pair) else { continue }
            var gradient = [Double](repeating: 0, count: tap.positions)
            EnergyDistillation.differentiate(
                scale, factor: tap.weight, entries: entries, student: energies(s), teacher: energies(t),
                positions: tap.positions, maximum: share.maximum, minimum: share.minimum, into: &gradient)
            for i in s.indices {
                let g = 2 / Double(tap.channels) * s[i] * gradient[i % tap.positions]
                squares[view] += g * g
            }
        }
        return (scale.loss, squares.map { $0.squareRoot() })
    }

    @Test func tapsAreThoseOfTheTable() {
        let norms = [
            [0.1571040709, 0.3210332715], [0.6032930592, 0.2869143240], [0.1640893330, 0.1506717846],
            [0.1342434194, 0.1815375854], [0.0049737496, 0.0080414852],
        ]
        var total = 0.0
        for (tap, expected) in zip(Self.taps, norms) {
            let (loss, found) = evaluate(tap, differentiates: true)
            #expect(abs(loss - tap.expected) < 1e-9, "\(loss)")
            total += tap.weight * loss
            for view in 0..<2 { #expect(abs(found[view] - expected[view]) < 1e-9, "\(found)") }
        }
        #expect(abs(total - 0.5204350096) < 1e-9)
        let constant = [0.1571040709, 0.2689405744, 0.1776688955, 0.1342434194, 0.0049737496]
        for (tap, expected) in zip(Self.taps, constant) {
            #expect(abs(evaluate(tap, differentiates: false).norms[0] - expected) < 1e-9)
        }
    }

    /// Energies grow with the square of a map's factor, and so does their loss.
    @Test func scalingAMapScalesItsLoss() {
        var tap = Self.taps[1]
        let loss = evaluate(tap, differentiates: true).loss
        let value = tap.value
        tap.value = { 3 * value($0, $1, $2, $3) }
        #expect(abs(evaluate(tap, differentiates: true).loss - 9 * loss) < 1e-9)
    }

    // MARK: - The objective, over ranks and against its definition

    /// Six pairs, seven classes, eight dimensions, two taps.
    private struct Problem: Sendable {
        static let (pairs, classes, d) = (6, 7, 8)
        static let positions = [6, 4]
        /// By view and pair.
        var embeddings: [Double]
        var centres: [Double]
        /// By tap, view and pair.
        var energies: [[Double]]

        init() {
            var stream = RandomStream(seed: 3, purpose: .test, index: 0)
            embeddings = (0..<2 * Self.pairs * Self.d).map { _ in stream.normal() }
            centres = (0..<Self.classes * Self.d).map { _ in stream.normal() }
            energies = Self.positions.map { count in
                (0..<2 * Self.pairs * count).map { _ in abs(stream.normal()) }
            }
        }
    }

    private struct Gradients: Sendable {
        var loss: Double
        var embeddings: [Double]
        var centres: [Double]
        var energies: [[Double]]
    }

    private func run(_ problem: Problem, ranks: Int, qualities: [Float], weight: Double = 1) throws -> Gradients {
        let labels = [2, 0, 6, 3, 5, 1]
        let (pairs, d) = (Problem.pairs, Problem.d)
        let parts = try InProcessGroup.run(ranks: ranks) { communicator -> Gradients in
            let pool = ThreadPool(threads: 2)
            let batch = pairs / ranks
            let own = communicator.rank * batch..<(communicator.rank + 1) * batch
            let head = HeadProblem(
                embeddings: Array(problem.embeddings[..<(pairs * d)]), centres: problem.centres, labels: labels, dimension: d)
            let classifier: ShardedClassifier<Float> = head.classifier(Float.self, NormFace(scale: 4), communicator)
            let classification = MarginClassification(classifier, pool: pool)
            var options = SelfDistillation.Options()
            options.weight = weight
            options.logits = 0.5
            options.taps = ["a", "b"]
            let distillation = SelfDistillation(
                options, qualities: qualities, batch: batch, dimension: d, communicator: communicator, pool: pool)
            let stack = ObjectiveStack(classification, [distillation], demand: distillation.demand)
            func rows(_ values: [Double], _ width: Int) -> [Float] {
                (0..<2).flatMap { view in
                    values[(view * pairs + own.lowerBound) * width..<(view * pairs + own.upperBound) * width].map { Float($0) }
                }
            }
            let embeddings = Tensor([2 * batch, d], rows(problem.embeddings, d))
            let gradient = Tensor([2 * batch, d])
            let taps = zip(options.taps, Problem.positions).enumerated().map { index, tap in
                let maps = TapMaps(tap.0, rows: 2 * batch, positions: tap.1)
                _ = maps.energies.floats.update(fromContentsOf: rows(problem.energies[index], tap.1))
                return maps
            }
            let ownLabels = Array(labels[own])
            // View 1 of pair n is record n, view 2 is record n + pairs.
            let records = Array(own) + own.map { $0 + pairs }
            let outcome = try ownLabels.withUnsafeBufferPointer { labels in
                try records.withUnsafeBufferPointer { records in
                    try stack.begin(
                        labels: labels, records: .init(rebasing: records[..<batch]), step: 0, over: communicator)
                    return try stack.step(
                        ObjectivePass(
                            embeddings: embeddings, embeddingGradient: gradient,
                            classified: (embeddings.rows(0..<batch), gradient.rows(0..<batch)), batch: batch,
                            labels: labels, records: records, taps: taps, step: 0), weight: 1, accumulate: false)
                }
            }
            return Gradients(
                loss: outcome.loss, embeddings: gradient.floats.map(Double.init),
                centres: classifier.gradient.floats.map(Double.init),
                energies: taps.map { $0.gradient.floats.map(Double.init) })
        }
        for part in parts { #expect(part.loss == parts[0].loss) }
        let batch = pairs / ranks
        func merge(_ width: Int, _ values: (Gradients) -> [Double]) -> [Double] {
            (0..<2).flatMap { view in
                parts.flatMap { values($0)[view * batch * width..<(view + 1) * batch * width] }
            }
        }
        return Gradients(
            loss: parts[0].loss, embeddings: merge(d) { $0.embeddings }, centres: parts.flatMap(\.centres),
            energies: Problem.positions.indices.map { tap in merge(Problem.positions[tap]) { $0.energies[tap] } })
    }

    private static let qualities = (first + second).map { Float($0) }

    /// NormFace's loss and the distillation's, densely, in double; teachers are constants taken from `teacher`.
    private func dense(_ problem: Problem, teacher: Problem, weight: Double) -> Double {
        let (pairs, d, classes) = (Problem.pairs, Problem.d, Problem.classes)
        func unit(_ x: ArraySlice<Double>) -> [Double] {
            let norm = x.reduce(0) { $0 + $1 * $1 }.squareRoot()
            return x.map { $0 / norm }
        }
        func row(_ p: Problem, _ view: Int, _ n: Int) -> ArraySlice<Double> {
            p.embeddings[(view * pairs + n) * d..<(view * pairs + n + 1) * d]
        }
        func cosines(_ p: Problem, _ view: Int, _ n: Int) -> [Double] {
            let x = unit(row(p, view, n))
            return (0..<classes).map { c in
                zip(x, unit(p.centres[c * d..<(c + 1) * d])).reduce(0) { $0 + $1.0 * $1.1 }
            }
        }
        func distance(_ t: [Double], _ s: [Double]) -> Double {
            1 - zip(unit(t[...]), unit(s[...])).reduce(0) { $0 + $1.0 * $1.1 }
        }
        var loss = 0.0
        for (n, label) in [2, 0, 6, 3, 5, 1].enumerated() {
            let z = cosines(problem, 0, n).map { 4 * $0 }
            loss += (log(z.reduce(0) { $0 + exp($1) }) - z[label]) / Double(pairs)
        }
        let learning: [(pair: Int, student: Int)] = [(0, 0), (2, 1), (3, 1), (5, 0)]
        var distilled = 0.0
        for (pair, view) in learning {
            distilled +=
                (distance(Array(row(teacher, 1 - view, pair)), Array(row(problem, view, pair)))
                    + 0.5 * distance(cosines(teacher, 1 - view, pair), cosines(problem, view, pair))) / 4
        }
        for (tap, count) in Problem.positions.enumerated() {
            func energies(_ p: Problem, _ view: Int, _ n: Int) -> ArraySlice<Double> {
                p.energies[tap][(view * pairs + n) * count..<(view * pairs + n + 1) * count]
            }
            let students = learning.flatMap { energies(problem, $0.student, $0.pair) }
            let teachers = learning.flatMap { energies(teacher, 1 - $0.student, $0.pair) }
            let mean = zip(students, teachers).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / Double(students.count)
            distilled += 2 / (students.max()! - students.min()!) * mean
        }
        return loss + weight * distilled
    }

    @Test(arguments: [1, 2, 3])
    func matchesTheDenseDefinition(ranks: Int) throws {
        let problem = Problem()
        let found = try run(problem, ranks: ranks, qualities: Self.qualities, weight: 0.7)
        #expect(abs(found.loss - dense(problem, teacher: problem, weight: 0.7)) < 1e-5)
        let h = 1e-5
        func derivative(_ path: WritableKeyPath<Problem, Double>) -> Double {
            var (up, down) = (problem, problem)
            up[keyPath: path] += h
            down[keyPath: path] -= h
            return (dense(up, teacher: problem, weight: 0.7) - dense(down, teacher: problem, weight: 0.7)) / (2 * h)
        }
        let embeddings = problem.embeddings.indices.map { derivative(\.embeddings[$0]) }
        #expect(relativeDifference(found.embeddings, embeddings) < 1e-4)
        let centres = problem.centres.indices.map { derivative(\.centres[$0]) }
        #expect(relativeDifference(found.centres, centres) < 1e-4)
        for tap in Problem.positions.indices {
            let energies = problem.energies[tap].indices.map { derivative(\.energies[tap][$0]) }
            #expect(relativeDifference(found.energies[tap], energies) < 1e-4)
        }
    }

    @Test func swappingTheViewsChangesNothingOfTheDistillation() throws {
        let problem = Problem()
        var swapped = problem
        let half = Problem.pairs * Problem.d
        swapped.embeddings = Array(problem.embeddings[half...] + problem.embeddings[..<half])
        for (tap, count) in Problem.positions.enumerated() {
            let half = Problem.pairs * count
            swapped.energies[tap] = Array(problem.energies[tap][half...] + problem.energies[tap][..<half])
        }
        func distillation(_ problem: Problem, _ qualities: [Float]) throws -> Double {
            try run(problem, ranks: 1, qualities: qualities).loss - run(problem, ranks: 1, qualities: qualities, weight: 0).loss
        }
        let a = try distillation(problem, Self.qualities)
        let b = try distillation(swapped, (Self.second + Self.first).map { Float($0) })
        #expect(a > 0.1 && abs(a - b) < 1e-5)
    }

    @Test func equalQualitiesAreTheClassificationAlone() throws {
        let problem = Problem()
        let equal = try run(problem, ranks: 2, qualities: .init(repeating: 50, count: 12))
        let without = try run(problem, ranks: 2, qualities: Self.qualities, weight: 0)
        #expect(equal.loss == without.loss && equal.embeddings == without.embeddings)
        #expect(equal.energies.allSatisfy { $0.allSatisfy { $0 == 0 } })
    }
}
