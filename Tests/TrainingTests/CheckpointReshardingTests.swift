import Artifacts
import Foundation
import Objectives
import Recipes
import Testing
import Training

/// Writing a checkpoint for another number of ranks, against a run that is taken over by as many.
@Suite(.serialized) struct CheckpointReshardingTests {
    private func reshard(_ recipe: Recipe, step: Int, ranks: Int, to folder: String) throws {
        let checkpoint = try TinyRun.checkpoint(recipe, step: step)
        let store = CheckpointStore(runFolder: folder)
        let committed = try CheckpointResharding(checkpoint, ranks: ranks).write(to: store)
        #expect(committed.name.step == step && committed.warnings.isEmpty)
        let written = try store.open().checkpoint
        #expect(written.manifest.worldSize == ranks && written.manifest.configHash == checkpoint.manifest.configHash)
    }

    @Test(arguments: [(1, 3), (2, 4), (3, 1), (4, 2), (4, 9)])
    func itIsWhatThatManyRanksWouldHaveWritten(_ from: Int, _ to: Int) throws {
        let folder = try TemporaryFolder()
        let head = TinyRun.head("{margin: softmax, bias: true}")
        let original = TinyRun.recipe(folder.file("original")) {
            $0.head = head
            $0.schedule.maxSteps = 2
        }
        try TinyRun.train(original, ranks: from)
        try reshard(original, step: 2, ranks: to, to: folder.file("resharded"))
        let resharded = TinyRun.recipe(folder.file("resharded"))
        let written = try TinyRun.files(resharded, step: 2)
        #expect(written.count == 4 + 2 * to)
        // Back again, nothing but the running statistics has changed: they are their average.
        try reshard(resharded, step: 2, ranks: from, to: folder.file("back"))
        let back = try TinyRun.files(TinyRun.recipe(folder.file("back")), step: 2)
        let changed = TinyRun.differences(try TinyRun.files(original, step: 2), back)
        #expect(changed.allSatisfy { $0.hasPrefix("statistics") } && changed.isEmpty == (from == 1))
        // Nine ranks do not divide twelve images.
        guard to != 9 else { return }
        try FileManager.default.copyItem(atPath: original.run.folder, toPath: folder.file("taken"))
        let taken = TinyRun.recipe(folder.file("taken")) {
            $0.head = head
            $0.schedule.maxSteps = 2
        }
        try TinyRun.train(taken, ranks: to, resume: true)
        #expect(TinyRun.differences(written, try TinyRun.files(taken, step: 2, revision: 2)).isEmpty)
    }

    /// A queue of embeddings, of which each rank keeps those of its classes: it is what it was, whoever has it, and the next
    /// update is the same.
    @Test(arguments: [(2, 3), (3, 2)]) func queuesAreDivided(_ from: Int, _ to: Int) throws {
        let folder = try TemporaryFolder()
        let parsed = try Recipe(
            files: [],
            overrides: ["objectives.qgface={}", "data.degraded.recipe=adaface", "head={margin: adaface, scale: 16}"])
        func recipe(_ name: String, steps: Int) -> Recipe {
            TinyRun.recipe(folder.file(name)) {
                $0.objectives = parsed.objectives
                $0.data.degraded = parsed.data.degraded
                $0.head = parsed.head
                $0.schedule.maxSteps = steps
            }
        }
        let saved = try queues(ofRun: recipe("original", steps: 2), ranks: from)
        #expect(saved.entries.map(\.number) == Array(0..<48) && saved.total == 48)
        // Centres move: an entry has that of its own step.
        let proxies = Set(saved.entries.map { "\($0.label) \($0.proxy)" })
        #expect(proxies.count > Set(saved.entries.map(\.label)).count)
        try reshard(recipe("original", steps: 2), step: 2, ranks: to, to: folder.file("resharded"))
        for name in ["original", "resharded"] {
            #expect(try QueueContents(TinyRun.checkpoint(recipe(name, steps: 2), step: 2)) == saved, "\(name)")
            try check(saved, in: recipe(name, steps: 3), ranks: to)
        }
        let files = try TinyRun.files(recipe("original", steps: 3), step: 3)
        #expect(files.keys.contains { $0.hasPrefix("qgface-") }, "\(files.keys.sorted())")
        #expect(TinyRun.differences(files, try TinyRun.files(recipe("resharded", steps: 3), step: 3)).isEmpty)
    }

    /// CCFace's queue, which every rank has and the first one writes.
    @Test(arguments: [(2, 3), (3, 1)]) func aQueueOfEveryRankGoesAlong(_ from: Int, _ to: Int) throws {
        let folder = try TemporaryFolder()
        let base = try TinyRun.base(folder)
        func recipe(_ name: String, steps: Int) throws -> Recipe {
            try TinyRun.fineTuning(base, folder.file(name), steps: steps, "{ccface: {queue: 20}}")
        }
        let saved = try queues(ofRun: recipe("original", steps: 2), ranks: from)
        #expect(saved.ring?.labels.count == 20 && saved.ring?.next == 4)
        try reshard(recipe("original", steps: 2), step: 2, ranks: to, to: folder.file("resharded"))
        for name in ["original", "resharded"] {
            #expect(try QueueContents(TinyRun.checkpoint(recipe(name, steps: 2), step: 2)) == saved, "\(name)")
            try check(saved, in: recipe(name, steps: 3), ranks: to)
        }
        let files = try TinyRun.files(recipe("original", steps: 3), step: 3)
        #expect(TinyRun.differences(files, try TinyRun.files(recipe("resharded", steps: 3), step: 3)).isEmpty)
    }

    /// What all ranks of a new run have in their queues at its end.
    private func queues(ofRun recipe: Recipe, ranks: Int) throws -> QueueContents {
        QueueContents(
            ranks: try TinyRun.onRanks(recipe, ranks: ranks) { trainer, _ in
                _ = try trainer.run()
                return QueueContents(trainer)
            })
    }

    /// Resumes a run, each rank of which must have the entries of its classes, all of them together what was saved.
    private func check(_ saved: QueueContents, in recipe: Recipe, ranks: Int) throws {
        let taken = try TinyRun.onRanks(recipe, ranks: ranks, resume: true) { trainer, _ in
            let (queues, classes) = (QueueContents(trainer), trainer.head.classifier.classRange)
            _ = try trainer.run()
            return (queues, classes)
        }
        #expect(QueueContents(ranks: taken.map(\.0)) == saved, "\(recipe.run.folder)")
        for (queues, classes) in taken { #expect(queues.entries.allSatisfy { classes.contains($0.label) }) }
    }

    /// The encoder of the keys: rank 0 has all of it, the others their statistics, which start from rank 0's.
    @Test(arguments: [(2, 3), (3, 2), (1, 2)]) func theSecondEncoderGoesAlong(_ from: Int, _ to: Int) throws {
        let folder = try TemporaryFolder()
        let parsed = try Recipe(
            files: [],
            overrides: [
                "objectives.qgface={keys: momentum, compared: low, correction: none, queue: 50}",
                "head={margin: adaface, scale: 16}",
            ])
        func recipe(_ name: String, steps: Int) -> Recipe {
            TinyRun.recipe(folder.file(name)) {
                $0.objectives = parsed.objectives
                $0.head = parsed.head
                $0.schedule.maxSteps = steps
            }
        }
        let saved = try queues(ofRun: recipe("original", steps: 2), ranks: from)
        // Keys alone.
        #expect(saved.entries.map(\.number) == Array(0..<24))
        try reshard(recipe("original", steps: 2), step: 2, ranks: to, to: folder.file("resharded"))
        for name in ["original", "resharded"] { try check(saved, in: recipe(name, steps: 3), ranks: to) }
        let files = try TinyRun.files(recipe("original", steps: 3), step: 3)
        #expect(files.keys.contains { $0.hasPrefix("follower-") }, "\(files.keys.sorted())")
        #expect(TinyRun.differences(files, try TinyRun.files(recipe("resharded", steps: 3), step: 3)).isEmpty)
    }

    @Test func aCheckpointOfSomethingElseIsRefused() throws {
        let folder = try TemporaryFolder()
        let store = CheckpointStore(runFolder: folder.path)
        _ = try store.save(step: 1, configHash: "", retention: RetentionPolicy(keepLast: 1)) { files in
            try files.addState(["a": 1])
        }
        #expect(throws: ArtifactError.self) { try CheckpointResharding(store.open().checkpoint, ranks: 2) }
    }
}
