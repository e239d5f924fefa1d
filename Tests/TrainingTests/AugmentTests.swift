import FaceData
import Foundation
import Recipes
import Tensors
import Testing
import Training

/// What `data.augment` does to a run.
@Suite(.serialized) struct AugmentTests {
    private func section(_ yaml: String) throws -> AugmentSection {
        try Recipe(files: [], overrides: ["data.augment=\(yaml)"]).data.augment
    }

    private func degradation(_ operation: String) throws -> DegradationRecipe {
        try #require(RunSetup.degradation(section("{pipeline: [\(operation)]}")))
    }

    @Test func recipesMeanTheNamedOnes() throws {
        #expect(RunSetup.degradation(AugmentSection()) == nil)
        for name in AugmentSection.Name.allCases where name != .none {
            #expect(RunSetup.degradation(AugmentSection(name)) == DegradationRecipe.named(name.rawValue))
        }
        #expect(AugmentSection.Name.allCases.count == DegradationRecipe.all.count + 1)
    }

    @Test func theSameNamesOnBothSides() throws {
        #expect(AugmentOperator.kernels.sorted() == ResizeKernel.allCases.map(\.rawValue).sorted())
        #expect(
            AugmentOperator.Fill.allCases.map(\.rawValue) == DegradationOperator.Fill.allCases.map(\.rawValue))
        for name in AugmentOperator.Name.allCases {
            let text = name == .reduce ? "{op: reduce, side: 20}" : "{op: \(name.rawValue), p: 0.5}"
            let recipe = try degradation(text)
            #expect(recipe.stages.count == 1 && recipe.stages[0].operation.name == name.rawValue)
            #expect(recipe.stages[0].probability == (name == .reduce ? 1 : 0.5))
        }
    }

    @Test func parametersArrive() throws {
        let cases: [(String, DegradationOperator)] = [
            (
                "{op: reduce, side: [16, 56], down: [area, linear], up: [cubic], jpeg: [60, 95], jpeg_p: 0.5}",
                .reduce(
                    .init(
                        side: .pixels(16...56), down: [.area, .linear], up: [.cubic], quality: 60...95,
                        qualityProbability: 0.5))
            ),
            (
                "{op: reduce, scale: [0.1, 0.5]}",
                .reduce(.init(side: .share(0.1...0.5), down: [.area], up: [.cubic]))
            ),
            (
                "{op: reduce, sides: [7, 14], up: [lanczos3]}",
                .reduce(.init(side: .choice([7, 14]), down: [.area], up: [.lanczos3]))
            ),
            ("{op: blur, sigma: 2}", .blur(sigma: 2...2)),
            ("{op: motion, length: [3, 5], angle: 45}", .motion(length: 3...5, angle: 45...45)),
            ("{op: jpeg, quality: [10, 20]}", .jpeg(quality: 10...20)),
            (
                "{op: jitter, brightness: 0.1, contrast: 0.2, saturation: 0.3}",
                .jitter(brightness: 0.1, contrast: 0.2, saturation: 0.3)
            ),
            ("{op: crop, area: [0.5, 1], aspect: 1}", .crop(area: 0.5...1, aspect: 1...1, resized: .bilinear)),
            ("{op: crop, resize: false}", .crop(area: 0.2...1, aspect: 0.75...1.333, resized: nil)),
            (
                "{op: occlude, area: 0.1, fill: mean}", .occlude(area: 0.1...0.1, aspect: 0.3...3.3, fill: .mean)
            ),
            ("{op: rotate, angle: [-45, 45]}", .rotate(angle: -45...45)),
        ]
        for (text, expected) in cases {
            #expect(try degradation(text).stages.map(\.operation) == [expected], "\(text)")
        }
    }

    /// The first loss tells whether the network saw other images; evaluation never does.
    @Test func trainingSeesItAndEvaluationDoesNot() throws {
        let folder = try TemporaryFolder()
        let pairs = try FaceFiles.pairs(in: folder, people: 5)
        func run(_ name: String, _ augment: AugmentSection) throws -> (
            losses: [Double], log: [String], accuracy: Double
        ) {
            let recipe = TinyRun.recipe(folder.file(name)) {
                $0.data.augment = augment
                $0.schedule.maxSteps = 2
                $0.evaluation.atStart = true
            }
            var evaluated = recipe
            var set = PairSetSection()
            set.name = "pairs"
            set.path = folder.path
            set.pairs = pairs
            evaluated.evaluation.sets = [set]
            let outcome = try TinyRun.train(evaluated, ranks: 2)
            let events = try TinyRun.events(evaluated)
            let accuracy = events.first { $0["event"] as? String == "evaluation" }?["auc"] as? Double
            return (events.compactMap { $0["loss"] as? Double }, outcome.log.all, try #require(accuracy))
        }
        let plain = try run("plain", AugmentSection())
        let again = try run("again", AugmentSection())
        let degraded = try run("degraded", AugmentSection(.qgface))
        #expect(plain.losses == again.losses && plain.losses.count == 2)
        #expect(plain.losses != degraded.losses)
        #expect(plain.accuracy == degraded.accuracy)
        #expect(!plain.log.contains { $0.contains("augmentation") })
        #expect(
            degraded.log.contains {
                $0 == "augmentation qgface: reduce, crop (p 0.2), jitter (p 0.2), rotate (p 0.2)"
            })
    }

    @Test func aResumedRunIsTheSame() throws {
        let folder = try TemporaryFolder()
        func recipe(_ name: String, steps: Int) throws -> Recipe {
            let augment = try section("{pipeline: [{op: reduce, side: [16, 56], p: 0.5}, {op: noise, p: 0.5}]}")
            return TinyRun.recipe(folder.file(name)) {
                $0.data.augment = augment
                $0.schedule.maxSteps = steps
            }
        }
        try TinyRun.train(recipe("whole", steps: 5), ranks: 2)
        try TinyRun.train(recipe("parts", steps: 2), ranks: 2)
        try TinyRun.train(recipe("parts", steps: 5), ranks: 2, resume: true)
        let whole = try TinyRun.files(recipe("whole", steps: 5), step: 5)
        let parts = try TinyRun.files(recipe("parts", steps: 5), step: 5)
        #expect(TinyRun.differences(whole, parts).isEmpty)
    }

    /// The preview shows what the loader gives for the same record and epoch.
    @Test func aPreviewIsWhatTheLoaderGives() throws {
        var recipe = Recipe()
        recipe.data.synthetic.identities = 6
        recipe.data.synthetic.imagesPerIdentity = 3
        recipe.data.augment = AugmentSection(.qgface)
        recipe.data.channelOrder = .bgr
        recipe.network.input = [112, 96]
        let source = try RunSetup.source(recipe.data)
        let options = RunSetup.loaderOptions(recipe)
        let sampler = try EpochSampler(recordCount: 18, globalBatch: 6, seed: options.seed)
        let loader = BatchLoader(source: source, sampler: sampler, position: 18, options: options)
        let batch = try loader.next()
        #expect(batch.epoch == 1)
        let preview = try BatchPreview(of: source, batch.records.map { (record: $0, epoch: 1) }, options: options)
        let same = Array(preview.images.floats) == Array(batch.images.floats)
        #expect(same)
        #expect(preview.labels == batch.labels && preview.records == batch.records)

        let pictures = BatchPictures.images(preview.images, 0..<6, options.preprocessing)
        let planes = BatchPictures.images(preview.images, 0..<6, options.preprocessing, planes: true)
        for (row, record) in batch.records.enumerated() {
            let context = ViewContext(seed: options.seed, record: record, epoch: 1, view: 0)
            var random = context.random(.degradation)
            let degraded = DegradationRecipe.qgFace.apply(
                to: try source.image(at: record), &random, scratch: ImageScratch())
            // The 96 columns in the middle, perhaps mirrored, byte for byte.
            let seen = degraded.cropped(x: 8, y: 0, width: 96, height: 112)
            let isStraight = pictures[row] == seen
            #expect(isStraight || pictures[row] == mirrored(seen))
            // Planes as they are: blue comes first.
            #expect(
                planes[row].pixels[0] == pictures[row].pixels[2] && planes[row].pixels[1] == pictures[row].pixels[1])
        }
    }

    /// An objective that compares resolutions has the record untouched and its degraded copy; one that teaches, another image.
    @Test func objectivesAskForViews() throws {
        func views(_ overrides: String...) throws -> (recipe: Recipe, views: [View]) {
            let recipe = try Recipe(files: [], overrides: overrides)
            return (recipe, RunSetup.views(recipe))
        }
        let (plain, one) = try views("objectives.cr_fiqa.weight=10")
        #expect(one.count == 1 && one[0].transform == nil)
        #expect(RunSetup.augmentation(plain) == nil)
        let (low, two) = try views("objectives.ccface={}", "init.head=base")
        #expect(two.count == 2 && two[0].transform == nil && two[1].transform != nil && !two[1].flipsAlone)
        #expect(RunSetup.augmentation(low, inFull: false) == "degraded copies ccface")
        let (gated, own) = try views("objectives.qgface={}", "data.degraded.recipe=adaface")
        #expect(own.count == 2 && own[1].flipsAlone)
        #expect(RunSetup.augmentation(gated, inFull: false) == "degraded copies adaface")
        let (_, all) = try views(
            "objectives.qgface={}", "objectives.ccface={margin_source: head, freeze_centres: false}",
            "objectives.qsd={qualities: q.tsv}", "data.augment.recipe=adaface")
        #expect(all.count == 3 && all[0].transform != nil && !all[1].flipsAlone)
        #expect(all[2].subject == .partner && all[2].transform != nil)
        #expect(throws: RecipeError.self) { try views("data.degraded.recipe=adaface") }
    }

    private func mirrored(_ image: RGBImage) -> RGBImage {
        var result = image
        for y in 0..<image.height {
            for x in 0..<image.width {
                for channel in 0..<3 {
                    result.pixels[3 * (y * image.width + x) + channel] =
                        image.pixels[3 * (y * image.width + image.width - 1 - x) + channel]
                }
            }
        }
        return result
    }
}
