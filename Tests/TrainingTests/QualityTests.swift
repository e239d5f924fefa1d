import Artifacts
import Collectives
import Evaluation
import FaceData
import Foundation
import Layers
import Networks
import Tensors
import Testing
import Training

/// Qualities of images on ranks that are threads.
@Suite(.serialized) struct QualityTests {
    private let head = QualityHead(weight: (0..<32).map { Float($0 % 5) - 1.5 }, bias: 0.25)

    /// A small network with random weights, as a file.
    private func weights(_ folder: TemporaryFolder, _ name: String = "w.safetensors", head: QualityHead? = nil) throws
        -> String
    {
        let specification = NetworkSpecification("mobilefacenet", embeddingSize: 32, width: 0.25)
        let network = try specification.build()
        network.initialize(seed: 3)
        let path = folder.file(name)
        try ModelFile.write(
            network, card: .init(specification: specification, preprocessing: Preprocessing()), qualityHead: head,
            to: path)
        return path
    }

    private func embedder(_ model: ModelFile.Model, batch: Int = 4) -> Embedder {
        Embedder(model.network, preprocessing: model.card.preprocessing, batch: batch, pool: ThreadPool(threads: 1))
    }

    private func faces(_ identities: Int = 5, each: Int = 4) -> ImageCollection {
        ImageCollection(
            SyntheticSource(SyntheticFaces(seed: 12), identities: 0..<identities, imagesPerIdentity: each))
    }

    // MARK: - Weights

    @Test func aQualityHeadStaysBesideItsBackbone() throws {
        let folder = try TemporaryFolder()
        let model = try ModelFile.model(weights(folder, head: head))
        #expect(model.qualityHead == head)
        #expect(try ModelFile.open(model.path).card == model.card)
        #expect(try ModelFile.model(weights(folder, "plain.safetensors")).qualityHead == nil)
        let faces = faces()
        let raw = try embedder(model).embed(0..<6, flip: false, image: faces.image).plain
        #expect(QualityEstimator.usual(for: model) == .crFiqa)
        let qualities = try EmbeddingQuality(model).qualities(of: raw, dimension: 32) { faces.key($0) }
        for image in 0..<6 {
            let terms = (0..<32).map { Double(head.weight[$0]) * Double(raw[image * 32 + $0]) }
            #expect(qualities[image] == Float(terms.reduce(0.25, +)))
        }
        let norms = try EmbeddingQuality(model, .norm).qualities(of: raw, dimension: 32) { faces.key($0) }
        for (norm, wanted) in zip(norms, try Embeddings(raw, dimension: 32).norms()) { #expect(norm == Float(wanted)) }
    }

    @Test func whatIsNoQualityHeadIsRefused() throws {
        let folder = try TemporaryFolder()
        let plain = try ModelFile.model(weights(folder))
        let error = #expect(throws: TrainingError.self) { try EmbeddingQuality(plain, .crFiqa) }
        #expect(
            error?.description.contains(
                "has no quality head ('qs.weight', 'qs.bias'): it is the backbone mobilefacenet") == true)
        for (name, tensors, reason) in [
            ("half", [("qs.weight", Tensor([1, 32]))], "'qs.bias' is missing"),
            (
                "long", [("qs.weight", Tensor([1, 64])), ("qs.bias", Tensor([1]))],
                "'qs.weight' has shape [1, 64], not [1, 32]"
            ),
        ] {
            let path = folder.file(name)
            let state = plain.network.state.map { (name: $0.name, tensor: $0.value) }
            try WeightsFile.write(
                path, state + tensors.map { (name: $0.0, tensor: $0.1) }, metadata: plain.card.metadata)
            let error = #expect(throws: ArtifactError.self) { try ModelFile.model(path) }
            #expect(error?.description.contains(reason) == true)
        }
    }

    // MARK: - Scores

    @Test func scoresAreTheSameOnAnyNumberOfRanks() throws {
        let folder = try TemporaryFolder()
        let path = try weights(folder, head: head)
        let faces = faces()
        let scores = try [1, 2, 3, 7].map { ranks in
            let results = try InProcessGroup.run(ranks: ranks) { communicator in
                let model = try ModelFile.model(path)
                return try self.embedder(model).score(faces, by: EmbeddingQuality(model), communicator: communicator)?
                    .values
            }
            #expect(results.dropFirst().allSatisfy { $0 == nil })
            return try #require(results[0])
        }
        #expect(scores.allSatisfy { $0 == scores[0] } && scores[0].count == 20 && Set(scores[0]).count == 20)
    }

    @Test func unreadableImagesAreLeftOutWhereAskedFor() throws {
        let folder = try TemporaryFolder()
        let path = try weights(folder)
        let whole = faces()
        let broken = ImageCollection(
            location: "faces", count: whole.count, labels: whole.labels, key: whole.key,
            image: { index in
                if index % 7 == 5 { throw FaceDataError(.malformed, file: whole.key(index), "not an image") }
                return try whole.image(index)
            }, degradation: "none")
        let results = try InProcessGroup.run(ranks: 2) { communicator in
            let model = try ModelFile.model(path)
            return try self.embedder(model).score(
                broken, by: EmbeddingQuality(model), skipDamaged: true, communicator: communicator)
        }
        let scores = try #require(results[0])
        #expect(scores.values.indices.filter { scores.values[$0] == nil } == [5, 12, 19])
        #expect(scores.skipped[12] == "\(whole.key(12)): not an image")
        #expect(throws: RunFailure.self) {
            let model = try ModelFile.model(path)
            _ = try self.embedder(model).score(broken, by: EmbeddingQuality(model), communicator: SoloCommunicator())
        }
        let annotation = try #require(
            try embedder(try ModelFile.model(path)).annotate(
                broken, options: .init(rounds: 2), skipDamaged: true, scratch: folder.file("rows-"),
                communicator: SoloCommunicator()))
        #expect(annotation.values.indices.filter { annotation.values[$0] == nil } == [5, 12, 19])
        #expect(annotation.identities == 5 && annotation.droppedIdentities == 0)
    }

    // MARK: - Annotation

    @Test func annotationsAreTheSameOnAnyNumberOfRanks() throws {
        let folder = try TemporaryFolder()
        let path = try weights(folder)
        let faces = faces(6, each: 5)
        // Also where the ranks are on hosts of their own, which open the file once more.
        let values = try [[1], [2], [3], [1, 2]].map { hosts in
            let results = try InProcessGroup.run(ranks: hosts.reduce(0, +), ranksPerHost: hosts) { communicator in
                try self.embedder(ModelFile.model(path)).annotate(
                    faces, options: .init(rounds: 3, pairs: 3, seed: 8), scratch: folder.file("rows-"),
                    communicator: communicator)?.values
            }
            return try #require(results[0])
        }
        #expect(values.allSatisfy { $0 == values[0] } && Set(values[0]).count > 25)
        #expect(values[0].allSatisfy { $0.map { $0 >= 0 && $0 <= 100 } == true })
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["w.safetensors"])
    }

    @Test func annotationNeedsIdentities() throws {
        let folder = try TemporaryFolder()
        let model = try ModelFile.model(weights(folder))
        let faces = faces(5, each: 1)
        for (images, reason) in [
            (faces, "0 identities have two images or more"),
            (
                ImageCollection(
                    location: "flat", count: 5, labels: nil, key: faces.key, image: faces.image, degradation: "none"),
                "flat names no identities"
            ),
        ] {
            let error = #expect(throws: RunFailure.self) {
                try embedder(model).annotate(
                    images, options: .init(), scratch: folder.file("rows-"), communicator: SoloCommunicator())
            }
            #expect(error?.message.contains(reason) == true && error?.exitCode == ExitCode.badData)
        }
    }

    // MARK: - Error versus discard

    @Test func discardingOnRanks() throws {
        let folder = try TemporaryFolder()
        let path = try weights(folder, head: head)
        let faces = faces(6, each: 5)
        let table = folder.file("q.tsv")
        try QualityTable.write(table, count: 30) { (faces.key($0), Float($0 * 7 % 30)) }
        let options = DiscardReport.Options(targetFMRs: [0.05], randomOrders: 3, samples: 5)
        func report(_ ranks: Int, _ source: @escaping @Sendable (ModelFile.Model) throws -> DiscardQuality) throws
            -> DiscardReport
        {
            let results = try InProcessGroup.run(ranks: ranks) { communicator in
                let model = try ModelFile.model(path)
                return try self.embedder(model).discard(
                    DiscardSubject(allPairsOf: faces, name: "drawn", flip: .sum), by: source(model), weights: "w",
                    options: options, communicator: communicator)
            }
            return try #require(results[0])
        }
        let own = try report(1) { .compared(try EmbeddingQuality($0)) }
        #expect(own.facts.quality == "cr-fiqa of w" && own.images == 30 && own.genuinePairs == 60)
        #expect(own == (try report(2) { .compared(try EmbeddingQuality($0)) }))
        let other = try report(2) { .model($0, try EmbeddingQuality($0)) }
        #expect(other.curves == own.curves && other.facts.quality == "cr-fiqa of \(path)")
        let listed = try report(2) { _ in .table(try QualityTable(table), missing: .refuse(allowedBy: "")) }
        #expect(listed.facts.quality == table && listed.curves != own.curves)
        #expect(listed.curves[0].falseNonMatchRates[0] == own.curves[0].falseNonMatchRates[0])
    }
}
