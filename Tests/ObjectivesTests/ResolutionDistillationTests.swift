import Collectives
import Foundation
import Layers
import Objectives
import Tensors
import TestSupport
import Testing

/// CCFace as reconstructed: against values computed independently in double, against its definition by central
/// differences, and over ranks.
@Suite struct ResolutionDistillationTests {
    // MARK: - Values

    private static let teacherCosines = [0.6705090666, 0.7465015801, 0.7481866764, 0.7100630608, 0.6304876929]

    /// Teacher embeddings near the class centres.
    private func teacher(_ problem: HeadProblem) -> [[Double]] {
        (0..<5).map { i -> [Double] in
            let centre = problem.labels[i] * 6
            return (0..<6).map { j -> Double in
                let own = sin(1.3 * Double(i) + 0.7 * Double(j) + 0.1)
                return own + 0.8 * problem.centres[centre + j]
            }
        }
    }

    @Test func sharesAreTheTeachersCosines() {
        let problem = HeadProblem.closedForm()
        for (i, row) in teacher(problem).enumerated() {
            let centre = problem.centres[problem.labels[i] * 6..<problem.labels[i] * 6 + 6]
            let cosine = ResolutionProblem.dot(ResolutionProblem.unit(row), ResolutionProblem.unit(centre))
            #expect(abs(cosine - Self.teacherCosines[i]) < 1e-9)
        }
    }

    private func margins(_ shares: [Double]) -> RowMargins {
        let rows = RowMargins(rows: shares.count)
        rows.shares = shares
        return rows
    }

    @Test(arguments: [1, 5])
    func adaptiveMarginsAreThoseOfTheTable(ranks: Int) throws {
        let margin = AdaptiveAngularMargin(margin: 0.5, scale: 64, rows: margins(Self.teacherCosines))
        let problem = HeadProblem.closedForm()
        let double = try problem.run(Double.self, margin, ranks: ranks, frozen: true)
        #expect(abs(double.loss - 52.4722540134) < 1e-8)
        #expect(abs(DenseHead.norm(double.embeddingGradient) - 23.6640781133) < 1e-8)
        #expect(double.centreGradient.isEmpty)
        let single = try problem.run(Float.self, margin, ranks: ranks, frozen: true)
        #expect(abs(single.loss - 52.4722540134) < 1e-3)
    }

    /// m₀ = 0 is NormFace, a = 1 is ArcFace.
    @Test func limitsAreNormFaceAndArcFace() throws {
        let problem = HeadProblem.closedForm()
        let pairs: [(AdaptiveAngularMargin, any MarginFunction)] = [
            (AdaptiveAngularMargin(margin: 0, scale: 64, rows: margins(Self.teacherCosines)), NormFace(scale: 64)),
            (AdaptiveAngularMargin(margin: 0.5, scale: 64, rows: margins(.init(repeating: 1, count: 5))), ArcFace()),
        ]
        for (adaptive, plain) in pairs {
            let (a, b) = (try problem.run(Double.self, adaptive, frozen: true), try problem.run(Double.self, plain))
            #expect(abs(a.loss - b.loss) < 1e-12 * b.loss)
            #expect(relativeDifference(a.embeddingGradient, b.embeddingGradient) < 1e-12)
        }
    }

    private func relation(_ phase: Double, temperatures: (Float, Float)) -> (loss: Double, gradient: [Double]) {
        func rows(_ count: Int, _ value: (Double, Double) -> Double) -> (raw: [[Double]], unit: [Float]) {
            let raw = (0..<count).map { i in (0..<6).map { j in value(Double(i), Double(j)) } }
            return (raw, raw.flatMap { ResolutionProblem.unit($0).map { Float($0) } })
        }
        let queue = EmbeddingQueue(capacity: 8, dimension: 6)
        let entries = rows(8) { cos(0.7 * $0 - 0.5 * $1 + 0.1 * $0 * $1) }.unit
        entries.withUnsafeBufferPointer {
            for i in 0..<8 { queue.push($0.baseAddress! + 6 * i, label: i) }
        }
        let high = rows(4) { sin(1.3 * $0 + 0.7 * $1 + 0.4) }.unit
        let low = rows(4) { sin(1.3 * $0 + 0.7 * $1 + phase) }
        var (scratch, gradient) = ([Float](repeating: 0, count: 64), [Float](repeating: 0, count: 24))
        let sum = CrossResolutionTerm.relation(
            high: high, low: low.unit, rows: 4, queue: queue, temperatures: (temperatures.0, temperatures.1),
            scratch: &scratch,
            gradient: &gradient, pool: ThreadPool(threads: 1))
        // Of the mean, with respect to rows as they were before they had length 1.
        let projected = low.raw.enumerated().flatMap { i, x in
            let g = gradient[6 * i..<6 * i + 6].map { Double($0) / 4 }
            let unit = ResolutionProblem.unit(x)
            let along = ResolutionProblem.dot(unit, g)
            let length = DenseHead.norm(x)
            return g.indices.map { (g[$0] - along * unit[$0]) / length }
        }
        return (sum / 4, projected)
    }

    @Test func relationIsThatOfTheTable() {
        let (loss, gradient) = relation(0.9, temperatures: (0.04, 0.1))
        #expect(abs(loss - 0.8762965902) < 1e-5)
        #expect(abs(DenseHead.norm(gradient) - 1.1091006366) < 1e-4)
    }

    /// Equal views at equal temperatures: the entropy of the high side's relations, and nothing to learn.
    @Test func equalViewsHaveNothingToLearn() {
        let (loss, gradient) = relation(0.4, temperatures: (0.04, 0.04))
        #expect(abs(loss - 0.3331870014) < 1e-5)
        #expect(DenseHead.norm(gradient) < 1e-5)
    }

    // MARK: - The whole objective

    struct Case: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var change: @Sendable (inout ResolutionDistillation.Options) -> Void

        init(_ name: String, _ change: @escaping @Sendable (inout ResolutionDistillation.Options) -> Void) {
            testDescription = name
            self.change = change
        }

        var options: ResolutionDistillation.Options {
            var options = ResolutionDistillation.Options()
            // Gentle, so that all of a row's logits matter.
            options.scale = 6
            options.capacity = 20
            options.teacherTemperature = 0.3
            options.studentTemperature = 0.5
            options.hidden = 5
            change(&options)
            return options
        }
    }

    static let cases = [
        Case("teacher_low, relation") { _ in },
        Case("teacher_high, contrast") {
            $0.marginSource = .teacherHigh
            $0.cross = .contrast
            $0.highWeight = 0.5
        },
        Case("agreement, alone") {
            $0.marginSource = .agreement
            $0.cross = .none
        },
        Case("student, predictor") {
            $0.marginSource = .student
            $0.cross = .predictor
            $0.crossWeight = 1.5
        },
        Case("soft targets, alone") {
            $0.targets = .soft
            $0.teacherScale = 5
            $0.cross = .none
        },
        Case("soft targets of another share, relation") {
            $0.targets = .soft
            $0.teacherScale = 9
            $0.teacherShare = 0.8
            $0.marginSource = .student
            $0.highWeight = 2
            $0.crossWeight = 0.7
        },
    ]

    private func definition(_ options: ResolutionDistillation.Options, _ problem: ResolutionProblem)
        -> ResolutionDefinition
    {
        let predictor = EmbeddingPredictor(dimension: ResolutionProblem.d, hidden: options.hidden, rows: 1, seed: 3)
        return ResolutionDefinition(
            options: options, constants: problem,
            layers: predictor.parameters.map { $0.value.floats.map(Double.init) })
    }

    @Test(arguments: cases, [1, 2, 3, 4])
    func matchesItsDefinition(_ test: Case, ranks: Int) throws {
        let problem = ResolutionProblem()
        let found = try problem.run(test.options, ranks: ranks)
        check(found, problem, test.options)
    }

    /// Two classes: the third of three ranks has no centres.
    @Test(arguments: cases)
    func aRankMayHaveNoClasses(_ test: Case) throws {
        let problem = ResolutionProblem(classes: 2)
        let three = try problem.run(test.options, ranks: 3)
        check(three, problem, test.options)
        let one = try problem.run(test.options, ranks: 1)
        #expect(abs(three.loss - one.loss) < 1e-5 * abs(one.loss))
        #expect(relativeDifference(three.gradient, one.gradient) < 1e-5)
        #expect(relativeDifference(three.parameters, one.parameters) < 1e-5)
        #expect(relativeDifference(three.shares, one.shares) < 1e-6)
        #expect(three.queueLabels == one.queueLabels)
        #expect(zip(three.queue, one.queue).allSatisfy { abs($0 - $1) < 1e-6 })
    }

    private func check(
        _ found: ResolutionOutcome, _ problem: ResolutionProblem, _ options: ResolutionDistillation.Options
    ) {
        let definition = definition(options, problem)
        #expect(abs(found.loss - definition.loss(problem)) < 1e-5 * abs(found.loss), "\(found.loss)")
        for row in 0..<2 * ResolutionProblem.pairs {
            let (view, pair) = row.quotientAndRemainder(dividingBy: ResolutionProblem.pairs)
            #expect(abs(found.shares[row] - definition.share(view, pair)) < 1e-6)
        }
        let h = 1e-5
        let expected = problem.student.indices.map { i in
            var (up, down) = (problem, problem)
            up.student[i] += h
            down.student[i] -= h
            return (definition.loss(up) - definition.loss(down)) / (2 * h)
        }
        #expect(relativeDifference(found.gradient, expected) < 1e-4)
        // Frozen centres have no gradient.
        #expect(found.centreGradients == 0)
        guard options.cross == .predictor else { return }
        var slopes: [Double] = []
        for layer in definition.layers.indices {
            for i in definition.layers[layer].indices {
                var (up, down) = (definition, definition)
                up.layers[layer][i] += h
                down.layers[layer][i] -= h
                slopes.append((up.loss(problem) - down.loss(problem)) / (2 * h))
            }
        }
        #expect(relativeDifference(found.parameters, slopes) < 1e-4)
    }

    /// Passes of half the weight add half of their gradient to what is there, whatever the queue holds by then; the
    /// predictor's, whose passes are alike, are together that of one whole pass. Losses are as they were.
    @Test(arguments: cases, [1, 3])
    func passesOfHalfTheWeightAddUp(_ test: Case, ranks: Int) throws {
        let problem = ResolutionProblem()
        for steps in [1, 2] {
            let whole = try problem.run(test.options, ranks: ranks, steps: steps)
            let half = try problem.run(test.options, ranks: ranks, steps: steps, weight: 0.5, start: 0.5)
            #expect(half.outcome == whole.outcome && half.queueLabels == whole.queueLabels)
            #expect(relativeDifference(half.gradient, whole.gradient.map { $0 / 2 }) < 1e-5)
            let passes = Double(steps)
            #expect(relativeDifference(half.parameters, whole.parameters.map { passes / 2 * $0 }) < 1e-5)
            #expect(half.parameters.isEmpty == (test.options.cross != .predictor))
        }
    }

    /// Soft targets without a share of the teacher are hard ones.
    @Test func softTargetsEndAtHardOnes() throws {
        let problem = ResolutionProblem()
        let hard = try problem.run(Case("") { $0.cross = .none }.options, ranks: 2)
        let soft = try problem.run(
            Case("") {
                $0.cross = .none
                $0.targets = .soft
                $0.teacherShare = 0
            }.options, ranks: 2)
        #expect(abs(hard.loss - soft.loss) < 1e-6)
        #expect(relativeDifference(soft.gradient, hard.gradient) < 1e-6)
    }

    /// The side at full resolution is constant: the term adds nothing to its gradient.
    @Test(arguments: [ResolutionDistillation.CrossTerm.relation, .contrast, .predictor])
    func theHighSideIsConstant(_ cross: ResolutionDistillation.CrossTerm) throws {
        let problem = ResolutionProblem()
        let with = try problem.run(Case("") { $0.cross = cross }.options, ranks: 2)
        let without = try problem.run(Case("") { $0.cross = .none }.options, ranks: 2)
        let half = problem.student.count / 2
        #expect(with.gradient[..<half] == without.gradient[..<half])
        #expect(with.gradient[half...] != without.gradient[half...])
    }

    // MARK: - The queue

    /// Only views at full resolution, in the sampler's order on any number of ranks; the oldest go.
    @Test(arguments: [1, 2, 3, 4])
    func theNewestViewsStay(ranks: Int) throws {
        let problem = ResolutionProblem()
        let options = Case("") { $0.capacity = 20 }.options
        let outcome = try problem.run(options, ranks: ranks, steps: 3, filled: false)
        // 36 were put into a ring of 20: place p holds number 20 + p, or p where that was not reached.
        let numbers = (0..<20).map { $0 + 20 < 36 ? $0 + 20 : $0 }
        #expect(outcome.queueLabels == numbers.map { problem.labels[$0 % 12] })
        for (place, number) in numbers.enumerated() {
            let unit = ResolutionProblem.unit(problem.row(\.student, 0, number % 12))
            for j in 0..<6 { #expect(abs(Double(outcome.queue[6 * place + j]) - unit[j]) < 1e-6) }
        }
    }

    @Test func theFirstStepHasNothingToCompareWith() throws {
        let outcome = try ResolutionProblem().run(Case("") { _ in }.options, ranks: 2, filled: false)
        #expect(outcome.outcome.metrics["cross_resolution_loss"] == 0)
        #expect(outcome.queueLabels.count == 12)
    }

    @Test func theQueueIsRestored() throws {
        let problem = ResolutionProblem()
        let options = Case("") { $0.capacity = 20 }.options
        func objective(_ options: ResolutionDistillation.Options) -> ResolutionDistillation {
            ResolutionDistillation(
                options, batch: 4, dimension: 6, communicator: SoloCommunicator(), pool: ThreadPool(threads: 1), seed: 1
            )
        }
        for steps in [1, 3] {
            let saved = try problem.run(options, ranks: 3, steps: steps, filled: false)
            #expect(saved.states.count == 3 && saved.states[1].isEmpty)
            let other = objective(options)
            try other.restore(saved.states)
            let queue = try #require(other.queue)
            #expect(Array(queue.features.floats[..<(6 * queue.count)]) == saved.queue)
            #expect(queue.count == saved.queueLabels.count && queue.next == 12 * steps % 20)
            // Of another length, or another capacity.
            var changed = saved.states
            changed[0]["features"] = Tensor([queue.count, 5])
            #expect(throws: ObjectiveStateError.self) { try objective(options).restore(changed) }
        }
        // In one of another capacity the newest go on, oldest first: of 36, the last 8 or all 20.
        let full = try problem.run(options, ranks: 1, steps: 3, filled: false)
        for capacity in [8, 30] {
            let other = objective(Case("") { $0.capacity = capacity }.options)
            try other.restore(full.states)
            let queue = try #require(other.queue)
            #expect(queue.count == min(20, capacity) && queue.next == queue.count % capacity)
            let newest = (36 - queue.count..<36).map { problem.labels[$0 % 12] }
            #expect(Array(queue.labels[..<queue.count]) == newest)
        }
    }
}
