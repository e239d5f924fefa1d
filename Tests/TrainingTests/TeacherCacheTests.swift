import Artifacts
import FaceData
import Foundation
import Recipes
import Testing
import Training

/// The teacher's embeddings in a file (`objectives.ccface.teacher_cache`).
@Suite(.serialized) struct TeacherCacheTests {
    static let uses = [
        "", ", targets: soft", ", margin_source: teacher_high", ", margin_source: agreement",
        ", margin_source: student, targets: soft",
    ]

    /// A run that takes embeddings from the file learns what one learns that computes them. Several epochs, mirrored images.
    @Test(arguments: uses)
    func isTheSameAsTheTeacher(_ use: String) throws {
        let folder = try TemporaryFolder()
        let base = try TinyRun.base(folder)
        func losses(_ name: String, ranks: Int, cache: String?) throws -> [Double] {
            let recipe = try TinyRun.fineTuning(
                base, folder.file(name), steps: 6,
                "{ccface: {queue: 20\(use)\(cache.map { ", teacher_cache: \($0)" } ?? "")}}"
            ) {
                // What a last bit makes of itself in six large steps is another matter.
                $0.optimizer.learningRate = 1e-7
            }
            try TinyRun.train(recipe, ranks: ranks)
            return try TinyRun.events(recipe).filter { $0["event"] as? String == "step" }
                .compactMap { $0["loss"] as? Double }
        }
        let file = folder.file("teacher.safetensors")
        let expected = try losses("computed", ranks: 2, cache: nil)
        #expect(expected.count == 6)
        for (name, ranks) in [("made", 2), ("used", 2), ("more", 3)] {
            let found = try losses(name, ranks: ranks, cache: file)
            // Another number of ranks has other batches, and with them other batch statistics.
            for (a, b) in zip(found, expected) where ranks == 2 { #expect(abs(a - b) < 1e-5 * abs(b), "\(name)") }
            #expect(found.count == 6)
        }
    }

    /// Whole batches go to a rank, so that the file's bits do not depend on how many there are; nothing else is left.
    @Test func theFileIsTheSameOnAnyNumberOfRanks() throws {
        let folder = try TemporaryFolder()
        let base = try TinyRun.base(folder)
        var files: [Data] = []
        for ranks in 1...3 {
            let file = folder.file("cache-\(ranks).safetensors")
            let recipe = try TinyRun.fineTuning(
                base, folder.file("run-\(ranks)"), "{ccface: {queue: 20, teacher_cache: \(file)}}"
            ) { $0.evaluation.batch = 5 }
            try TinyRun.train(recipe, ranks: ranks)
            files.append(try Data(contentsOf: URL(filePath: file)))
        }
        #expect(files[0] == files[1] && files[0] == files[2])
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasPrefix("cache") }
        #expect(names.sorted() == (1...3).map { "cache-\($0).safetensors" })
    }

    @Test func anothersFileIsRefused() throws {
        let folder = try TemporaryFolder()
        let base = try TinyRun.base(folder)
        let file = folder.file("cache.safetensors")
        func recipe(_ name: String, _ change: (inout Recipe) -> Void = { _ in }) throws -> Recipe {
            try TinyRun.fineTuning(
                base, folder.file(name), "{ccface: {queue: 20, teacher_cache: \(file), freeze_centres: false}}", change)
        }
        try TinyRun.train(recipe("first"), ranks: 2)
        let cases: [(String, (inout Recipe) -> Void)] = [
            ("another data", { $0.data.synthetic.firstIdentity = 3 }),
            ("another precision", { $0.compute.precision = .bf16 }),
        ]
        for (index, (text, change)) in cases.enumerated() {
            for failure in try TinyRun.failures(recipe("other-\(index)", change), ranks: 2) {
                #expect(failure?.exitCode == 65 && failure?.message.contains(text) == true, "\(String(describing: failure))")
            }
        }
        try Data("not a safetensors file".utf8).write(to: URL(filePath: file))
        for failure in try TinyRun.failures(recipe("damaged"), ranks: 2) { #expect(failure?.exitCode == 65) }
    }

    /// Other images under the same names: embeddings tell, of a teacher whose statistics have seen some.
    @Test func imagesThatHaveChangedAreRefused() throws {
        let folder = try TemporaryFolder()
        let base = try TinyRun.base(folder, steps: 40)
        let file = folder.file("cache.safetensors")
        func recipe(_ name: String, variation: Double) throws -> Recipe {
            try TinyRun.fineTuning(base, folder.file(name), "{ccface: {queue: 20, teacher_cache: \(file)}}") {
                $0.data.synthetic.variation = variation
            }
        }
        try TinyRun.train(recipe("first", variation: 1), ranks: 2)
        try TinyRun.train(recipe("again", variation: 1), ranks: 3)
        for failure in try TinyRun.failures(recipe("changed", variation: 1.5), ranks: 2) {
            #expect(
                failure?.exitCode == 65 && failure?.message.contains("another one now") == true,
                "\(String(describing: failure))")
        }
    }

    /// They are said, and bounded like those that training meets.
    @Test func imagesThatCannotBeReadAreCounted() throws {
        let folder = try TemporaryFolder()
        let list = try FaceFiles.list(in: folder, count: 12, identities: 3, damaged: [4, 7])
        let base = TinyRun.recipe(folder.file("base")) {
            $0.data.train = list
            $0.head = TinyRun.head("{margin: arcface, scale: 16}")
            $0.schedule.maxSteps = 1
        }
        try TinyRun.train(base, ranks: 1)
        func recipe(_ name: String, limit: Int) throws -> Recipe {
            try TinyRun.fineTuning(
                base, folder.file(name), "{ccface: {queue: 8, teacher_cache: \(folder.file(name + ".safetensors"))}}"
            ) {
                $0.data.train = list
                $0.data.quarantineLimit = limit
            }
        }
        for failure in try TinyRun.failures(recipe("few", limit: 1), ranks: 2) {
            #expect(failure?.exitCode == 65, "\(String(describing: failure))")
        }
        #expect(!FileManager.default.fileExists(atPath: folder.file("few.safetensors")))
        let outcome = try TinyRun.train(recipe("enough", limit: 2), ranks: 2)
        #expect(outcome.log.warnings.contains { $0.contains("enough.safetensors: 2 of 12 images cannot be read") })
    }

    @Test func imagesThatAreAugmentedAreRefused() throws {
        let recipe = try Recipe(
            files: [],
            overrides: [
                "objectives={ccface: {teacher_cache: c}}", "init={head: a, weights: b}", "data.augment.recipe=adaface",
            ])
        #expect { try RunSetup.demand(recipe) } throws: { "\($0)".contains("data.augment") }
    }

    /// A signal while the file is made: it is not there, and the run says so.
    @Test func aSignalLeavesNothingBehind() throws {
        let folder = try TemporaryFolder()
        let base = try TinyRun.base(folder)
        let file = folder.file("cache.safetensors")
        let recipe = try TinyRun.fineTuning(
            base, folder.file("run"), "{ccface: {queue: 20, teacher_cache: \(file)}}")
        for failure in try TinyRun.failures(recipe, ranks: 2, stop: { $0 == 1 }) {
            #expect(failure?.exitCode == 75, "\(String(describing: failure))")
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasPrefix("cache") }.isEmpty)
    }
}
