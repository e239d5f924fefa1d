import Artifacts
import FaceData
import Foundation
import Recipes
import Testing
import Training

/// Whole runs on several sources, in other orders: resumed as if nothing had been, whatever the number of ranks.
@Suite(.serialized) struct DataOrderTests {
    /// Two lists of 24 and 12 images, whose identities 0 to 3 are the same people where labels are shared.
    private func lists(_ folder: TemporaryFolder) throws -> [String] {
        try [(24, 6), (12, 4)].enumerated().map { number, size in
            let part = try TemporaryFolder()
            let list = try FaceFiles.list(in: part, count: size.0, identities: size.1)
            let target = folder.file("source\(number)")
            try FileManager.default.moveItem(atPath: part.path, toPath: target)
            return target + "/" + list.split(separator: "/").last!
        }
    }

    private func recipe(_ folder: TemporaryFolder, _ name: String, _ data: String, steps: Int) throws -> Recipe {
        let lists =
            try FileManager.default.fileExists(atPath: folder.file("source0"))
            ? ["source0", "source1"].map { folder.file($0) + "/faces.tsv" } : lists(folder)
        let text = data.replacing("ONE", with: lists[0]).replacing("TWO", with: lists[1])
        let read = try Recipe(files: [], overrides: ["data=\(text)", "batch.global=12"])
        return TinyRun.recipe(folder.file(name)) {
            $0.data = read.data
            $0.schedule.maxSteps = steps
            $0.checkpoint.everySteps = 1
        }
    }

    private static let data = [
        "{train: [{path: ONE, weight: 0.5}, {path: TWO, weight: 2, name: b}], shuffle: chunks, chunk: 5, open_chunks: 2}",
        "{train: [{path: ONE, labels: shared, name: a}, {path: TWO, labels: shared, name: b}], shuffle: none}",
        "{train: ONE, sampling: identities, images_per_identity: 2}",
    ]

    @Test(arguments: data) func resumedRunsAreTheUninterruptedOne(_ data: String) throws {
        let folder = try TemporaryFolder()
        let whole = try recipe(folder, "whole", data, steps: 7)
        try TinyRun.train(whole, ranks: 2)
        for steps in [2, 5, 7] {
            try TinyRun.train(recipe(folder, "parts", data, steps: steps), ranks: 2, resume: steps > 2)
        }
        let parts = try recipe(folder, "parts", data, steps: 7)
        for step in [2, 5, 7] {
            let expected = try TinyRun.files(whole, step: step)
            #expect(TinyRun.differences(expected, try TinyRun.files(parts, step: step)).isEmpty)
        }
    }

    @Test func sourcesAreCountedAndDescribed() throws {
        let folder = try TemporaryFolder()
        let weighted = try recipe(
            folder, "weighted", "{train: [{path: ONE, weight: 0.5}, {path: TWO, weight: 2, name: b}]}", steps: 1)
        let run = try TinyRun.train(weighted, ranks: 1)
        #expect(run.log.all.contains { $0.contains("36 images of 10 identities") })
        #expect(run.log.all.contains { $0.contains("source b: 12 images, weight 2.0, labels separate") })
        #expect(run.log.all.contains { $0.contains("36 images per epoch") } == false)
        let shared = try recipe(folder, "shared", Self.data[1], steps: 1)
        let joined = try TinyRun.train(shared, ranks: 2)
        #expect(joined.log.all.contains { $0.contains("36 images of 6 identities") })
        #expect(joined.log.warnings.contains { $0.contains("4 identities of a, b have the names of others") })
    }

    @Test func namesOfSourcesMustDiffer() throws {
        let folder = try TemporaryFolder()
        let twice = try recipe(folder, "twice", "{train: [{path: ONE, name: x}, {path: TWO, name: x}]}", steps: 1)
        let failures = try TinyRun.failures(twice, ranks: 2)
        #expect(
            failures.allSatisfy { $0?.message.contains("two sources are called 'x'") == true && $0?.exitCode == 65 })
    }

    @Test func anExclusionListAppliesAtOpening() throws {
        let folder = try TemporaryFolder()
        try folder.write("out.txt", Array("# people of the test set\n3\n0.png\nnobody\n".utf8))
        let recipe = try recipe(folder, "run", "{train: ONE, exclude: \(folder.file("out.txt"))}", steps: 1)
        let run = try TinyRun.train(recipe, ranks: 1)
        #expect(run.log.all.contains { $0.contains("19 images of 5 identities") })
        #expect(
            run.log.warnings.contains { $0.contains("leaves out 1 identities and 1 single images: 5 images in all") })
        #expect(run.log.warnings.contains { $0.contains("1 names of") && $0.contains("nobody") })
    }

    @Test func oneRankRebuildsAMissingIndexForAll() throws {
        let folder = try TemporaryFolder()
        let list = try recipe(folder, "unused", "{train: ONE}", steps: 1).data.train
        _ = try RecordPacker.pack(ListSource(list), to: folder.file("train"), layout: .insightface)
        let index = try String(contentsOfFile: folder.file("train.idx"), encoding: .utf8)
        try FileManager.default.removeItem(atPath: folder.file("train.idx"))
        let recipe = try recipe(folder, "run", "{train: \(folder.file("train.rec"))}", steps: 2)
        let run = try TinyRun.train(recipe, ranks: 3)
        #expect(run.log.all.filter { $0.contains("an index is missing") }.count == 1)
        #expect(run.log.warnings.filter { $0.contains("rebuilt from the records and written") }.count == 1)
        #expect(try String(contentsOfFile: folder.file("train.idx"), encoding: .utf8) == index)
    }
}
