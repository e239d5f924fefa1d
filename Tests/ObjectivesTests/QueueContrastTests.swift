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

    /// By hand, b = 0.2: (1 − cos(πν/0.201))/2 and ν/0.201 below it; above it (1 − ν)/0.801 stands for ν/0.201.
    @Test func gatesAtSeveralQualities() {
        let points: [(quality: Double, cosine: Double, linear: Double)] = [
            (0, 0, 0), (0.05, 0.1450678185, 0.2487562189), (0.1, 0.4960925862, 0.4975124378),
            (0.19, 0.9926283796, 0.9452736318), (0.2, 0.9999961543, 0.9987515605), (0.4, 0.8525118618, 0.7490636704),
            (0.8, 0.1461001125, 0.2496878901), (0.95, 0.0095834632, 0.0624219725), (1, 0, 0),
        ]
        for range in ContrastGate.Range.allCases {
            for point in points {
                let isIn: Double = point.quality < 0.2 || range == .whole ? 1 : 0
                func difference(_ shape: ContrastGate.Shape, _ expected: Double) -> Double {
                    abs(ContrastGate(shape: shape, range: range).value(point.quality) - isIn * expected)
                }
                #expect(difference(.step, 1) == 0, "\(range), \(point.quality)")
                #expect(difference(.cosine, point.cosine) < 1e-9, "\(range), \(point.quality)")
                #expect(difference(.linear, point.linear) < 1e-9, "\(range), \(point.quality)")
            }
        }
        // While b grows, ramps end where it is.
        let growing = ContrastGate(shape: .linear, range: .whole)
        #expect(abs(growing.value(0.05, present: 0.1) - 0.05 / 0.101) < 1e-12)
        #expect(abs(growing.value(0.15, present: 0.1) - 0.85 / 0.901) < 1e-12)
        #expect(ContrastGate(shape: .linear).value(0.15, present: 0.1) == 0)
    }

    // MARK: - Queue

    private func queue(capacity: Int, _ correction: ProxyQueue.Correction = .proxy) -> ProxyQueue {
        ProxyQueue(capacity: capacity, dimension: 3, correction: correction)
    }

    /// Of a centre that was (1, 2, 2) and is (1.5, 2, 1).
    static let corrections: [(correction: ProxyQueue.Correction, length: Float, expected: [Double])] = [
        (.none, 1, [0.6, 0.8, 0]), (.proxy, 1, [0.7666666667, 0.8, -0.3333333333]),
        (.unit, 1, [0.6625738822, 0.6913814423, -0.2880756010]), (.proxy, 2, [1.5333333333, 1.6, -0.6666666667]),
        (.unit, 2, [0.6625738822, 0.6913814423, -0.2880756010]),
    ]

    @Test(arguments: corrections.indices)
    func correctionFollowsTheProxy(_ index: Int) {
        let (correction, length, expected) = Self.corrections[index]
        let queue = queue(capacity: 4, correction)
        let e: [Float] = [0.6 * length, 0.8 * length, 0]
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
        if correction != .unit { #expect(corrected() == e) }
        w = [1.5, 2, 1]
        for (a, b) in zip(corrected(), expected) { #expect(abs(Double(a) - b) < 1e-6) }
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

    private static func row(_ i: Int, _ shift: Double) -> [Double] {
        (0..<4).map { sin(1.1 * Double(i) + 0.6 * Double($0) + shift) }
    }

    private static func table() -> ContrastProblem {
        func rows(_ shift: Double) -> [Double] { (0..<3).flatMap { ContrastProblem.unit(row($0, shift)) } }
        var stream = RandomStream(seed: 1, purpose: .test, index: 0)
        var problem = ContrastProblem(
            d: 4, classes: 10, units: [rows(0.3), rows(0)], labels: [4, 1, 2],
            qualities: [[-0.2, 0.4, 0.1], [-0.9, 0.2, -0.7]], centres: (0..<40).map { _ in stream.normal() })
        problem.entries = [4, 9, 2, 7, 4, 8].enumerated().map { i, label -> ContrastProblem.Entry in
            let raw: [Double] = (0..<4).map { j in cos(0.7 * Double(i) - 0.5 * Double(j) + 0.1 * Double(i * j)) }
            let feature = ContrastProblem.unit(raw)
            return ContrastProblem.Entry(label: label, feature: feature, proxy: feature)
        }
        return problem
    }

    @Test(arguments: [1, 3])
    func lossAndGradientAreThoseOfTheTable(ranks: Int) throws {
        let outcome = try Self.table().run(ranks: ranks) {
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

    @Test(arguments: [2, 3, 4])
    func ranksDoNotMatter(ranks: Int) throws {
        let problem = ContrastProblem.random(pairs: 12)
        let one = try problem.run(ranks: 1, steps: 3) { $0.capacity = 50 }
        let several = try problem.run(ranks: ranks, steps: 3) { $0.capacity = 50 }
        #expect(abs(one.loss - several.loss) < 1e-5 * one.loss)
        #expect(relativeDifference(several.gradient, one.gradient) < 1e-4)
        #expect(several.numbers == one.numbers && one.numbers == Array(22..<72))
        #expect(one.loss > 0.1 && one.gradient.contains { abs($0) > 1e-3 })
    }

    @Test func pairsOfGoodQualityCountAConstant() throws {
        for capacity in [10, 100] {
            let problem = ContrastProblem.random(pairs: 4, quality: 0.9)
            let outcome = try problem.run(ranks: 2) { $0.capacity = capacity }
            #expect(abs(outcome.loss - log(129)) < 1e-6 && outcome.gradient.allSatisfy { $0 == 0 })
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
        let outcome = try ContrastProblem.random(pairs: 12).run(ranks: ranks, steps: 3) {
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
        let problem = ContrastProblem.random(pairs: 12, quality: -0.9)
        let outcome = try problem.run(ranks: ranks, steps: 2) {
            $0.keyMomentum = 0.9
            $0.correction = .none
            $0.scale = 4
        }
        #expect(outcome.numbers == Array(0..<24))
        #expect(outcome.gradient[..<72].allSatisfy { $0 == 0 })
        let units = (0..<2).map { view in (0..<12).map { problem.row(view, $0) } }
        let keys = units[0].map { row in ContrastProblem.unit(row.indices.map { row[$0] + 0.3 * row[$0 ^ 1] }) }
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
