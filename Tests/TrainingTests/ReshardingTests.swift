import Artifacts
import Collectives
import FaceData
import Foundation
import Layers
import Networks
import Objectives
import Recipes
import Tensors
import Testing
import Training

/// A checkpoint of four ranks on other numbers of ranks: the same logits, and the run goes on.
@Suite(.serialized) struct ReshardingTests {
    /// Cosines of five fixed faces with all class centres, (5 x classes), with averaged statistics.
    private static func cosines(_ trainer: Trainer, _ communicator: any Communicator) throws -> [Float]? {
        let own = RunningStatistics(trainer.network.buffers)
        try own.averaged(communicator).apply(to: trainer.network.buffers)
        defer { own.apply(to: trainer.network.buffers) }
        let pool = ThreadPool(threads: 1)
        let embedder = Embedder(
            trainer.network, preprocessing: RunSetup.preprocessing(trainer.recipe), batch: 5, pool: pool)
        let faces = SyntheticFaces(seed: 77)
        let embeddings = try embedder.embed(0..<5, flip: false) { faces.image(identity: $0, index: 0).0 }.plain
        let classifier = trainer.head.classifier
        let result = Tensor([5, classifier.classRange.count])
        classifier.cosines(of: Tensor([5, embedder.embeddingSize], embeddings), into: result)
        guard let parts = try communicator.gather(Array(result.bytes), root: 0, "cosines") else { return nil }
        let blocks = parts.map { part in part.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) } }
        var whole: [Float] = []
        for row in 0..<5 {
            for block in blocks {
                let columns = block.count / 5
                whole += block[row * columns..<(row + 1) * columns]
            }
        }
        return whole
    }

    @Test func fourRanksOnThreeAndOnOne() throws {
        let folder = try TemporaryFolder()
        func recipe(_ name: String, steps: Int) -> Recipe {
            TinyRun.recipe(folder.file(name)) { $0.schedule.maxSteps = steps }
        }
        // As the four ranks had them, before anything was written.
        let live = try TinyRun.onRanks(recipe("four", steps: 3), ranks: 4) { trainer, communicator in
            _ = try trainer.run()
            return try Self.cosines(trainer, communicator)
        }
        let expected = try #require(live[0])
        #expect(expected.count == 35 && Set(expected).count > 30)

        for ranks in [4, 3, 1] {
            let name = "on-\(ranks)"
            try FileManager.default.copyItem(atPath: folder.file("four"), toPath: folder.file(name))
            let taken = try TinyRun.onRanks(recipe(name, steps: 5), ranks: ranks, resume: true) {
                trainer, communicator in
                let cosines = try Self.cosines(trainer, communicator)
                return (cosines, trainer.head.classifier.classRange.count, try trainer.run(), trainer.state)
            }
            let cosines = try #require(taken[0].0)
            #expect(zip(cosines, expected).allSatisfy { abs($0 - $1) < 1e-6 } && cosines.count == expected.count)
            #expect(taken.map(\.1).reduce(0, +) == 7)
            #expect(taken.allSatisfy { $0.2 == .stopped("max_steps") && $0.3.step == 5 && $0.3.worldSize == ranks })
            let saved = try TinyRun.checkpoint(recipe(name, steps: 5), step: 5)
            #expect(saved.manifest.worldSize == ranks && saved.verify().isEmpty)
        }
    }

    /// Taking a run over changes nothing that is kept by global index.
    @Test(arguments: [3, 1, 2]) func takingOverKeepsModelMomentumAndCentres(_ ranks: Int) throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("four")) { $0.schedule.maxSteps = 2 }
        try TinyRun.train(recipe, ranks: 4)
        try FileManager.default.copyItem(atPath: folder.file("four"), toPath: folder.file("taken"))
        let other = TinyRun.recipe(folder.file("taken")) { $0.schedule.maxSteps = 2 }
        // Nothing is left to train: the run is taken over and saved again.
        try TinyRun.train(other, ranks: ranks, resume: true)

        let taken = try TinyRun.checkpoint(other, step: 2, revision: 2)
        #expect(taken.manifest.worldSize == ranks)
        let changed = TinyRun.differences(
            try TinyRun.files(recipe, step: 2), try TinyRun.files(other, step: 2, revision: 2))
        #expect(!changed.isEmpty && !changed.contains { $0.hasPrefix("model") || $0.hasPrefix("optimizer") })
        let four = try TinyRun.checkpoint(recipe, step: 2)
        #expect(four.shardedTensors.keys.sorted() == ["head/centres", "head/momentum"])
        for name in four.shardedTensors.keys {
            let (before, after) = (try four.readRows(name, 0..<7), try taken.readRows(name, 0..<7))
            withExtendedLifetime((before, after)) {
                #expect(Array(before.bytes) == Array(after.bytes), "\(name)")
            }
        }
    }

    @Test func aBatchThatDoesNotSplitIsRefused() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) { $0.schedule.maxSteps = 1 }
        for failure in try TinyRun.failures(recipe, ranks: 5) {
            #expect(failure?.exitCode == 65 && failure?.message.contains("choose a multiple of 5") == true)
        }
        #expect(!FileManager.default.fileExists(atPath: folder.file("run")))
    }
}
