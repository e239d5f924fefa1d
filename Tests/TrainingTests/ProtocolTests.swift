import Collectives
import Evaluation
import FaceData
import Foundation
import Layers
import Networks
import Recipes
import Tensors
import Testing
import Training

/// Identification, and pairs at several resolutions, on ranks that are threads.
@Suite(.serialized) struct ProtocolTests {
    private func network() throws -> Network {
        let network = try NetworkSpecification("mobilefacenet", embeddingSize: 32, width: 0.25).build()
        network.initialize(seed: 3)
        return network
    }

    private func embedder(batch: Int = 4) throws -> Embedder {
        Embedder(try network(), preprocessing: Preprocessing(), batch: batch, pool: ThreadPool(threads: 1))
    }

    /// What `body` gives on rank 0; the other ranks give nil.
    private func onRanks<Result: Sendable>(
        _ ranks: Int, _ body: @escaping @Sendable (Embedder, any Communicator) throws -> Result?
    ) throws -> Result {
        let results = try InProcessGroup.run(ranks: ranks) { communicator in
            try body(try self.embedder(), communicator)
        }
        #expect(results.dropFirst().allSatisfy { $0 == nil })
        return try #require(results[0])
    }

    // MARK: - Identification

    private func face(_ identity: Int, _ index: Int) throws -> [UInt8] {
        try ImageCodec.encodePNG(SyntheticFaces(seed: 8).image(identity: identity, index: index).0)
    }

    /// Two gallery images and one or two probes of four people, three distractors, a stranger among the probes.
    private func tinyFace() throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        for person in 1...4 {
            for image in 0..<2 { try folder.write("Gallery_Match/\(person)_\(image).png", try face(person, image)) }
            for image in 5...5 + person % 2 {
                try folder.write("Probe/\(person)_\(image).png", try face(person, image))
            }
        }
        for stranger in 0..<3 { try folder.write("Gallery_Distractor/\(stranger).png", try face(20 + stranger, 0)) }
        try folder.write("Probe/9_1.png", try face(9, 1))
        return folder
    }

    private func facts(_ flip: FlipFusion) -> IdentificationFacts {
        IdentificationFacts(dataset: "tiny", rules: "tinyface", selection: "all images", flip: flip, embeddings: "w")
    }

    @Test func theSearchDoesNotDependOnTheNumberOfRanks() throws {
        let folder = try tinyFace()
        let set = try IdentificationSet.tinyFace(folder.path)
        #expect(set.gallery.count == 11 && set.probes.count == 6 && set.groups[0].withoutMate == ["Probe/9_1.png"])
        for flip in [FlipFusion.sum, .none] {
            let facts = self.facts(flip)
            let reports = try [1, 2, 3].map { ranks in
                try onRanks(ranks) { embedder, communicator in
                    try embedder.identify(set, ranks: [1, 5, 20], facts: facts, communicator: communicator)
                }
            }
            #expect(reports.allSatisfy { $0 == reports[0] })
            let report = reports[0]
            #expect(report.gallery == 11 && report.galleryIdentities == 4 && report.distractors == 3)
            #expect(report.facts == facts && report.groups.map(\.name) == ["all"])
            let group = report.groups[0]
            #expect(group.probes == 6 && group.probesWithoutMate == 1 && group.rates.map(\.rank) == [1, 5, 20])
            #expect(group.rates[2].rate == 1 && group.matchCharacteristic.count == 11)
            // Embedded in one go, by the definitions.
            let alone = try embedder()
            func unit(_ images: ImageCollection) throws -> Embeddings {
                let raw = try alone.embed(0..<images.count, flip: flip == .sum, image: images.image)
                return try FusedEmbeddings(
                    raw: Embeddings(raw.plain, dimension: 32),
                    mirrored: raw.mirrored.map { Embeddings($0, dimension: 32) }, fusion: flip
                ).unit
            }
            let (gallery, probes) = (try unit(set.gallery), try unit(set.probes))
            var found = 0
            for probe in 0..<probes.count {
                let nearest = (0..<gallery.count).max {
                    probes.similarity(probe, gallery, $0) < probes.similarity(probe, gallery, $1)
                }!
                if set.galleryLabels[nearest] == set.probeLabels[probe] { found += 1 }
            }
            #expect(group.rates[0].found == found)
        }
    }

    @Test func groupsHaveFiguresOfTheirOwn() throws {
        let folder = try TemporaryFolder()
        for person in 1...3 {
            try folder.write("00\(person)_frontal.png", try face(person, 0))
            // From near by it is the mugshot itself.
            try folder.write("00\(person)_cam1_3.png", try face(person, 0))
            try folder.write("00\(person)_cam2_1.png", try face(person % 3 + 1, 0))
        }
        let set = try IdentificationSet.scFace(folder.path)
        let report = try onRanks(2) { embedder, communicator in
            try embedder.identify(
                set, ranks: [1],
                facts: IdentificationFacts(
                    dataset: "sc", rules: "scface", selection: set.selection, flip: .sum, embeddings: "w"),
                communicator: communicator)
        }
        #expect(report.groups.map(\.name) == ["4.2 m", "1.0 m"])
        #expect(set.notes == ["there is no probe at 2.6 m"])
        #expect(report.groups.map { $0.rates[0].rate } == [0, 1])
        #expect(report.groups[1].meanAveragePrecision == 1)
    }

    @Test func unreadableImagesAreNamed() throws {
        let folder = try tinyFace()
        try folder.write("Gallery_Match/3_1.png", Array("text".utf8))
        let set = try IdentificationSet.tinyFace(folder.path)
        let failures = try InProcessGroup.run(ranks: 2) { communicator in
            let failure = #expect(throws: RunFailure.self) {
                try self.embedder().identify(set, ranks: [1], facts: self.facts(.sum), communicator: communicator)
            }
            return failure
        }
        for failure in failures {
            #expect(failure?.exitCode == ExitCode.badData && failure?.message.contains("Gallery_Match/3_1.png") == true)
        }
    }

    // MARK: - Resolutions

    private func section(
        _ folder: TemporaryFolder, _ pairs: String, size: Int?, _ sides: PairSetSection.Sides, kernel: String?
    ) -> PairSetSection {
        var section = PairSetSection()
        section.name = size.map { "faces@\($0)" } ?? "faces"
        section.path = folder.path
        section.pairs = pairs
        section.degrade = size.map { "\($0)" }
        section.sides = sides
        if size != nil { (section.down, section.up) = (kernel, kernel) }
        return section
    }

    private func figures(_ report: VerificationReport) -> [Double] {
        [
            report.accuracy.mean, report.accuracy.deviation, report.exactAccuracy.mean, report.equalErrorRate,
            report.areaUnderCurve, report.meanNorm ?? -1,
        ] + report.tar.map(\.rate)
    }

    /// A sweep is the evaluation of one degraded set after the other, on any number of ranks.
    @Test(arguments: [(.first, "bilinear"), (.one, nil), (.both, "linear")] as [(PairSetSection.Sides, String?)])
    func aSweepIsOneSetAfterTheOther(_ sides: PairSetSection.Sides, _ kernel: String?) throws {
        let folder = try TemporaryFolder()
        let pairs = try FaceFiles.pairs(in: folder, people: 5)
        let sizes = [112, 16, 8]
        let plain = section(folder, pairs, size: nil, sides, kernel: kernel)
        var kernels = plain
        (kernels.down, kernels.up) = (kernel, kernel)
        let sweep = ResolutionSweep(
            try VerificationSets.open(plain), sizes: sizes, sides: VerificationSets.sides(kernels),
            kernels: try VerificationSets.kernels(kernels))
        let base = try VerificationSets.open(plain).imageCount
        // What is not reduced is embedded once for all sizes.
        #expect(sides == .both ? sweep.imageCount == 3 * base : sweep.imageCount < 3 * base)
        let reports = try [1, 3].map { ranks in
            try onRanks(ranks) { embedder, communicator in
                try embedder.verify(sweep, flip: .sum, communicator: communicator)
            }
        }
        for (index, size) in sizes.enumerated() {
            let one = section(folder, pairs, size: size == 112 ? nil : size, sides, kernel: kernel)
            let set = try VerificationSets.open(one)
            let alone = try onRanks(1) { embedder, communicator in
                try embedder.verify(set, flip: .sum, communicator: communicator)
            }
            for several in reports {
                let report = several[index]
                #expect(report.facts.dataset == "faces@\(size)" && report.facts.degradation == alone.facts.degradation)
                #expect(report.pairs == 40 && report.foldRule == alone.foldRule && report.foldSizes == alone.foldSizes)
                let differences = zip(figures(report), figures(alone)).map { abs($0 - $1) }
                #expect(differences.allSatisfy { $0 < 1e-5 }, "\(size): \(differences)")
            }
        }
        let norms = reports[0].compactMap(\.meanNorm)
        #expect(Set(norms).count == 3, "\(norms)")
        let words = reports[0].map(\.facts.degradation)
        #expect(words[0] == "none" && words[1].hasPrefix("16 px"))
        #expect(words[2].contains("down") == (kernel != nil))
    }

    @Test func kernelsAreChecked() throws {
        var section = PairSetSection()
        section.name = "set"
        section.path = "a.bin"
        section.degrade = "16"
        section.down = "smooth"
        let kernel = #expect(throws: TrainingError.self) { try VerificationSets.variant(section) }
        #expect(kernel?.description.contains("no kernel 'smooth'; there are nearest, box") == true)
        section.down = nil
        section.up = "linear"
        section.sides = .first
        #expect(
            try VerificationSets.variant(section)
                == .reduced(side: 16, .first, kernels: .init(down: .box, up: .linear)))
        section.degrade = "table.tsv"
        let table = #expect(throws: TrainingError.self) { try VerificationSets.variant(section) }
        #expect(table?.description.contains("go with a side in pixels") == true)
    }
}
