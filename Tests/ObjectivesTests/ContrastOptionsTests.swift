import Objectives
import Tensors
import Testing

/// QGFace's contrast with every option a recipe may give, against its definition in double.
@Suite struct ContrastOptionsTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var change: @Sendable (inout QueueContrast.Options) -> Void

        init(_ name: String, _ change: @escaping @Sendable (inout QueueContrast.Options) -> Void) {
            testDescription = name
            self.change = change
        }

        var options: QueueContrast.Options {
            var options = QueueContrast.Options()
            // Gentle, so that all of a row's logits matter.
            options.scale = 4
            options.gate.threshold = 0.5
            options.comparesWithBatch = false
            change(&options)
            return options
        }
    }

    static let cases: [Case] = [
        Case("the defaults") { _ in },
        Case("correction: unit") { $0.correction = .unit },
        Case("correction: none") { $0.correction = .none },
        Case("pair_quality: mean") { $0.pairQuality = .mean },
        Case("pair_quality: max") { $0.pairQuality = .greater },
        Case("compared: low") { $0.comparesBothViews = false },
        Case("detach_keys") { $0.detachesKeys = true },
        Case("detach_keys, compared: low") {
            $0.detachesKeys = true
            $0.comparesBothViews = false
        },
        Case("m") { $0.margin = 0.3 },
        Case("rescale: false") { $0.rescales = false },
        Case("weight") { $0.weight = 0.7 },
        Case("threshold: 0") { $0.gate.threshold = 0 },
        Case("gate: cos") { $0.gate.shape = .cosine },
        Case("gate: linear") { $0.gate.shape = .linear },
        Case("gate: cos, gate_range: whole") { $0.gate = ContrastGate(shape: .cosine, range: .whole, threshold: 0.4) },
        Case("gate: linear, gate_range: whole") { $0.gate = ContrastGate(shape: .linear, range: .whole, threshold: 0.4) },
        Case("gate: linear, gate_range: whole, pair_quality: mean") {
            $0.gate = ContrastGate(shape: .linear, range: .whole, threshold: 0.4)
            $0.pairQuality = .mean
        },
        Case("gate: linear, gate_range: whole, pair_quality: max") {
            $0.gate = ContrastGate(shape: .linear, range: .whole, threshold: 0.4)
            $0.pairQuality = .greater
        },
        Case("the batch among its negatives") { $0.comparesWithBatch = true },
        Case("the batch among its negatives, correction: unit, detach_keys") {
            $0.comparesWithBatch = true
            $0.correction = .unit
            $0.detachesKeys = true
        },
        Case("most of them") {
            $0.correction = .unit
            $0.pairQuality = .mean
            $0.comparesBothViews = false
            $0.detachesKeys = true
            $0.margin = 0.2
            $0.rescales = false
            $0.weight = 1.5
            $0.gate = ContrastGate(shape: .cosine, range: .whole, threshold: 0.3)
        },
    ]

    @Test(arguments: cases, [1, 3])
    func optionsMatchTheDefinition(_ test: Case, ranks: Int) throws {
        let problem = ContrastProblem.moving()
        let options = test.options
        let definition = ContrastDefinition(options, problem)
        let found = try problem.run(ranks: ranks) { $0 = options }
        // What is not held is compared once more.
        let byBlocks = try problem.run(ranks: ranks, block: 2) { $0 = options }
        #expect(abs(byBlocks.loss - found.loss) < 1e-6 * found.loss)
        #expect(relativeDifference(byBlocks.gradient, found.gradient) < 1e-5)
        let expected = definition.loss(problem)
        #expect(abs(found.loss - expected) < 1e-5 * expected, "\(found.loss) instead of \(expected)")
        #expect(relativeDifference(found.gradient, definition.gradient()) < 1e-4)
        if options.detachesKeys, !options.comparesBothViews {
            #expect(found.gradient[..<72].allSatisfy { $0 == 0 })
        }
        let metrics = found.outcome.metrics
        #expect(abs(options.weight * (metrics["contrast_loss"] ?? 0) - expected) < 1e-5 * expected)
        #expect(abs((metrics["contrast_share"] ?? 0) - definition.share) < 1e-12)
        #expect(abs((metrics["positive_cosine"] ?? 0) - definition.meanPositive) < 1e-6)
    }

    /// No two of the cases are the same here: an option that is mixed up with another, or has no effect, is seen.
    @Test func everyOptionMatters() {
        let problem = ContrastProblem.moving()
        let gradients = Self.cases.map { ContrastDefinition($0.options, problem).gradient() }
        for i in gradients.indices {
            for j in 0..<i {
                #expect(
                    relativeDifference(gradients[i], gradients[j]) > 0.01,
                    "\(Self.cases[i].testDescription) is \(Self.cases[j].testDescription)")
            }
        }
    }

    /// Entries keep the centres of their own step, and follow them to where they are in the next.
    @Test(arguments: [1, 3])
    func entriesFollowTheirCentresFromStepToStep(ranks: Int) throws {
        let first = ContrastProblem.random(pairs: 12)
        var stream = RandomStream(seed: 13, purpose: .test, index: 0)
        var second = first
        second.centres = first.centres.map { $0 + 0.5 * stream.normal() }
        second.entries = (0..<24).map { place -> ContrastProblem.Entry in
            let label = first.labels[place % 12]
            return ContrastProblem.Entry(
                label: label, feature: first.row(place / 12, place % 12), proxy: first.centre(label))
        }
        let options = Case("") { $0.comparesWithBatch = true }.options
        let found = try first.run(ranks: ranks, steps: 2, moved: second.centres) { $0 = options }
        let definition = ContrastDefinition(options, second)
        let expected = definition.loss(second)
        #expect(abs(found.loss - expected) < 1e-5 * expected, "\(found.loss) instead of \(expected)")
        #expect(relativeDifference(found.gradient, definition.gradient()) < 1e-4)
        #expect(found.numbers == Array(0..<48))
        // Centres that stayed would have given something else.
        let stayed = try first.run(ranks: ranks, steps: 2) { $0 = options }
        #expect(abs(stayed.loss - expected) > 1e-3 * expected)
    }

    /// Passes of half the weight add half of their gradient to what is there; losses are as they were.
    @Test(arguments: [1, 3])
    func passesOfHalfTheWeightAddHalfTheGradient(ranks: Int) throws {
        let problem = ContrastProblem.moving()
        let options = Case("") { $0.comparesWithBatch = true }.options
        for steps in [1, 2] {
            let whole = try problem.run(ranks: ranks, steps: steps) { $0 = options }
            let half = try problem.run(ranks: ranks, steps: steps, weight: 0.5, start: 0.25) { $0 = options }
            #expect(half.outcome == whole.outcome && half.numbers == whole.numbers)
            #expect(relativeDifference(half.gradient, whole.gradient.map { $0 / 2 }) < 1e-4)
        }
    }

    /// Two classes: the third of three ranks has neither centres nor entries.
    @Test(arguments: ProxyQueue.Correction.allCases)
    func aRankMayHaveNoClasses(_ correction: ProxyQueue.Correction) throws {
        let problem = ContrastProblem.moving(classes: 2)
        let options = Case("") {
            $0.correction = correction
            $0.comparesWithBatch = true
            $0.capacity = 60
        }.options
        let one = try problem.run(ranks: 1, steps: 3) { $0 = options }
        let three = try problem.run(ranks: 3, steps: 3) { $0 = options }
        #expect(abs(one.loss - three.loss) < 1e-5 * one.loss)
        #expect(relativeDifference(three.gradient, one.gradient) < 1e-4)
        #expect(three.numbers == one.numbers && one.numbers == Array(27..<87))
        #expect(three.counts[2] == 0 && three.counts[0] > 0 && three.counts[1] > 0)
        let first = try problem.run(ranks: 3) { $0 = options }
        let definition = ContrastDefinition(options, problem)
        #expect(abs(first.loss - definition.loss(problem)) < 1e-5 * first.loss)
        #expect(relativeDifference(first.gradient, definition.gradient()) < 1e-4)
    }
}
