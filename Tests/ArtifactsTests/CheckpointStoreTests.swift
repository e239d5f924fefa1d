import Artifacts
import Tensors
import Testing

@Suite struct CheckpointStoreTests {
    private let disk = SimulatedDisk()
    private let store: CheckpointStore
    private let folder = CheckpointFixture.run + "/checkpoints"

    init() { store = CheckpointStore(runFolder: CheckpointFixture.run, fileSystem: disk) }

    @Test func laysOutTheFolderAsDocumented() throws {
        let disk = disk
        let results = RankGroup.run(2) { try CheckpointFixture(12_000).save(disk, ranks: $0) }
        let committed = try results.map { try $0.get() }
        #expect(committed.map(\.name.description) == ["step-00012000", "step-00012000"])
        let files = [
            "head-00000-of-00002.safetensors", "head-00001-of-00002.safetensors", "manifest.json", "model.safetensors",
            "state.json",
        ]
        #expect(disk.tree() == [folder + "/latest"] + files.map { folder + "/step-00012000/" + $0 })
        let opened = try store.open()
        #expect(opened.warnings.isEmpty)
        try CheckpointFixture(12_000).check(opened.checkpoint)
        #expect(opened.checkpoint.manifest.worldSize == 2)
        #expect(opened.checkpoint.byteCount == committed[0].byteCount)
        let head = try opened.checkpoint.tensors("head-00001-of-00002.safetensors")
        #expect(head.metadata["acuity.rows.head/centres"] == "5,11,11")
        #expect(
            opened.checkpoint.shardedTensors == [
                "head/centres": TensorSpec("head/centres", [11, 3]),
                "head/momentum": TensorSpec("head/momentum", [11, 1]),
            ])
    }

    @Test func theManifestDoesNotDependOnTheTimeOfSaving() throws {
        try CheckpointFixture(1).save(disk)
        let first = try disk.openFile(folder + "/step-00000001/manifest.json")
        let other = SimulatedDisk()
        try CheckpointFixture(1).save(other)
        let second = try other.openFile(folder + "/step-00000001/manifest.json")
        #expect(try contents(first) == contents(second))
    }

    /// Each world size reads what each other one wrote: whole, by its own shards, and odd ranges.
    @Test func readsAnyRowsFromAnyNumberOfShards() throws {
        for written in [1, 2, 3, 4, 7, 13] {
            let disk = SimulatedDisk()
            let fixture = CheckpointFixture(written)
            _ = try RankGroup.run(written) { try fixture.save(disk, ranks: $0) }.map { try $0.get() }
            let checkpoint = try openLatest(disk).checkpoint
            for read in [1, 2, 3, 4, 7, 13] {
                for rank in 0..<read {
                    let rows = CheckpointFixture.rows(rank, of: read)
                    let centres = try checkpoint.readRows("head/centres", rows)
                    #expect(centres.shape == [rows.count, 3])
                    #expect(centres.values == fixture.centres(rows).values, "\(written) to \(read), rank \(rank)")
                }
            }
            #expect(try checkpoint.readRows("head/momentum", 3..<3).shape == [0, 1])
        }
    }

    /// Many stretches through files that stay open, into memory that is there.
    @Test func readsScatteredRowsIntoGivenMemory() throws {
        let disk = SimulatedDisk()
        let fixture = CheckpointFixture(6)
        _ = try RankGroup.run(3) { try fixture.save(disk, ranks: $0) }.map { try $0.get() }
        let rows = try openLatest(disk).checkpoint.rows(of: "head/centres")
        #expect(rows.spec.shape == [11, 3])
        let target = Tensor([11, 3])
        for row in [7, 0, 10, 3, 4, 1] { try rows.read(row..<row + 1, into: target.rows(row..<row + 1)) }
        try rows.read(5..<7, into: target.rows(5..<7))
        let expected = fixture.centres(0..<11).values
        for row in 0..<11 {
            let wanted = [2, 8, 9].contains(row) ? [0, 0, 0] : Array(expected[row * 3..<(row + 1) * 3])
            #expect(Array(target.values[row * 3..<(row + 1) * 3]) == wanted)
        }
        for wrong in [Tensor([2, 4]), Tensor([1, 3]), Tensor([2, 3], dtype: .float64)] {
            let error = try #require(try artifactError { try rows.read(0..<2, into: wrong) })
            guard case .incompatible = error else { throw error }
        }
    }

    @Test func textsAreKept() throws {
        let names = ["a \"quoted\"\n", "", "å", "synthetic-1", "a \"quoted\"\n"]
        _ = try CheckpointStore(runFolder: "/run", fileSystem: disk).save(
            step: 1, configHash: "", retention: RetentionPolicy(keepLast: 1)
        ) { files in
            try files.addTexts("names.json", count: names.count) { names[$0] }
            try files.addTexts("none.json", count: 0) { _ in "" }
            try files.addTexts("many.json", count: 200_000) { "name \($0)" }
        }
        let checkpoint = try CheckpointStore(runFolder: "/run", fileSystem: disk).open().checkpoint
        var read: [String] = []
        try checkpoint.texts("names.json") { index, text in
            #expect(index == read.count)
            read.append(text)
        }
        #expect(read == names)
        try checkpoint.texts("none.json") { _, text in Issue.record("found \(text)") }
        var count = 0
        try checkpoint.texts("many.json") { index, text in count += text == "name \(index)" ? 1 : 0 }
        #expect(count == 200_000)
        let error = try #require(try artifactError { try checkpoint.texts("others.json") { _, _ in } })
        guard case .missing = error else { throw error }
    }

    @Test func saysWhenRowsOrTensorsAreNotThere() throws {
        try CheckpointFixture(1).save(disk)
        let checkpoint = try store.open().checkpoint
        let rows = try #require(try artifactError { _ = try checkpoint.readRows("head/centres", 5..<12) })
        guard case .incompatible = rows else { throw rows }
        #expect("\(rows)".contains("11 rows") && "\(rows)".contains("5..<12"))
        let name = try #require(try artifactError { _ = try checkpoint.readRows("head/center", 0..<1) })
        #expect("\(name)".contains("'head/center'"))
        let file = try #require(try artifactError { _ = try checkpoint.tensors("../latest") })
        guard case .missing = file else { throw file }
        struct Other: Codable { var epoch: Int }
        let state = try #require(try artifactError { _ = try checkpoint.state(Other.self) })
        #expect("\(state)".contains("'epoch' is missing"))
    }

    @Test func withoutACheckpointThereIsAnErrorThatSaysSo() throws {
        let error = try #require(try artifactError { _ = try store.open() })
        #expect(error == .missing(path: folder, reason: "there is no checkpoint"))
        try CheckpointFixture(1).save(disk)
        let named = try #require(try artifactError { _ = try store.open(.named(CheckpointName(step: 2))) })
        #expect(named == .missing(path: folder + "/step-00000002", reason: "there is no such checkpoint folder"))
    }

    /// Any change of any byte of any file is found, named, and an older checkpoint taken.
    @Test func everyDamagedByteIsFound() throws {
        try CheckpointFixture(10).save(disk)
        try CheckpointFixture(20).save(disk)
        for path in disk.tree() where path.contains("step-00000020") {
            let size = try disk.openFile(path).byteCount
            for place in 0..<size {
                let damaged = disk.restarted(.nothing)
                try damaged.damage(path) { $0[place] ^= 1 << UInt8(place % 8) }
                let opened = try openLatest(damaged)
                #expect(opened.checkpoint.step == 10, "\(path) \(place)")
                #expect(opened.warnings.count == 1 && opened.warnings[0].contains(path), "\(opened.warnings)")
            }
        }
    }

    @Test func missingAndShortenedFilesAreFound() throws {
        let disk = disk
        _ = try RankGroup.run(3) { try CheckpointFixture(10).save(disk, ranks: $0) }.map { try $0.get() }
        _ = try RankGroup.run(3) { try CheckpointFixture(20).save(disk, ranks: $0) }.map { try $0.get() }
        for path in disk.tree() where path.contains("step-00000020") {
            for change in 0..<4 {
                let damaged = disk.restarted(.nothing)
                switch change {
                case 0: try damaged.removeFile(path)
                case 1: try damaged.damage(path) { $0 = [] }
                case 2: try damaged.damage(path) { $0.removeLast($0.count / 2) }
                default: try damaged.damage(path) { $0.append(0) }
                }
                for worldSize in [1, 2, 5] {
                    let opened = try RankGroup.run(worldSize) { ranks in
                        let store = CheckpointStore(runFolder: CheckpointFixture.run, fileSystem: damaged)
                        return try store.open(with: ranks)
                    }.map { try $0.get() }
                    #expect(opened.allSatisfy { $0.checkpoint.step == 10 })
                    #expect(opened[0].warnings.contains { $0.contains(path) }, "\(opened[0].warnings)")
                }
                let store = CheckpointStore(runFolder: CheckpointFixture.run, fileSystem: damaged)
                let error = try #require(
                    try artifactError { _ = try store.open(.named(CheckpointName(step: 20))) })
                #expect(error.path == path)
            }
        }
    }

    /// A save that ended between its steps, on a file system whose renames are not atomic or whose pointers run ahead.
    @Test func halfRenamedCheckpointsArePassedOver() throws {
        for step in [10, 20] { try CheckpointFixture(step).save(disk) }
        // All files are there, but under the temporary name.
        let unnamed = disk.restarted(.nothing)
        try unnamed.rename(folder + "/step-00000020", to: folder + "/.tmp-step-00000020")
        let first = try openLatest(unnamed)
        #expect(first.checkpoint.step == 10 && first.warnings.count == 1)
        #expect(first.warnings[0].contains("step-00000020'") && first.warnings[0].contains("no such checkpoint folder"))
        // The name is there, but nothing under it.
        let empty = disk.restarted(.nothing)
        try empty.rename(folder + "/step-00000020", to: folder + "/.tmp-removed-step-00000020")
        try empty.makeDirectory(folder + "/step-00000020")
        #expect(try openLatest(empty).checkpoint.step == 10)
        // Under the name of another step.
        let renamed = disk.restarted(.nothing)
        try renamed.rename(folder + "/step-00000020", to: folder + "/step-00000030")
        let third = try openLatest(renamed)
        #expect(third.checkpoint.step == 10)
        // No pointer: the newest sound one.
        let unpointed = disk.restarted(.nothing)
        try unpointed.removeFile(folder + "/latest")
        #expect(try openLatest(unpointed).checkpoint.step == 20)
        // A pointer that was cut short.
        let cut = disk.restarted(.nothing)
        try cut.damage(folder + "/latest") { $0 = Array("step-000".utf8) }
        let fifth = try openLatest(cut)
        #expect(fifth.checkpoint.step == 20 && fifth.warnings.count == 1)
        // Each is cleaned up by the next save, and a step can be taken again.
        for disk in [unnamed, empty, renamed, unpointed, cut] {
            try CheckpointFixture(40).save(disk)
            #expect(try openLatest(disk).checkpoint.step == 40)
            #expect(!disk.tree().contains { $0.contains(".tmp-") })
        }
    }

    /// The files of all ranks from one process.
    @Test func oneProcessWritesTheFilesOfSeveralRanks() throws {
        let whole = SimulatedDisk()
        _ = try RankGroup.run(3) { try CheckpointFixture(5).save(whole, ranks: $0) }.map { try $0.get() }
        let committed = try store.saveAlone(
            step: 5, worldSize: 3, configHash: CheckpointFixture.hash, CheckpointFixture(5).write)
        #expect(committed.name.description == "step-00000005" && committed.warnings.isEmpty)
        #expect(disk.tree() == whole.tree())
        for path in whole.tree() {
            #expect(try contents(disk.openFile(path)) == contents(whole.openFile(path)), "\(path)")
        }
        // Copies of its files make the same checkpoint again.
        let first = try store.open().checkpoint
        let again = try store.saveAlone(step: 6, worldSize: 3, configHash: CheckpointFixture.hash) { files in
            for file in first.manifest.files where file.rank == files.rank { try files.addCopy(of: file, from: first) }
        }
        let second = try store.open().checkpoint
        #expect(second.name == again.name && second.verify().isEmpty)
        #expect(second.manifest.files == first.manifest.files && second.manifest.worldSize == 3)
        // Of a file that was damaged since, no copy is made.
        try disk.damage(folder + "/step-00000005/state.json") { $0[1] ^= 1 }
        let error = try #require(
            try artifactError {
                _ = try store.saveAlone(step: 7, worldSize: 1, configHash: "") { files in
                    for file in first.manifest.files { try files.addCopy(of: file, from: first) }
                }
            })
        guard case .damaged(folder + "/step-00000005/state.json", _) = error else { throw error }
        #expect(try store.open().checkpoint.name == again.name)
        #expect(!disk.tree().contains { $0.contains(".tmp-") })
    }

    @Test func whenNothingIsSoundTheErrorNamesTheFile() throws {
        try CheckpointFixture(10).save(disk)
        try disk.damage(folder + "/step-00000010/state.json") { $0[3] ^= 1 }
        let error = try #require(try artifactError { _ = try store.open() })
        #expect(error.path == folder + "/step-00000010/state.json" && "\(error)".contains("SHA-256"))
    }

    @Test func aDamagedPointerIsReportedAndPassedOver() throws {
        try CheckpointFixture(10).save(disk)
        try CheckpointFixture(20).save(disk)
        try disk.damage(folder + "/latest") { $0 = Array("../../etc\n".utf8) }
        let opened = try store.open()
        #expect(opened.checkpoint.step == 20)
        #expect(opened.warnings.count == 1 && opened.warnings[0].contains("/latest'"))
    }

    @Test func anotherVersionStopsTheSearch() throws {
        try CheckpointFixture(10).save(disk)
        try CheckpointFixture(20).save(disk)
        try disk.damage(folder + "/step-00000020/manifest.json") { bytes in
            let body = String(decoding: bytes.dropLast(CheckpointManifest.seal([]).count), as: UTF8.self)
            let newer = Array(body.replacingFirst("\"version\": 1", with: "\"version\": 2").utf8)
            bytes = newer + CheckpointManifest.seal(newer)
        }
        let error = try #require(try artifactError { _ = try store.open() })
        guard case .incompatible(folder + "/step-00000020/manifest.json", let reason) = error else { throw error }
        #expect(reason.contains("format 2"))
    }

    /// A rollback to step 10, then 20 again: the new one gets a folder of its own, and `latest` tells them apart.
    @Test func aStepCanBeSavedAgain() throws {
        try CheckpointFixture(10).save(disk)
        try CheckpointFixture(20).save(disk)
        let again = try CheckpointFixture(20).save(disk)
        #expect(again.name.description == "step-00000020-2")
        #expect(again.removed.map(\.description) == ["step-00000020"])
        #expect(try store.names().map(\.description) == ["step-00000010", "step-00000020-2"])
        try CheckpointFixture(20).check(try store.open().checkpoint)
    }

    @Test func theOlderCheckpointIsTakenBeforeANewerOneOfAnotherPast() throws {
        for step in [10, 20, 30] { try CheckpointFixture(step).save(disk, retention: RetentionPolicy(keepLast: 9)) }
        let rolledBack = try CheckpointFixture(15).save(disk, retention: RetentionPolicy(keepLast: 2))
        #expect(rolledBack.removed.isEmpty)
        #expect(try store.open().checkpoint.step == 15)
        try disk.damage(folder + "/step-00000015/state.json") { $0 = [] }
        #expect(try store.open().checkpoint.step == 10)
        try disk.damage(folder + "/step-00000010/state.json") { $0 = [] }
        #expect(try store.open().checkpoint.step == 30)
    }

    @Test func temporaryFoldersAreIgnoredAndCleaned() throws {
        try CheckpointFixture(10).save(disk)
        for name in [".tmp-step-00000020", ".tmp-removed-step-00000005"] {
            try disk.makeDirectory(folder + "/" + name)
            let file = try disk.createFile(folder + "/" + name + "/junk", exclusive: true)
            try file.close()
        }
        #expect(try store.names().map(\.step) == [10])
        #expect(try store.open().checkpoint.step == 10)
        try CheckpointFixture(20).save(disk)
        #expect(!disk.tree().contains { $0.contains(".tmp-") })
    }

    private func leave(_ names: [String], in path: String) throws {
        try disk.makeDirectory(path)
        for name in names { try disk.createFile(path + "/" + name, exclusive: true).close() }
    }

    /// What the file system does not let go costs room and a warning; all else of it goes.
    @Test func whatCannotBeRemovedIsAWarning() throws {
        let sticky = StickyFileSystem(disk)
        let store = CheckpointStore(runFolder: CheckpointFixture.run, fileSystem: sticky)
        try CheckpointFixture(10).save(sticky)
        #expect(try store.clean().isEmpty && store.leftovers.isEmpty)
        let left = [folder + "/.tmp-removed-step-00000005", folder + "/.tmp-step-00000015"]
        for path in left { try leave([".nfs0001", "head.safetensors", "state.json"], in: path) }
        let warnings = try store.clean()
        #expect(warnings.count == 2 && zip(warnings, left).allSatisfy { $0.contains($1 + "/.nfs0001") }, "\(warnings)")
        #expect(disk.tree().filter { $0.contains(".tmp-") } == left.map { $0 + "/.nfs0001" })
        #expect(store.leftovers == left)
        let committed = try CheckpointFixture(20).save(sticky)
        #expect(committed.warnings == warnings)
        let results = try RankGroup.run(2) { try CheckpointFixture(30).save(sticky, ranks: $0) }.map { try $0.get() }
        #expect(results.map(\.warnings) == [warnings, []])
        try CheckpointFixture(30).check(try store.open().checkpoint)
        // Once they are let go they are gone with the next save.
        #expect(try CheckpointFixture(40).save(disk).warnings.isEmpty)
        #expect(!disk.tree().contains { $0.contains(".tmp-") })
    }

    /// The folder in which a save writes must be its own.
    @Test func aSaveNeedsItsOwnFolder() throws {
        let sticky = StickyFileSystem(disk)
        try CheckpointFixture(10).save(sticky)
        let own = folder + "/.tmp-step-00000020"
        try leave([".nfs0001"], in: own)
        let error = try #require(try artifactError { try CheckpointFixture(20).save(sticky) })
        #expect(error == .cannotWrite(path: own + "/.nfs0001", reason: "remove failed: Device or resource busy"))
        #expect(try openLatest(sticky).checkpoint.step == 10)
        let next = try CheckpointFixture(30).save(sticky)
        #expect(next.warnings.count == 1 && next.warnings[0].contains(own), "\(next.warnings)")
        #expect(try openLatest(sticky).checkpoint.step == 30)
    }

    @Test func bestAndDamagedCheckpointsAreNotDeleted() throws {
        let one = RetentionPolicy(keepLast: 1)
        try CheckpointFixture(10).save(disk, retention: one, best: true)
        try CheckpointFixture(20).save(disk, retention: one)
        #expect(try store.names().map(\.step) == [10, 20])
        try disk.damage(folder + "/step-00000020/state.json") { $0 = [] }
        let third = try CheckpointFixture(30).save(disk, retention: one)
        #expect(third.removed.isEmpty)
        #expect(third.warnings.count == 1 && third.warnings[0].contains("step-00000020/state.json"))
        let fourth = try CheckpointFixture(40).save(disk, retention: one, best: true)
        #expect(fourth.removed.map(\.step) == [10, 30])
        #expect(try store.best()?.step == 40 && store.latest()?.step == 40)
    }

    @Test func ranksThatDoNotFitTogetherAreRefused() throws {
        let disk = disk
        try CheckpointFixture(10).save(disk)
        let results = RankGroup.run(2) { ranks in
            try CheckpointStore(runFolder: CheckpointFixture.run, fileSystem: disk).save(
                step: 20, configHash: "", retention: RetentionPolicy(keepLast: 1), with: ranks
            ) { files in
                // Rank 1 starts a row late.
                let rows = files.rank == 0 ? 0..<2 : 3..<4
                try files.addShard(
                    "head", [CheckpointTensor("c", .numbered(rows: rows, columns: 1), rows: ShardRows(rows, of: 4))])
            }
        }
        for (rank, result) in results.enumerated() {
            let error = try #require(try artifactError { _ = try result.get() })
            guard case .cannotWrite = error else { throw error }
            #expect("\(error)".contains(rank == 0 ? "rows 2..<3 are in no file" : "another rank"))
        }
        #expect(try store.names().map(\.step) == [10])
    }
}
