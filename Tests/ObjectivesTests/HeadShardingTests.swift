import Collectives
import Foundation
import Objectives
import Tensors
import TestSupport
import Testing

/// Sharding changes nothing: any number of ranks, any block of classes, any owner of the positives.
@Suite struct HeadShardingTests {
    /// 12 rows divide over 1, 2, 3 and 4 ranks; 17 classes over none of them but one.
    static let problem = HeadProblem.random(rows: 12, classes: 17, dimension: 9, seed: 3)

    static func expectEqual(
        _ problem: HeadProblem, _ head: HeadCase, _ outcome: HeadOutcome, tolerance: Double,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let dense = head.dense.evaluate(
            problem.embeddings, problem.centres, problem.labels, dimension: problem.dimension)
        #expect(abs(outcome.loss - dense.loss) <= tolerance * dense.loss, sourceLocation: sourceLocation)
        let embeddings = relativeDifference(outcome.embeddingGradient, dense.embeddingGradient)
        #expect(embeddings <= tolerance, sourceLocation: sourceLocation)
        let centres = relativeDifference(outcome.centreGradient, dense.centreGradient)
        #expect(centres <= tolerance, sourceLocation: sourceLocation)
        for result in outcome.results {
            #expect(result == outcome.results[0], "ranks disagree", sourceLocation: sourceLocation)
        }
        #expect(abs(outcome.results[0].accuracy - dense.accuracy) < 1e-12, sourceLocation: sourceLocation)
        #expect(abs(outcome.results[0].targetCosine - dense.targetCosine) < 1e-6, sourceLocation: sourceLocation)
    }

    @Test(arguments: HeadCase.all, [1, 2, 3, 4])
    func shardedIsDenseInDouble(_ head: HeadCase, ranks: Int) throws {
        let outcome = try Self.problem.run(Double.self, head.margin, ranks: ranks)
        Self.expectEqual(Self.problem, head, outcome, tolerance: 1e-12)
        for cosines in outcome.targetCosines { #expect(cosines == outcome.targetCosines[0]) }
        for cosines in outcome.nearestNegatives { #expect(cosines == outcome.nearestNegatives[0]) }
    }

    @Test(arguments: HeadCase.all, [1, 2, 3, 4])
    func shardedIsDenseInSinglePrecision(_ head: HeadCase, ranks: Int) throws {
        let outcome = try Self.problem.run(Float.self, head.margin, ranks: ranks)
        Self.expectEqual(Self.problem, head, outcome, tolerance: 1e-5)
    }

    @Test(arguments: HeadCase.all, [1, 5, 16])
    func blocksOfClassesChangeNothing(_ head: HeadCase, columns: Int) throws {
        let outcome = try Self.problem.run(Double.self, head.margin, ranks: 2, blockColumns: columns)
        Self.expectEqual(Self.problem, head, outcome, tolerance: 1e-12)
    }

    @Test func ranksWithoutPositives() throws {
        var problem = Self.problem
        problem.labels = [Int](repeating: 16, count: 12)
        let head = HeadCase.angularHeads[0]
        Self.expectEqual(problem, head, try problem.run(Double.self, head.margin, ranks: 4), tolerance: 1e-12)
    }

    @Test func moreRanksThanClasses() throws {
        let problem = HeadProblem.random(rows: 8, classes: 3, dimension: 5, seed: 4)
        for head in HeadCase.all {
            Self.expectEqual(problem, head, try problem.run(Double.self, head.margin, ranks: 4), tolerance: 1e-12)
            Self.expectEqual(problem, head, try problem.run(Float.self, head.margin, ranks: 8), tolerance: 1e-5)
        }
    }

    @Test func oneClass() throws {
        let problem = HeadProblem.random(rows: 4, classes: 1, dimension: 5, seed: 5)
        let outcome = try problem.run(Double.self, ArcFace(), ranks: 2)
        #expect(outcome.loss == 0 && outcome.embeddingGradient.allSatisfy { $0 == 0 })
        #expect(outcome.results[0].accuracy == 1)
    }

    @Test func frozenCentresKeepNoGradient() throws {
        let head = HeadCase.angularHeads[1]
        let free = try Self.problem.run(Double.self, head.margin, ranks: 3)
        let frozen = try Self.problem.run(Double.self, head.margin, ranks: 3, frozen: true)
        #expect(frozen.centreGradient.isEmpty)
        #expect(frozen.results == free.results && frozen.embeddingGradient == free.embeddingGradient)
    }

    @Test func sameBitsWhenRepeated() throws {
        let first = try Self.problem.run(Float.self, ArcFace(), ranks: 3)
        let again = try Self.problem.run(Float.self, ArcFace(), ranks: 3, steps: 0..<3)
        #expect(first.results == again.results)
        #expect(first.embeddingGradient == again.embeddingGradient && first.centreGradient == again.centreGradient)
    }

    @Test func everyRankRefusesALabelThatIsNoClass() throws {
        var problem = Self.problem
        problem.labels[7] = 17
        let wrong = problem
        let errors = try InProcessGroup.run(ranks: 3) { communicator -> ClassificationError? in
            let head = wrong.classifier(Float.self, ArcFace(), communicator)
            let own = communicator.rank * 4..<(communicator.rank + 1) * 4
            do {
                try wrong.labels[own].withUnsafeBufferPointer { try head.begin(labels: $0) }
                return nil
            } catch let error as ClassificationError { return error }
        }
        let expected = ClassificationError.labelOutOfRange(label: 17, rank: 1, row: 3, sample: 7, classes: 17)
        #expect(errors == [expected, expected, expected])
        #expect(expected.description.contains("record 7") && expected.description.contains("label 17"))
    }

    @Test func shardMapCoversEveryClassOnce() {
        for classes in [1, 2, 7, 17, 100] {
            for ranks in [1, 2, 3, 4, 8, 130] {
                let map = ShardMap(classes: classes, ranks: ranks)
                var next = 0
                for rank in 0..<ranks {
                    let range = map.range(ofRank: rank)
                    #expect(range.lowerBound == next)
                    #expect(range.count == classes / ranks + (rank < classes % ranks ? 1 : 0))
                    for index in range { #expect(map.owner(ofClass: index) == rank) }
                    next = range.upperBound
                }
                #expect(next == classes)
            }
        }
    }

    @Test(arguments: [CentreInitializer.normal(standardDeviation: 0.01), .unitUniform])
    func initialCentresDoNotDependOnTheRanks(_ initializer: CentreInitializer) throws {
        func centres(_ ranks: Int) throws -> [Float] {
            try InProcessGroup.run(ranks: ranks) { communicator in
                let head = ShardedClassifier<Float>(
                    classes: 67, dimension: 32, batch: 1, margin: NormFace(), communicator: communicator,
                    pool: ThreadPool(threads: 1), seed: 99, initializer: initializer)
                return Array(head.centres.floats)
            }.flatMap { $0 }
        }
        let one = try centres(1)
        for ranks in 2...4 { #expect(try centres(ranks) == one) }
        let count = Double(one.count)
        let mean = one.reduce(0) { $0 + Double($1) } / count
        let variance = one.reduce(0) { $0 + Double($1) * Double($1) } / count
        switch initializer {
        case .normal(let deviation):
            #expect(abs(mean) < 4 * deviation / count.squareRoot())
            #expect(abs(variance.squareRoot() / deviation - 1) < 0.06)
        case .unitUniform:
            for row in 0..<67 {
                let squares = one[row * 32..<(row + 1) * 32].reduce(0) { $0 + Double($1) * Double($1) }
                #expect(abs(squares - 1) < 1e-6)
            }
        }
    }

    @Test func rowsMoveBetweenShardings() throws {
        let classes = 23
        @Sendable func value(_ index: Int, _ column: Int, _ momentum: Bool) -> Float {
            Float(index * 10 + column) + (momentum ? 0.5 : 0)
        }
        for (old, new) in [(3, 4), (4, 3), (1, 5), (5, 1), (2, 30)] {
            let rows = try InProcessGroup.run(ranks: new) { communicator -> [[Float]] in
                let head = ShardedClassifier<Float>(
                    classes: classes, dimension: 4, batch: 1, margin: NormFace(), communicator: communicator,
                    pool: ThreadPool(threads: 1), seed: 1)
                var loaded = 0
                for rank in 0..<old {
                    let range = ShardMap(classes: classes, ranks: old).range(ofRank: rank)
                    let parts = [false, true].map { momentum in
                        Tensor(
                            [range.count, 4], range.flatMap { index in (0..<4).map { value(index, $0, momentum) } })
                    }
                    loaded += head.load(range, centres: parts[0], momentum: parts[1])
                }
                #expect(loaded == head.classRange.count)
                return [Array(head.centres.floats), Array(head.momentum.floats)]
            }
            for (momentum, part) in [false, true].enumerated() {
                let expected = (0..<classes).flatMap { index in (0..<4).map { value(index, $0, part) } }
                #expect(rows.flatMap { $0[momentum] } == expected)
            }
        }
    }

    @Test func cosinesForScoring() throws {
        let problem = HeadProblem.closedForm()
        let head = problem.classifier(Float.self, ArcFace(), SoloCommunicator())
        let embeddings = Tensor([2, 6], problem.embeddings[0..<12].map { Float($0) })
        let cosines = Tensor([2, 7])
        head.cosines(of: embeddings, into: cosines)
        let expected: [Double] = [
            -0.4893829646, -0.1478433989, 0.0888049958, -0.0504585939, 0.1738752580, -0.1334134366, 0.0892363422,
            0.3239653783, -0.2677123346, -0.0300915592, -0.3075794120, 0.0283188050, -0.1587668161, 0.1730738133,
        ]
        for (value, expected) in zip(cosines.floats, expected) { #expect(abs(Double(value) - expected) < 1e-6) }
    }
}
