import Collectives
import Foundation
import Objectives
import Tensors
import TestSupport
import Testing

/// Random margins: what they are keyed by, how they are spread, and who gets which.
@Suite struct ElasticFaceTests {
    static func prepared(
        _ head: ElasticFace, samples: [Int64], cosines: [Double] = [], step: Int = 0
    ) -> [Double] {
        var head = head
        samples.withUnsafeBufferPointer { samples in
            cosines.withUnsafeBufferPointer { cosines in
                head.prepare(
                    MarginBatch(
                        step: step, norms: .init(start: nil, count: 0), samples: samples, targetCosines: cosines))
            }
        }
        return head.margins
    }

    @Test func marginsAreNormal() {
        let margins = Self.prepared(ElasticFace(seed: 5), samples: Array(0..<20_000))
        let mean = margins.reduce(0, +) / 20_000
        let variance = margins.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 20_000
        #expect(abs(mean - 0.5) < 4 * 0.05 / 20_000.0.squareRoot())
        #expect(abs(variance.squareRoot() / 0.05 - 1) < 0.02)
    }

    @Test func marginsAreKeyedBySeedStepAndRecord() {
        let head = ElasticFace(seed: 5)
        let margins = Self.prepared(head, samples: [10, 11, 12])
        #expect(Self.prepared(head, samples: [12, 10, 11]) == [margins[2], margins[0], margins[1]])
        for other in [
            Self.prepared(head, samples: [10, 11, 12], step: 1),
            Self.prepared(ElasticFace(seed: 6), samples: [10, 11, 12]), Self.prepared(head, samples: [13, 14, 15]),
        ] {
            #expect(zip(other, margins).allSatisfy { $0 != $1 })
        }
    }

    @Test func shardsAgree() throws {
        let problem = HeadShardingTests.problem
        for assignment in ElasticFace.Assignment.allCases {
            let head = ElasticFace(assignment: assignment, seed: 9)
            let one = try problem.run(Double.self, head)
            for ranks in [2, 3, 4] {
                let many = try problem.run(Double.self, head, ranks: ranks)
                #expect(abs(many.loss - one.loss) < 1e-12 * one.loss)
                #expect(relativeDifference(many.embeddingGradient, one.embeddingGradient) < 1e-12)
            }
        }
    }

    @Test func assignments() {
        let cosines = [0.1, 0.9, 0.5, -0.3]
        func margins(_ assignment: ElasticFace.Assignment) -> [Double] {
            var head = ElasticFace(mean: 0, deviation: 1, assignment: assignment, seed: 0)
            head.noise = { sample, _ in [0.3, 0.1, 0.4, 0.2][Int(sample)] }
            return Self.prepared(head, samples: [0, 1, 2, 3], cosines: cosines)
        }
        #expect(margins(.drawn) == [0.3, 0.1, 0.4, 0.2])
        // Descending cosine: rows 1, 2, 0, 3; sorted margins .1, .2, .3, .4.
        #expect(margins(.ranked) == [0.3, 0.1, 0.2, 0.4])
        #expect(margins(.permuted) == [0.2, 0.3, 0.1, 0.4])
    }

    @Test func recordsTravelWithTheLabels() throws {
        let problem = HeadShardingTests.problem
        let records = (0..<12).map { 1000 + 7 * $0 }
        let margins = try InProcessGroup.run(ranks: 3) { communicator -> [Double] in
            let head = problem.classifier(Float.self, ElasticFace(seed: 4), communicator)
            let own = communicator.rank * 4..<(communicator.rank + 1) * 4
            try problem.labels[own].withUnsafeBufferPointer { labels in
                try Array(records[own]).withUnsafeBufferPointer { try head.begin(labels: labels, samples: $0) }
            }
            let values = problem.embeddings[own.lowerBound * 9..<own.upperBound * 9].map { Float($0) }
            let embeddings = Tensor([4, 9], values)
            _ = try head.step(embeddings: embeddings, step: 6)
            return (head.margin as! ElasticFace).margins
        }
        let expected = Self.prepared(ElasticFace(seed: 4), samples: records.map(Int64.init), step: 6)
        for margins in margins { #expect(margins == expected) }
    }
}
