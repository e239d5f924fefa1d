import Artifacts
import FaceData
import Foundation
import Objectives
import Recipes
import Tensors
import Testing
import Training

/// Centres of an earlier run in a run on other identities: rows follow names.
@Suite(.serialized) struct HeadStartTests {
    /// Identities `first`..<`first` + `count` of the synthetic ones.
    private static func recipe(
        _ folder: TemporaryFolder, _ name: String, first: Int, count: Int, _ change: (inout Recipe) -> Void = { _ in }
    ) -> Recipe {
        TinyRun.recipe(folder.file(name)) {
            $0.data.synthetic.firstIdentity = first
            $0.data.synthetic.identities = count
            $0.schedule.maxSteps = 1
            change(&$0)
        }
    }

    private struct Start: Sendable {
        var centres: [[Float]] = []
        var momentum: [Float] = []
        var network: [[Float]] = []
        var log: [String] = []
        var warnings: [String] = []
    }

    /// The head before the first step.
    private static func start(_ recipe: Recipe, ranks: Int) throws -> Start {
        let log = LogCapture()
        let parts = try TinyRun.onRanks(recipe, ranks: ranks, log: log) { trainer, _ in
            let head = trainer.head.classifier
            return (Array(head.centres.floats), Array(head.momentum.floats))
        }
        try? FileManager.default.removeItem(atPath: recipe.run.folder)
        let flat = parts.flatMap(\.0)
        return Start(
            centres: (0..<flat.count / 64).map { Array(flat[$0 * 64..<($0 + 1) * 64]) }, momentum: parts.flatMap(\.1),
            log: log.all, warnings: log.warnings)
    }

    @Test(arguments: [1, 2, 3]) func rowsFollowTheNames(_ ranks: Int) throws {
        let folder = try TemporaryFolder()
        let first = Self.recipe(folder, "first", first: 0, count: 7)
        try TinyRun.train(first, ranks: 2)
        let old = try TinyRun.checkpoint(first, step: 1).readRows("head/centres", 0..<7)
        // Identities 4 to 12: three are known.
        let alone = try Self.start(Self.recipe(folder, "alone", first: 4, count: 9) { $0.run.seed = 8 }, ranks: ranks)
        let tuned = try Self.start(
            Self.recipe(folder, "tuned", first: 4, count: 9) {
                $0.run.seed = 8
                $0.start.head = first.run.folder
            }, ranks: ranks)
        for label in 0..<9 {
            let expected = label < 3 ? Array(old.floats[(label + 4) * 64..<(label + 5) * 64]) : alone.centres[label]
            #expect(tuned.centres[label] == expected, "class \(label)")
        }
        #expect(tuned.momentum.allSatisfy { $0 == 0 })
        #expect(tuned.log.filter { $0.contains("3 identities kept, 6 new (random), 4 dropped") }.count == 1)
        #expect(!tuned.warnings.contains { $0.contains("by number") })
        // Others of the same numbers share nothing.
        let others = try Self.start(
            Self.recipe(folder, "others", first: 0, count: 7) {
                $0.data.synthetic.seed = 3
                $0.start.head = first.run.folder
            }, ranks: ranks)
        #expect(others.log.contains { $0.contains("0 identities kept, 7 new (random), 7 dropped") })
    }

    @Test func newCentresFromMeanEmbeddings() throws {
        let folder = try TemporaryFolder()
        let first = Self.recipe(folder, "first", first: 0, count: 7)
        let trained = try TinyRun.onRanks(first, ranks: 1) { trainer, _ in
            _ = try trainer.run()
            return trainer
        }[0]
        let checkpoint = try TinyRun.checkpoint(first, step: 1)
        let weights = checkpoint.folder + "/" + CheckpointContents.modelFile
        func recipe(_ name: String, head: Bool, images: Int = 2) -> Recipe {
            Self.recipe(folder, name, first: 5, count: 8) {
                $0.data.synthetic.imagesPerIdentity = images
                $0.start.weights = weights
                $0.start.head = head ? first.run.folder : nil
                $0.start.newClasses = .meanEmbedding
            }
        }
        // 25 images of each: 20 count, evenly spread.
        let chosen = (0..<20).map { $0 * 25 / 20 }
        let embedder = Embedder(
            trained.network, preprocessing: RunSetup.preprocessing(first), batch: 20, pool: ThreadPool(threads: 1))
        func mean(_ identity: Int) throws -> [Double] {
            let faces = SyntheticFaces(seed: 1)
            let rows = try embedder.embed(0..<20, flip: false) { faces.image(identity: identity, index: chosen[$0]).0 }
                .plain
            var sum = [Double](repeating: 0, count: 64)
            for row in 0..<20 {
                let values = rows[row * 64..<(row + 1) * 64].map(Double.init)
                let length = values.reduce(0) { $0 + $1 * $1 }.squareRoot()
                for i in 0..<64 { sum[i] += values[i] / length }
            }
            let length = sum.reduce(0) { $0 + $1 * $1 }.squareRoot()
            return sum.map { $0 / length }
        }
        func length(_ row: [Float]) -> Double { row.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot() }

        let old = try checkpoint.readRows("head/centres", 0..<7)
        let kept = [5, 6].map { Array(old.floats[$0 * 64..<($0 + 1) * 64]) }
        let expected = (length(kept[0]) + length(kept[1])) / 2
        for ranks in [1, 3] {
            let tuned = try Self.start(recipe("tuned-\(ranks)", head: true, images: 25), ranks: ranks)
            #expect(Array(tuned.centres[..<2]) == kept)
            for label in 2..<8 {
                let direction = try mean(5 + label)
                let error = zip(tuned.centres[label], direction).map { abs(Double($0) / expected - $1) }.max()!
                #expect(error < 1e-5, "class \(label) on \(ranks) ranks: \(error)")
            }
            #expect(tuned.log.contains { $0.contains("2 identities kept, 6 new (means of up to 20 embeddings") })
        }
        // Without an earlier head every centre is new, and as long as random ones.
        let all = try Self.start(recipe("all", head: false), ranks: 2)
        #expect(all.centres.allSatisfy { abs(length($0) - 0.08) < 0.015 })
        #expect(Set(all.centres.map(length).map { ($0 * 1e5).rounded() }).count == 1)
    }

    @Test func imagesThatCannotBeRead() throws {
        let folder = try TemporaryFolder()
        let first = Self.recipe(folder, "first", first: 0, count: 7)
        try TinyRun.train(first, ranks: 1)
        let weights = try TinyRun.checkpoint(first, step: 1).folder + "/" + CheckpointContents.modelFile
        // Identity 1 has no readable image, identity 2 has one.
        let list = try FaceFiles.list(in: folder, count: 12, identities: 4, damaged: [1, 5, 9, 2, 6])
        func start(_ name: String, _ kind: StartSection.NewClasses) throws -> Start {
            try Self.start(
                Self.recipe(folder, name, first: 0, count: 7) {
                    $0.data.train = list
                    $0.start.weights = weights
                    $0.start.newClasses = kind
                }, ranks: 2)
        }
        let (random, means) = (try start("random", .random), try start("means", .meanEmbedding))
        #expect((0..<4).filter { random.centres[$0] == means.centres[$0] } == [1])
        #expect(means.warnings.contains { $0.contains("1 new identities have no image that can be read") })
    }

    /// Numbers in a list mean nothing outside it; a user is told.
    @Test func identitiesThatAreNumbers() throws {
        let folder = try TemporaryFolder()
        let list = try FaceFiles.list(in: folder, count: 12, identities: 4)
        func recipe(_ name: String, head: String?) -> Recipe {
            Self.recipe(folder, name, first: 0, count: 7) {
                $0.data.train = list
                $0.start.head = head
            }
        }
        let first = recipe("first", head: nil)
        try TinyRun.train(first, ranks: 1)
        let second = try Self.start(recipe("second", head: first.run.folder), ranks: 2)
        #expect(second.warnings.contains { $0.contains("by number") })
        #expect(second.log.contains { $0.contains("4 identities kept, 0 new (random), 0 dropped") })
    }

    @Test func meansNeedABackbone() throws {
        let error = #expect(throws: RecipeError.self) {
            try Recipe(files: [], overrides: ["init.new_classes=mean_embedding"])
        }
        #expect("\(error!)".contains("init.weights"))
        let recipe = try Recipe(files: [], overrides: ["init.new_classes=mean_embedding", "init.weights=a"])
        #expect(recipe.start.newClasses == .meanEmbedding)
    }
}
