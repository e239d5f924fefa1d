import Collectives
import Objectives
import Tensors
import Testing

/// However many logits exist at a time, and whether or not the gradient of the centres does, a step is the same.
@Suite struct LogitBlocksTests {
    static let problem = HeadShardingTests.problem

    /// Blocks of the shard's columns that are kept; that exist one at a time; one block.
    private static let layouts: [(columns: Int, areKept: Bool)] = [(5, true), (2, true), (5, false), (100, true)]

    @Test(arguments: HeadCase.all, [1, 2, 3])
    func blocksThatAreKeptOrNotAreOneBlock(_ head: HeadCase, ranks: Int) throws {
        let whole = try Self.problem.run(Double.self, head.margin, ranks: ranks, steps: 0..<2)
        for (columns, areKept) in Self.layouts {
            let outcome = try Self.problem.run(
                Double.self, head.margin, ranks: ranks, blockColumns: columns, keepsLogits: areKept, steps: 0..<2)
            #expect(abs(outcome.loss - whole.loss) <= 1e-12 * whole.loss)
            #expect(relativeDifference(outcome.embeddingGradient, whole.embeddingGradient) <= 1e-12)
            #expect(relativeDifference(outcome.centreGradient, whole.centreGradient) <= 1e-12)
            #expect(outcome.nearestNegatives == whole.nearestNegatives && outcome.statistics == whole.statistics)
        }
    }

    @Test(arguments: HeadCase.all, [ClassSampling?.none, ClassSampling(rate: 0.4)])
    func anUpdateWithoutAGradientInMemoryIsTheSame(_ head: HeadCase, _ sampling: ClassSampling?) throws {
        for ranks in [1, 2] {
            let held = try Self.problem.train(Double.self, head.margin, ranks: ranks, sampling: sampling)
            let single = try Self.problem.train(Float.self, head.margin, ranks: ranks, sampling: sampling)
            for columns in [3, 100] {
                let outcome = try Self.problem.train(
                    Double.self, head.margin, ranks: ranks, sampling: sampling, blockColumns: columns,
                    keepsLogits: true, keepsGradient: false)
                #expect(outcome.centreGradient.isEmpty && !held.centreGradient.isEmpty)
                #expect(zip(outcome.losses, held.losses).allSatisfy { abs($0 - $1) <= 1e-12 * $1 })
                #expect(relativeDifference(outcome.centres, held.centres) <= 1e-12)
                #expect(relativeDifference(outcome.momentum, held.momentum) <= 1e-12)
                let floats = try Self.problem.train(
                    Float.self, head.margin, ranks: ranks, sampling: sampling, blockColumns: columns, keepsLogits: true,
                    keepsGradient: false)
                #expect(relativeDifference(floats.centres, single.centres) <= 1e-4)
                #expect(relativeDifference(floats.momentum, single.momentum) <= 1e-4)
            }
        }
    }

    /// More columns than one thread's rows of the gradient, and a last block that is shorter.
    @Test func panelsCoverEveryRowOnce() throws {
        let problem = HeadProblem.random(rows: 6, classes: 1400, dimension: 20, seed: 9)
        let held = try problem.train(Double.self, sampling: nil, steps: 0..<2)
        for columns in [1400, 600, 512, 100] {
            let outcome = try problem.train(
                Double.self, sampling: nil, steps: 0..<2, blockColumns: columns, keepsLogits: true,
                keepsGradient: false)
            #expect(relativeDifference(outcome.centres, held.centres) <= 1e-13, "\(columns)")
            #expect(relativeDifference(outcome.momentum, held.momentum) <= 1e-13, "\(columns)")
        }
    }

    /// Embeddings of 64 components meet centres where they lie, if they are few enough; others go through BLAS.
    @Test(arguments: HeadCase.all, [12, 300])
    func productsWithCentresWhereTheyLie(_ head: HeadCase, rows: Int) throws {
        let problem = HeadProblem.random(rows: rows, classes: 150, dimension: 64, seed: 11)
        for ranks in [1, 2] {
            let exact = try problem.run(Double.self, head.margin, ranks: ranks)
            for columns in [nil, 50] {
                let outcome = try problem.run(
                    Float.self, head.margin, ranks: ranks, blockColumns: columns, keepsLogits: true)
                #expect(abs(outcome.loss - exact.loss) <= 1e-5 * exact.loss)
                #expect(relativeDifference(outcome.embeddingGradient, exact.embeddingGradient) <= 2e-5)
                #expect(relativeDifference(outcome.centreGradient, exact.centreGradient) <= 2e-5)
            }
        }
        for sampling in [nil, ClassSampling(rate: 0.5)] {
            let exact = try problem.train(
                Double.self, head.margin, ranks: 2, sampling: sampling, steps: 0..<2, rate: 0.1)
            let outcome = try problem.train(
                Float.self, head.margin, ranks: 2, sampling: sampling, steps: 0..<2, rate: 0.1, keepsGradient: false)
            #expect(outcome.centreGradient.isEmpty)
            #expect(relativeDifference(outcome.centres, exact.centres) <= 1e-5)
            #expect(relativeDifference(outcome.momentum, exact.momentum) <= 1e-4)
        }
    }

    /// What an update needs is held: every row of a dense one, and logits that are not kept.
    @Test func theGradientIsHeldWhereItIsNeeded() {
        func head(
            keepsGradient: Bool, _ sampling: ClassSampling? = nil, columns: Int? = nil, frozen: Bool = false
        ) -> ShardedClassifier<Float> {
            Self.problem.classifier(
                Float.self, ArcFace(), SoloCommunicator(), blockColumns: columns, keepsGradient: keepsGradient,
                frozen: frozen, sampling: sampling)
        }
        #expect(head(keepsGradient: true).holdsGradient && !head(keepsGradient: false).holdsGradient)
        #expect(head(keepsGradient: false, columns: 5).holdsGradient)
        #expect(head(keepsGradient: false, ClassSampling(rate: 0.5, momentum: .dense)).holdsGradient)
        #expect(!head(keepsGradient: false, ClassSampling(rate: 0.5)).holdsGradient)
        #expect(!head(keepsGradient: true, frozen: true).holdsGradient)
        #expect(head(keepsGradient: false).gradient.count == 0)
    }

    @Test func fewLogitsAreKeptAndManyAreNot() {
        func blocks(_ rows: Int, _ width: Int) -> LogitBlocks {
            LogitBlocks(rows: rows, width: width, dimension: 512, elementBytes: 4)
        }
        #expect(blocks(64, 1000) == LogitBlocks(rows: 64, width: 1000, dimension: 512, elementBytes: 4, columns: 1000))
        for (rows, width) in [(64, 1000), (64, 180_000), (512, 32_768), (64, 2_000_000), (8, 0), (1, 1)] {
            let found = blocks(rows, width)
            #expect(found.areKept, "\(rows) x \(width)")
            #expect(
                4 * found.elements(rows: rows, width: width)
                    <= max(LogitBlocks.keptBytes, 4 * 512 * width / LogitBlocks.keptShare))
            #expect(found.count * found.columns >= width && (found.count - 1) * found.columns < max(width, 1))
        }
        for (rows, width) in [(512, 40_000), (1024, 93_431), (4096, 360_000), (100_000, 1000)] {
            let found = blocks(rows, width)
            #expect(!found.areKept && found.columns < width, "\(rows) x \(width)")
            // Of very many rows a block is larger, or its products would be too narrow.
            #expect(4 * found.elements(rows: rows, width: width) <= max(LogitBlocks.blockBytes, 4 * rows * 512))
        }
    }

    @Test func memoryIsCountedAsItIsTaken() throws {
        let classes = 9000
        let cases: [(any MarginFunction, ClassSampling?, passes: Int, rows: Int)] = [
            (ArcFace(), nil, 1, 8), (ArcFace(), nil, 2, 8), (CurricularFace(), nil, 1, 2048),
            (CosFace(), ClassSampling(rate: 0.3), 1, 8),
            (CosFace(), ClassSampling(rate: 0.3, momentum: .dense), 1, 8),
        ]
        for (margin, sampling, passes, rows) in cases {
            let said = HeadMemory(
                classes: classes, dimension: 64, rows: rows, margin: margin, sampling: sampling, frozen: false,
                passes: passes, keepsGradient: passes > 1, threads: 2)
            let head = ShardedClassifier<Float>(
                classes: classes, dimension: 64, batch: rows, margin: margin, communicator: SoloCommunicator(),
                pool: ThreadPool(threads: 2), seed: 1, keepsGradient: passes > 1, sampling: sampling)
            #expect(said.logits == head.logitBlocks)
            #expect(said.centres == head.centres.byteCount && said.momentum == head.momentum.byteCount)
            // Up to 256 embeddings are multiplied without panels.
            let panels = head.holdsGradient || rows <= 256 ? 0 : 2 * 256 * 64 * 4
            let summed = passes > 1 ? classes * 64 * 4 + 8 * classes : 0
            #expect(said.gradient == head.gradient.byteCount + panels + summed)
        }
    }

    /// The guard against bad updates is at least as large as the squares that it stands for, and not finite when they
    /// are not.
    @Test func theGuardKnowsGradientsThatAreNotHeld() throws {
        let pool = ThreadPool(threads: 1)
        func run(keepsGradient: Bool, _ change: (Tensor) -> Void = { _ in }) throws -> Double {
            let classifier = Self.problem.classifier(
                Float.self, ArcFace(), SoloCommunicator(), keepsGradient: keepsGradient)
            let objective = MarginClassification(classifier, pool: pool)
            let embeddings = Tensor([12, 9], Self.problem.embeddings.map { Float($0) })
            change(embeddings)
            try Self.problem.labels.withUnsafeBufferPointer { labels in
                try objective.begin(
                    labels: labels, records: labels, step: 0, over: SoloCommunicator())
            }
            _ = try objective.step(
                ObjectivePass(embeddings: embeddings, embeddingGradient: Tensor([12, 9]), step: 0), weight: 1,
                accumulate: false)
            return objective.gradientSquares()
        }
        let squares = try run(keepsGradient: true)
        let bound = try run(keepsGradient: false)
        #expect(squares > 0 && bound >= squares && bound.isFinite)
        #expect(try !run(keepsGradient: false) { $0.floats[4] = .nan }.isFinite)
        #expect(try !run(keepsGradient: false) { $0.floats[4] = .infinity }.isFinite)
    }
}
