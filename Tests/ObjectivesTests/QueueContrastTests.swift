import Collectives
import Foundation
import Objectives
import Tensors
import Testing

/// QGFace's gates, queue and contrast.
@Suite struct QueueContrastTests {
    @Test func gatesAreThoseOfTheTable() {
        for (z, gate) in [(-0.6, 0.5), (-0.5, 0.9983), (-0.7, 0.0017)] {
            #expect(abs(QualityGatedMargin.gate(z, threshold: 0.2) - gate) < 1e-4)
        }
        #expect(QualityGatedMargin.gate(-1, threshold: 0) == 1)
        #expect(ContrastGate().value(0.19) == 1 && ContrastGate().value(0.2) == 0)
        let linear = ContrastGate(shape: .linear, range: .whole, threshold: 0.5)
        #expect(abs(linear.value(0.25) - linear.value(0.75)) < 1e-12)
        #expect(ContrastGate(shape: .cosine).value(0) == 0)
    }

    // MARK: - Queue

    private func queue(capacity: Int, _ correction: ProxyQueue.Correction = .proxy) -> ProxyQueue {
        ProxyQueue(capacity: capacity, dimension: 3, correction: correction)
    }

    @Test func correctionFollowsTheProxy() {
        let queue = queue(capacity: 4)
        let e: [Float] = [0.6, 0.8, 0]
        var w: [Float] = [1, 2, 2]
        func corrected() -> [Float] {
            var result = [Float](repeating: 0, count: 3)
            w.withUnsafeBufferPointer { w in
                let centre = w.baseAddress!
                queue.write(0..<1, to: &result, pool: ThreadPool(threads: 1)) { _ in centre }
            }
            return result
        }
        e.withUnsafeBufferPointer { e in
            w.withUnsafeBufferPointer { w in
                let (feature, centre) = (e.baseAddress!, w.baseAddress!)
                queue.push(1, row: { _ in (feature, 0) }, centre: { _ in centre })
            }
        }
        #expect(corrected() == e)
        w = [1.5, 2, 1]
        for (a, b) in zip(corrected(), [0.7666666667, 0.8, -0.3333333333]) { #expect(abs(Double(a) - b) < 1e-6) }
    }

    /// The newest entries, in order, whatever the size of the steps; on two ranks, each its classes' share of them.
    @Test(arguments: [1, 2, 7, 20])
    func theNewestEntriesStay(step: Int) {
        let whole = queue(capacity: 9)
        let parts = (0..<2).map { _ in queue(capacity: 9) }
        var features: [Float] = []
        var values: [(Float, Int)] = []
        for round in 0..<5 {
            let rows = (0..<step).map { (Float(100 * round + $0), (round + $0) % 5) }
            // The first row of a step is its newest.
            values = rows + values
            features = rows.flatMap { [$0.0, 0, 0] }
            features.withUnsafeBufferPointer { features in
                let base = features.baseAddress!
                whole.push(step, row: { (base + 3 * $0, rows[$0].1) }, centre: { _ in base })
                for (rank, part) in parts.enumerated() {
                    part.push(step, row: { (base + 3 * $0, rows[$0].1) }, centre: { $0 % 2 == rank ? base : nil })
                }
            }
        }
        let expected = values.prefix(9)
        #expect(whole.count == min(9, 5 * step) && parts[0].count == whole.count)
        #expect(whole.entries.reversed().map(\.feature[0]) == expected.map(\.0))
        let merged = (parts[0].entries + parts[1].entries).sorted { $0.number > $1.number }
        #expect(merged.map(\.feature[0]) == expected.map(\.0) && merged.map(\.label) == expected.map(\.1))
        for (rank, part) in parts.enumerated() { #expect(part.entries.allSatisfy { $0.label % 2 == rank }) }
    }

    // MARK: - Contrast

    private struct Outcome {
        var loss: Double
        /// With respect to unit embeddings: by view, pair, component.
        var gradient: [Double]
        var numbers: [Int]
    }

    /// Pairs of dimension d: unit embeddings by view (key, query), labels, and qualities z by view.
    private struct Problem: Sendable {
        var d: Int
        var classes: Int
        var units: [[Double]]
        var labels: [Int]
        var qualities: [[Double]]
        var centres: [Double]

        var pairs: Int { labels.count }
    }

    private func run(
        _ problem: Problem, ranks: Int, entries: [(label: Int, feature: [Float])] = [], steps: Int = 1,
        _ change: @Sendable (inout QueueContrast.Options) -> Void = { _ in }
    ) throws -> Outcome {
        // A length that AdaFace, with averages at rest, reads as the wanted quality.
        @Sendable func length(_ z: Double) -> Double { 20 + z * (5 + 1e-3) / 0.333 }
        var options = QueueContrast.Options()
        change(&options)
        let chosen = options
        let stored = entries
        let parts = try InProcessGroup.run(ranks: ranks) { communicator -> Outcome in
            let pool = ThreadPool(threads: 2)
            let batch = problem.pairs / ranks
            let own = communicator.rank * batch..<(communicator.rank + 1) * batch
            let margin = QualityGatedMargin(
                AdaFace(averaging: 0, mean: 20, deviation: 5), threshold: 0.2,
                onlySecondViews: chosen.keyMomentum == nil ? nil : batch)
            let head = HeadProblem(
                embeddings: [], centres: problem.centres, labels: problem.labels + problem.labels, dimension: problem.d)
            let classifier: ShardedClassifier<Float> = head.classifier(Float.self, margin, communicator)
            let contrast = QueueContrast(
                chosen, classes: problem.classes, batch: batch, dimension: problem.d, communicator: communicator,
                pool: pool)
            contrast.queue.restore(
                total: stored.count,
                stored.enumerated().filter { classifier.classRange.contains($1.label) }.map {
                    (number: $0, label: $1.label, feature: $1.feature, proxy: $1.feature)
                })
            let classification = MarginClassification(classifier, pool: pool)
            let lengths = (0..<2).map { view in own.map { length(problem.qualities[view][$0]) } }
            let values = (0..<2).flatMap { view in
                own.enumerated().flatMap { index, pair in
                    (0..<problem.d).map { Float(problem.units[view][pair * problem.d + $0] * lengths[view][index]) }
                }
            }
            let embeddings = Tensor([2 * batch, problem.d], values)
            let gradient = Tensor([2 * batch, problem.d])
            let labels = Array(problem.labels[own]) + problem.labels[own]
            var loss = 0.0
            for step in 0..<steps {
                try labels.withUnsafeBufferPointer { try classification.classifier.begin(labels: $0) }
                _ = try classifier.step(embeddings: embeddings, step: step)
                gradient.fill(0)
                // A second encoder's keys: those of the network, turned a little.
                let teacher = Tensor([2 * batch, problem.d], values.indices.map { values[$0] + 0.3 * values[$0 ^ 1] })
                let pass = ObjectivePass(
                    embeddings: embeddings, embeddingGradient: gradient, batch: batch, teacher: teacher, step: step)
                loss = try contrast.step(pass, classification, weight: 1, accumulate: false).loss
            }
            var toUnits = gradient.floats.map(Double.init)
            for view in 0..<2 {
                for index in 0..<batch {
                    for j in 0..<problem.d { toUnits[(view * batch + index) * problem.d + j] *= lengths[view][index] }
                }
            }
            return Outcome(loss: loss, gradient: toUnits, numbers: contrast.queue.entries.map(\.number))
        }
        for part in parts { #expect(part.loss == parts[0].loss) }
        let batch = problem.pairs / ranks
        let gradient = (0..<2).flatMap { view in
            parts.flatMap { $0.gradient[view * batch * problem.d..<(view + 1) * batch * problem.d] }
        }
        return Outcome(loss: parts[0].loss, gradient: gradient, numbers: parts.flatMap(\.numbers).sorted())
    }

    private static func unit(_ x: [Double]) -> [Double] {
        let norm = x.reduce(0) { $0 + $1 * $1 }.squareRoot()
        return x.map { $0 / norm }
    }

    private static func row(_ i: Int, _ shift: Double) -> [Double] {
        (0..<4).map { sin(1.1 * Double(i) + 0.6 * Double($0) + shift) }
    }

    private static func table() -> (problem: Problem, entries: [(label: Int, feature: [Float])]) {
        func rows(_ shift: Double) -> [Double] { (0..<3).flatMap { unit(row($0, shift)) } }
        let entries = zip([4, 9, 2, 7, 4, 8], 0..<6).map { label, i in
            (
                label: label,
                feature: unit((0..<4).map { cos(0.7 * Double(i) - 0.5 * Double($0) + 0.1 * Double(i * $0)) }).map {
                    Float($0)
                }
            )
        }
        var stream = RandomStream(seed: 1, purpose: .test, index: 0)
        let problem = Problem(
            d: 4, classes: 10, units: [rows(0.3), rows(0)], labels: [4, 1, 2],
            qualities: [[-0.2, 0.4, 0.1], [-0.9, 0.2, -0.7]], centres: (0..<40).map { _ in stream.normal() })
        return (problem, entries)
    }

    @Test(arguments: [1, 3])
    func lossAndGradientAreThoseOfTheTable(ranks: Int) throws {
        let (problem, entries) = Self.table()
        let outcome = try run(problem, ranks: ranks, entries: entries) {
            $0.comparesWithBatch = false
            $0.correction = .none
        }
        #expect(abs(outcome.loss - 2.6921729602) < 1e-4)
        let keys = outcome.gradient[..<12]
        let queries = outcome.gradient[12...]
        // The table's are with respect to rows that are not yet of length 1.
        func norm(_ gradient: ArraySlice<Double>, _ shift: Double) -> Double {
            zip(gradient, (0..<12)).reduce(0) { sum, entry in
                let length = Self.row(entry.1 / 4, shift).reduce(0) { $0 + $1 * $1 }.squareRoot()
                return sum + (entry.0 / length) * (entry.0 / length)
            }.squareRoot()
        }
        #expect(abs(norm(queries, 0) - 5.8396300887) < 1e-4 * 5.8)
        #expect(abs(norm(keys, 0.3) - 6.0299800601) < 1e-4 * 6)
        // Of the pair that is gated off.
        #expect(keys[4..<8].allSatisfy { $0 == 0 } && queries[16..<20].allSatisfy { $0 == 0 })
    }

    private static func random(pairs: Int, quality: Double? = nil) -> Problem {
        var stream = RandomStream(seed: 5, purpose: .test, index: 0)
        let units = (0..<2).map { _ in (0..<pairs).flatMap { _ in unit((0..<6).map { _ in stream.normal() }) } }
        return Problem(
            d: 6, classes: 11, units: units, labels: (0..<pairs).map { _ in stream.below(11) },
            qualities: (0..<2).map { _ in (0..<pairs).map { _ in quality ?? stream.uniform(-1, 0) } },
            centres: (0..<66).map { _ in stream.normal() })
    }

    @Test(arguments: [2, 3, 4])
    func ranksDoNotMatter(ranks: Int) throws {
        let problem = Self.random(pairs: 12)
        let one = try run(problem, ranks: 1, steps: 3) { $0.capacity = 50 }
        let several = try run(problem, ranks: ranks, steps: 3) { $0.capacity = 50 }
        #expect(abs(one.loss - several.loss) < 1e-5 * one.loss)
        #expect(relativeDifference(several.gradient, one.gradient) < 1e-4)
        #expect(several.numbers == one.numbers && one.numbers == Array(22..<72))
        #expect(one.loss > 0.1 && one.gradient.contains { abs($0) > 1e-3 })
    }

    @Test func pairsOfGoodQualityCountAConstant() throws {
        for capacity in [10, 100] {
            let outcome = try run(Self.random(pairs: 4, quality: 0.9), ranks: 2) { $0.capacity = capacity }
            #expect(abs(outcome.loss - log(129)) < 1e-6 && outcome.gradient.allSatisfy { $0 == 0 })
        }
    }

    /// The loss in double, of pairs against entries whose centres have moved to where they are now.
    private func definition(_ problem: Problem, _ entries: [(label: Int, feature: [Float])], scale: Double) -> Double {
        let d = problem.d
        func row(_ view: Int, _ pair: Int) -> [Double] {
            Self.unit(Array(problem.units[view][pair * d..<(pair + 1) * d]))
        }
        func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
        // e + ‖e‖/‖p‖·(w − p) with e = p.
        let corrected = entries.map { Array(problem.centres[$0.label * d..<($0.label + 1) * d]) }
        var sum = 0.0
        for pair in 0..<problem.pairs {
            let quality = (min(problem.qualities[0][pair], problem.qualities[1][pair]) + 1) / 2
            let factor = quality < 0.2 ? scale : 0
            let positive = dot(row(0, pair), row(1, pair))
            for view in 0..<2 {
                let others = zip(entries, corrected).map { entry, e in
                    entry.label == problem.labels[pair] ? 0 : min(1, max(-1, dot(row(view, pair), e)))
                }
                sum += log(([positive] + others).reduce(0) { $0 + exp(factor * $1) }) - factor * positive
            }
        }
        return sum / Double(2 * problem.pairs) * log(129) / log(1 + Double(entries.count))
    }

    @Test(arguments: [1, 2, 3, 4])
    func correctedEntriesMatchTheDefinition(ranks: Int) throws {
        var problem = Self.random(pairs: 12)
        problem.centres = problem.centres.map { 0.3 * $0 }
        var stream = RandomStream(seed: 9, purpose: .test, index: 0)
        let entries = (0..<15).map { _ in
            (label: stream.below(11), feature: Self.unit((0..<6).map { _ in stream.normal() }).map { Float($0) })
        }
        let outcome = try run(problem, ranks: ranks, entries: entries) {
            $0.comparesWithBatch = false
            $0.scale = 4
        }
        #expect(abs(outcome.loss - definition(problem, entries, scale: 4)) < 1e-5)
        let h = 1e-5
        for view in 0..<2 {
            let expected = problem.units[view].indices.map { i in
                var (up, down) = (problem, problem)
                up.units[view][i] += h
                down.units[view][i] -= h
                return (definition(up, entries, scale: 4) - definition(down, entries, scale: 4)) / (2 * h)
            }
            #expect(relativeDifference(Array(outcome.gradient[view * 72..<(view + 1) * 72]), expected) < 1e-4)
        }
    }

    /// b = 0 gates neither loss: every pair takes part, and the classification is AdaFace's.
    @Test func withoutAThresholdNothingIsGated() throws {
        for z in [-1, -0.3, 0.9] { #expect(ContrastGate(threshold: 0).value((z + 1) / 2) == 1) }
        let problem = HeadProblem.closedForm(scaled: true)
        let plain = try problem.run(Double.self, AdaFace())
        let gated = try problem.run(Double.self, QualityGatedMargin(AdaFace(), threshold: 0))
        #expect(gated.loss == plain.loss && gated.embeddingGradient == plain.embeddingGradient)
    }

    /// All rows far below the threshold: uniform logits, no gradient.
    @Test func rowsThatAreGatedOffCountTheClasses() throws {
        let problem = HeadProblem.closedForm(scaled: true)
        let margin = QualityGatedMargin(AdaFace(averaging: 0, mean: 1000, deviation: 1), threshold: 0.2)
        let outcome = try problem.run(Double.self, margin)
        #expect(abs(outcome.loss - log(7)) < 1e-8)
        #expect(outcome.embeddingGradient.allSatisfy { abs($0) < 1e-9 })
    }

    /// From 0 the averages are a hundredth of the first batch's after one step: all lengths look long.
    @Test func averagesMayStartAtZero() throws {
        let problem = HeadProblem.closedForm(scaled: true)
        let norms = AdaptiveHeadTests.norms(problem)
        let outcome = try problem.run(
            Double.self, QualityGatedMargin(AdaFace(mean: 0, deviation: 0), threshold: 0.2))
        let mean = norms.reduce(0, +) / 5
        #expect(abs(outcome.statistics[0]["norm_mean"]! - 0.01 * mean) < 1e-9)
        #expect(outcome.results[0].metrics["low_quality"] == 0)
    }

    @Test func theThresholdGrows() {
        var margin = QualityGatedMargin(AdaFace(averaging: 0, mean: 20, deviation: 5), threshold: 0.4, warmup: 4)
        func present(_ step: Int) -> Double {
            [20.0, 21.0].withUnsafeBufferPointer { norms in
                [0, 1].withUnsafeBufferPointer { (samples: UnsafeBufferPointer<Int64>) in
                    margin.prepare(
                        MarginBatch(
                            step: step, norms: norms, samples: samples, targetCosines: .init(start: nil, count: 0)))
                }
            }
            return margin.presentThreshold
        }
        #expect([0, 1, 2, 4, 9].map(present) == [0, 0.1, 0.2, 0.4, 0.4])
        #expect(ContrastGate().value(0.05, present: 0) == 0 && ContrastGate().value(0.05, present: 0.1) == 1)
    }

    /// The queue grows from one batch to its capacity, and loses what had to go on the way.
    @Test(arguments: [1, 3])
    func theQueueGrows(ranks: Int) throws {
        let outcome = try run(Self.random(pairs: 12), ranks: ranks, steps: 3) {
            $0.capacity = 100
            $0.growth = 4
        }
        // 24, 43 and 62 entries at most.
        #expect(outcome.numbers == Array(10..<72))
    }

    /// Keys of a second encoder are constants: queries are compared with earlier keys, the loss is that of the definition, and
    /// only keys join the queue.
    @Test(arguments: [1, 2, 4])
    func aSecondEncoderMakesTheKeys(ranks: Int) throws {
        let problem = Self.random(pairs: 12, quality: -0.9)
        let outcome = try run(problem, ranks: ranks, steps: 2) {
            $0.keyMomentum = 0.9
            $0.correction = .none
            $0.scale = 4
        }
        #expect(outcome.numbers == Array(0..<24))
        #expect(outcome.gradient[..<72].allSatisfy { $0 == 0 })
        let units = problem.units.map { values in
            (0..<12).map { Self.unit(Array(values[6 * $0..<6 * $0 + 6])) }
        }
        let keys = units[0].map { row in Self.unit(row.indices.map { row[$0] + 0.3 * row[$0 ^ 1] }) }
        func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
        var sum = 0.0
        for pair in 0..<12 {
            let others = (0..<12).map {
                problem.labels[$0] == problem.labels[pair] ? 1 : exp(4 * dot(units[1][pair], keys[$0]))
            }
            let positive = 4 * dot(units[1][pair], keys[pair])
            sum += log(exp(positive) + others.reduce(0, +)) - positive
        }
        #expect(abs(outcome.loss - sum / 12 * log(129) / log(13)) < 1e-5)
    }

    /// Rows of first views count nothing, those of second views twice.
    @Test func onlySecondViewsMayBeClassified() throws {
        let problem = HeadProblem.random(rows: 8, classes: 8, dimension: 5, seed: 8)
        let margin = QualityGatedMargin(AdaFace(averaging: 0), threshold: 0, onlySecondViews: 2)
        let outcome = try problem.run(Double.self, margin, ranks: 2)
        let first = [0, 1, 4, 5].flatMap { outcome.embeddingGradient[5 * $0..<5 * $0 + 5] }
        #expect(first.allSatisfy { $0 == 0 })
        var second = problem
        second.labels = [2, 3, 6, 7].map { problem.labels[$0] }
        second.embeddings = [2, 3, 6, 7].flatMap { problem.embeddings[5 * $0..<5 * $0 + 5] }
        let alone = try second.run(Double.self, AdaFace(averaging: 0), ranks: 2)
        #expect(abs(outcome.loss - alone.loss) < 1e-12)
    }
}
