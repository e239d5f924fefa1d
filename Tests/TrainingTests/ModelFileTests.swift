import Artifacts
import FaceData
import Foundation
import Layers
import Networks
import Recipes
import Tensors
import Testing
import Training

/// A trained backbone leaves its run and comes back the same.
@Suite(.serialized) struct ModelFileTests {
    private func embeddings(_ network: Network, _ card: ModelFile.Card) throws -> [Float] {
        let embedder = Embedder(network, preprocessing: card.preprocessing, batch: 4, pool: ThreadPool(threads: 1))
        let faces = SyntheticFaces(seed: 78)
        return try embedder.embed(0..<6, flip: false) { faces.image(identity: $0, index: 1).0 }.plain
    }

    private func opened(_ path: String) throws -> (network: Network, card: ModelFile.Card, path: String) {
        let model = try ModelFile.open(path)
        return model
    }

    @Test func runToFileAndBack() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) {
            $0.schedule.maxSteps = 2
            $0.data.channelOrder = .bgr
        }
        // As training has it in memory, with the statistics of all ranks.
        let live = try TinyRun.onRanks(recipe, ranks: 2) { trainer, communicator in
            _ = try trainer.run()
            try RunningStatistics(trainer.network.buffers).averaged(communicator).apply(to: trainer.network.buffers)
            let card = ModelFile.Card(
                specification: RunSetup.specification(recipe.network), preprocessing: RunSetup.preprocessing(recipe))
            return try self.embeddings(trainer.network, card)
        }
        let run = try opened(folder.file("run"))
        #expect(run.path == (try TinyRun.checkpoint(recipe, step: 2)).folder + "/" + CheckpointContents.modelFile)
        #expect(run.card.preprocessing.channelOrder == .bgr)
        #expect(run.card.specification == RunSetup.specification(recipe.network))
        let expected = try embeddings(run.network, run.card)
        #expect(expected == live[0] && live[0] == live[1] && Set(expected).count > 300)

        try ModelFile.write(run.network, card: run.card, to: folder.file("model.safetensors"))
        let exported = try opened(folder.file("model.safetensors"))
        #expect(exported.card == run.card)
        #expect(try embeddings(exported.network, exported.card) == expected)
        for (a, b) in zip(run.network.state, exported.network.state) {
            #expect(a.name == b.name && Array(a.value.bytes) == Array(b.value.bytes))
        }
        // The preprocessing is part of the model: another one gives other embeddings.
        var rgb = exported.card
        rgb.preprocessing.channelOrder = .rgb
        #expect(try embeddings(exported.network, rgb) != expected)
    }

    /// A run folder that only some of the hosts see: an error, not ranks that wait in different collectives.
    @Test func aFolderThatSomeRanksLackIsRefused() throws {
        let folder = try TemporaryFolder()
        func asked(_ path: String, others: Bool) throws -> String {
            try ModelFile.location(
                path,
                with: CheckpointCoordination(
                    rank: 0, worldSize: 2, confirm: { own in own && others }, gather: { [$0, $0] }, broadcast: { $0 }))
        }
        #expect { try asked(folder.path, others: false) } throws: { "\($0)".contains("only some of the hosts") }
        #expect { try asked(folder.file("absent"), others: false) } throws: { "\($0)".contains("only some of the hosts") }
        #expect(try asked(folder.file("weights.safetensors"), others: true) == folder.file("weights.safetensors"))
    }

    @Test func aFileWithoutACardIsRefused() throws {
        let folder = try TemporaryFolder()
        let network = try NetworkSpecification("mobilefacenet", embeddingSize: 64, width: 0.25).build()
        try WeightsFile.write(
            folder.file("bare.safetensors"), network.state.map { (name: $0.name, tensor: $0.value) }, metadata: [:])
        #expect(throws: ArtifactError.self) { try ModelFile.open(folder.file("bare.safetensors")) }
    }
}
