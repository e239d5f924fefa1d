import Collectives
import Foundation
import Objectives
import Tensors
import TestSupport
import Testing

/// Softmax regression, z = x·w + b, through the sharded classifier, against its definition by plain loops in double.
@Suite struct SoftmaxTests {
    /// 12 rows divide over 1, 2, 3 and 4 ranks; 17 classes over none of them but one.
    static let problem = HeadProblem.random(rows: 12, classes: 17, dimension: 9, seed: 3)
    static let biases = (0..<17).map { 1.5 * cos(2.3 * Double($0)) }

    struct Outcome: Sendable {
        var results: [ClassificationResult] = []
        var loss = 0.0
        var accuracy = 0.0
        var targetLogit = 0.0
        var embeddingGradient: [Double] = []
        var centreGradient: [Double] = []
        var biasGradient: [Double] = []
        var targets: [Double] = []
        var nearest: [Double] = []
    }

    static func definition(_ problem: HeadProblem, _ biases: [Double]?) -> Outcome {
        let (n, c, d) = (problem.rows, problem.classes, problem.dimension)
        var outcome = Outcome(
            embeddingGradient: [Double](repeating: 0, count: n * d),
            centreGradient: [Double](repeating: 0, count: c * d), biasGradient: [Double](repeating: 0, count: c))
        for i in 0..<n {
            let x = Array(problem.embeddings[i * d..<(i + 1) * d])
            let z = (0..<c).map { DenseHead.dot(x, Array(problem.centres[$0 * d..<($0 + 1) * d])) + (biases?[$0] ?? 0) }
            let label = problem.labels[i]
            let others = z.indices.filter { $0 != label }.map { z[$0] }
            outcome.targets.append(z[label])
            outcome.nearest.append(others.max()!)
            let sum = z.reduce(0) { $0 + exp($1 - z.max()!) }
            outcome.loss += (log(sum) + z.max()! - z[label]) / Double(n)
            outcome.targetLogit += z[label] / Double(n)
            if z[label] > others.max()! { outcome.accuracy += 1 / Double(n) }
            for j in 0..<c {
                let g = (exp(z[j] - z.max()!) / sum - (j == label ? 1 : 0)) / Double(n)
                outcome.biasGradient[j] += g
                for k in 0..<d {
                    outcome.embeddingGradient[i * d + k] += g * problem.centres[j * d + k]
                    outcome.centreGradient[j * d + k] += g * x[k]
                }
            }
        }
        return outcome
    }

    static func run<Scalar: HeadScalar>(
        _ type: Scalar.Type, _ problem: HeadProblem, _ biases: [Double]?, ranks: Int, blockColumns: Int? = nil,
        frozen: Bool = false
    ) throws -> Outcome {
        let shards = try InProcessGroup.run(ranks: ranks) { communicator in
            let head = problem.classifier(
                type, Softmax(bias: biases != nil), communicator, threads: ranks == 1 ? 2 : 1,
                blockColumns: blockColumns, frozen: frozen)
            #expect((head.bias != nil) == (biases != nil))
            if let biases {
                let all = Tensor([problem.classes], dtype: Scalar.dtype)
                _ = Scalar.elements(all).update(fromContentsOf: biases.map { Scalar($0) })
                head.load(0..<problem.classes, biases: all)
            }
            let d = problem.dimension
            let embeddings = Tensor([head.batch, d], dtype: Scalar.dtype)
            let own = head.ownRows
            _ = Scalar.elements(embeddings).update(
                fromContentsOf: problem.embeddings[own.lowerBound * d..<own.upperBound * d].map { Scalar($0) })
            try problem.labels[own].withUnsafeBufferPointer { try head.begin(labels: $0) }
            let result = try head.step(embeddings: embeddings, step: 0)
            return Outcome(
                results: [result], embeddingGradient: Scalar.elements(head.embeddingGradient).map { Double($0) },
                centreGradient: Scalar.elements(head.gradient).map { Double($0) },
                biasGradient: Scalar.elements(head.biasGradient).map { Double($0) },
                targets: Array(head.targetCosines), nearest: Array(head.nearestNegativeCosines))
        }
        return Outcome(
            results: shards.flatMap(\.results), embeddingGradient: shards.flatMap(\.embeddingGradient),
            centreGradient: shards.flatMap(\.centreGradient), biasGradient: shards.flatMap(\.biasGradient),
            targets: shards[0].targets, nearest: shards[0].nearest)
    }

    static func expectEqual(
        _ outcome: Outcome, _ expected: Outcome, hasBiases: Bool, tolerance: Double,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        for result in outcome.results {
            #expect(result == outcome.results[0], "ranks disagree", sourceLocation: sourceLocation)
        }
        let result = outcome.results[0]
        #expect(abs(result.loss - expected.loss) <= tolerance * expected.loss, sourceLocation: sourceLocation)
        #expect(abs(result.accuracy - expected.accuracy) < 1e-12, sourceLocation: sourceLocation)
        #expect(abs(result.targetCosine - expected.targetLogit) < 10 * tolerance, sourceLocation: sourceLocation)
        for (a, b) in [
            (outcome.embeddingGradient, expected.embeddingGradient), (outcome.centreGradient, expected.centreGradient),
            (outcome.targets, expected.targets), (outcome.nearest, expected.nearest),
        ] + (hasBiases ? [(outcome.biasGradient, expected.biasGradient)] : []) {
            #expect(relativeDifference(a, b) <= tolerance, sourceLocation: sourceLocation)
        }
    }

    @Test(arguments: [1, 2, 3, 4], [true, false])
    func shardedIsDense(ranks: Int, hasBiases: Bool) throws {
        let biases = hasBiases ? Self.biases : nil
        let expected = Self.definition(Self.problem, biases)
        // Inner products beyond ±1, so that a clamp would show.
        #expect(expected.targets.contains { $0 > 2 } && expected.nearest.contains { $0 > 2 })
        let double = try Self.run(Double.self, Self.problem, biases, ranks: ranks)
        Self.expectEqual(double, expected, hasBiases: hasBiases, tolerance: 1e-12)
        let single = try Self.run(Float.self, Self.problem, biases, ranks: ranks)
        Self.expectEqual(single, expected, hasBiases: hasBiases, tolerance: 1e-5)
    }

    @Test(arguments: [1, 5, 16], [true, false])
    func blocksOfClassesChangeNothing(columns: Int, hasBiases: Bool) throws {
        let biases = hasBiases ? Self.biases : nil
        let outcome = try Self.run(Double.self, Self.problem, biases, ranks: 2, blockColumns: columns)
        Self.expectEqual(outcome, Self.definition(Self.problem, biases), hasBiases: hasBiases, tolerance: 1e-12)
    }

    @Test func ranksWithoutPositivesAndWithoutClasses() throws {
        var problem = Self.problem
        problem.labels = [Int](repeating: 16, count: 12)
        let outcome = try Self.run(Double.self, problem, Self.biases, ranks: 4)
        Self.expectEqual(outcome, Self.definition(problem, Self.biases), hasBiases: true, tolerance: 1e-12)
        let small = HeadProblem.random(rows: 8, classes: 3, dimension: 5, seed: 4)
        let biases = [0.5, -1, 2]
        let empty = try Self.run(Double.self, small, biases, ranks: 4)
        Self.expectEqual(empty, Self.definition(small, biases), hasBiases: true, tolerance: 1e-12)
    }

    @Test func gradientsAreTheDerivativesOfTheLoss() throws {
        let problem = HeadProblem.random(rows: 4, classes: 5, dimension: 3, seed: 21)
        let biases = Array(Self.biases[0..<5])
        let outcome = try Self.run(Double.self, problem, biases, ranks: 1)
        let h = 1e-5
        func slope(_ change: (inout HeadProblem, inout [Double], Double) -> Void) throws -> Double {
            let losses = try [h, -h].map { h in
                var (problem, biases) = (problem, biases)
                change(&problem, &biases, h)
                return try Self.run(Double.self, problem, biases, ranks: 1).results[0].loss
            }
            return (losses[0] - losses[1]) / (2 * h)
        }
        let x = try problem.embeddings.indices.map { i in try slope { p, _, h in p.embeddings[i] += h } }
        let w = try problem.centres.indices.map { i in try slope { p, _, h in p.centres[i] += h } }
        let b = try biases.indices.map { i in try slope { _, b, h in b[i] += h } }
        #expect(relativeDifference(outcome.embeddingGradient, x) < 1e-6)
        #expect(relativeDifference(outcome.centreGradient, w) < 1e-6)
        #expect(relativeDifference(outcome.biasGradient, b) < 1e-6)
    }

    /// The same constant for all classes changes no loss, and a long centre wins against a near one.
    @Test func logitsDecide() throws {
        let plain = try Self.run(Double.self, Self.problem, nil, ranks: 2)
        let shifted = try Self.run(Double.self, Self.problem, [Double](repeating: -7, count: 17), ranks: 2)
        #expect(abs(plain.results[0].loss - shifted.results[0].loss) < 1e-12)
        #expect(relativeDifference(shifted.embeddingGradient, plain.embeddingGradient) < 1e-12)
        #expect(abs(shifted.biasGradient.reduce(0, +)) < 1e-15)

        let problem = HeadProblem(embeddings: [1, 0], centres: [0.1, 0, 1, 1], labels: [1], dimension: 2)
        #expect(try Self.run(Double.self, problem, nil, ranks: 1).results[0].accuracy == 1)
        #expect(try Self.run(Double.self, problem, [1, 0], ranks: 1).results[0].accuracy == 0)
        #expect(try problem.run(Double.self, NormFace()).results[0].accuracy == 0)
    }

    @Test func lengthsAreWatched() throws {
        let d = Self.problem.dimension
        let norms = (0..<12).map { DenseHead.norm(Array(Self.problem.embeddings[$0 * d..<($0 + 1) * d])) }
        let metrics = try Self.run(Double.self, Self.problem, nil, ranks: 3).results[0].metrics
        #expect(metrics.named.map(\.name) == ["norm"] && abs(metrics["norm"]! - norms.reduce(0, +) / 12) < 1e-12)
    }

    @Test func frozenHeadsKeepNoGradient() throws {
        let frozen = try Self.run(Double.self, Self.problem, Self.biases, ranks: 2, frozen: true)
        let free = try Self.run(Double.self, Self.problem, Self.biases, ranks: 2)
        #expect(frozen.centreGradient.isEmpty && frozen.biasGradient.isEmpty)
        #expect(frozen.embeddingGradient == free.embeddingGradient && frozen.results == free.results)
    }

    /// SGD with momentum on centres and biases over micro-batches; weight decay of the biases where it is wanted.
    @Test(arguments: [1, 2, 3], [true, false])
    func objectiveUpdatesCentresAndBiases(ranks: Int, decaysBias: Bool) throws {
        let (rate, momentum, decay) = (0.5, 0.9, 0.1)
        let problems = [2, 9, 14, 20].map { seed in
            var problem = HeadProblem.random(rows: 6, classes: 7, dimension: 4, seed: UInt64(seed))
            problem.centres = HeadProblem.random(rows: 6, classes: 7, dimension: 4, seed: 1).centres
            return problem
        }
        let found = try InProcessGroup.run(ranks: ranks) { communicator in
            let pool = ThreadPool(threads: 1)
            let head = problems[0].classifier(Float.self, Softmax(bias: true), communicator)
            let objective = MarginClassification(head, pool: pool, decaysBias: decaysBias)
            var squares: [Double] = []
            for step in 0..<2 {
                for micro in 0..<2 {
                    let problem = problems[2 * step + micro]
                    let own = head.ownRows
                    let values = problem.embeddings[own.lowerBound * 4..<own.upperBound * 4].map { Float($0) }
                    let labels = Array(problem.labels[own])
                    try labels.withUnsafeBufferPointer { labels in
                        try Array(own).withUnsafeBufferPointer {
                            try objective.begin(labels: labels, records: $0, step: step, over: communicator)
                        }
                    }
                    let gradient = Tensor([own.count, 4])
                    let outcome = try objective.step(
                        ObjectivePass(
                            embeddings: Tensor([own.count, 4], values), embeddingGradient: gradient, step: step),
                        weight: 0.5, accumulate: micro > 0)
                    #expect(outcome.metrics.named.map(\.name).sorted() == ["accuracy", "norm", "target_logit"])
                }
                squares.append(objective.gradientSquares())
                objective.update(rate: Float(rate), momentum: Float(momentum), decay: Float(decay))
            }
            return (Array(head.centres.floats), Array(head.bias!.values.floats), squares)
        }
        var w = problems[0].centres
        var b = [Double](repeating: 0, count: 7)
        var (vw, vb) = (w.map { _ in 0.0 }, b.map { _ in 0.0 })
        for step in 0..<2 {
            var (gw, gb) = (w.map { _ in 0.0 }, b.map { _ in 0.0 })
            for micro in 0..<2 {
                var problem = problems[2 * step + micro]
                problem.centres = w
                let outcome = Self.definition(problem, b)
                for i in gw.indices { gw[i] += outcome.centreGradient[i] / 2 }
                for i in gb.indices { gb[i] += outcome.biasGradient[i] / 2 }
            }
            let squares = found.reduce(0) { $0 + $1.2[step] }
            let wanted = DenseHead.dot(gw, gw) + DenseHead.dot(gb, gb)
            #expect(abs(squares - wanted) < 1e-5 * wanted)
            for i in w.indices {
                vw[i] = momentum * vw[i] + gw[i] + decay * w[i]
                w[i] -= rate * vw[i]
            }
            for i in b.indices {
                vb[i] = momentum * vb[i] + gb[i] + (decaysBias ? decay * b[i] : 0)
                b[i] -= rate * vb[i]
            }
        }
        #expect(relativeDifference(found.flatMap { $0.0.map { Double($0) } }, w) < 1e-5)
        #expect(relativeDifference(found.flatMap { $0.1.map { Double($0) } }, b) < 1e-5)
    }

    @Test func biasesMoveBetweenShardings() throws {
        for (old, new) in [(3, 4), (4, 3), (1, 5), (2, 30)] {
            let rows = try InProcessGroup.run(ranks: new) { communicator -> ([Float], [Float]) in
                let head = ShardedClassifier<Float>(
                    classes: 23, dimension: 4, batch: 1, margin: Softmax(bias: true), communicator: communicator,
                    pool: ThreadPool(threads: 1), seed: 1)
                #expect(head.bias!.values.floats.allSatisfy { $0 == 0 })
                for rank in 0..<old {
                    let range = ShardMap(classes: 23, ranks: old).range(ofRank: rank)
                    head.load(
                        range, biases: Tensor([range.count], range.map { Float($0) }),
                        momentum: Tensor([range.count], range.map { Float($0) + 0.5 }))
                }
                return (Array(head.bias!.values.floats), Array(head.bias!.momentum.floats))
            }
            #expect(rows.flatMap(\.0) == (0..<23).map { Float($0) })
            #expect(rows.flatMap(\.1) == (0..<23).map { Float($0) + 0.5 })
        }
    }
}
