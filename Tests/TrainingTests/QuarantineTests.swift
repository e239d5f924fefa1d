import Artifacts
import FaceData
import Foundation
import Recipes
import Testing
import Training

/// Damaged records: trained around, counted once over all ranks, and too many end the run everywhere.
@Suite(.serialized) struct QuarantineTests {
    /// 24 images, 12 a step: an epoch meets every record.
    private func recipe(
        _ folder: TemporaryFolder, _ name: String, _ list: String, steps: Int, limit: Int = 100
    ) -> Recipe {
        TinyRun.recipe(folder.file(name)) {
            $0.data.train = list
            $0.data.quarantineLimit = limit
            $0.schedule.maxSteps = steps
            $0.checkpoint.everySteps = 1
        }
    }

    @Test(arguments: [1, 2, 3]) func trainsOnAndCountsOnce(_ ranks: Int) throws {
        let folder = try TemporaryFolder()
        let list = try FaceFiles.list(in: folder, count: 24, identities: 6, damaged: [5, 17])
        let whole = recipe(folder, "whole", list, steps: 6)
        let run = try TinyRun.train(whole, ranks: ranks)
        // Three epochs: other ranks meet the same records again.
        #expect(run.states.allSatisfy { $0.damagedRecords == [5, 17] && $0.step == 6 })
        #expect(try TinyRun.checkpoint(whole, step: 6).state(RunState.self).damagedRecords == [5, 17])
        let lines = try TinyRun.events(whole, file: "quarantine.jsonl")
        #expect(lines.compactMap { $0["key"] as? String }.sorted() == ["17.png", "5.png"])
        #expect(lines.allSatisfy { (0...1).contains($0["step"] as? Int ?? 0) && $0["reason"] is String })
        #expect(run.log.warnings.filter { $0.contains("left out 5.png") }.count == 1)

        // Resumed in the middle of the first epoch and later: the same replacements, nothing counted again.
        let parts = recipe(folder, "parts", list, steps: 6)
        for steps in [1, 3] {
            try TinyRun.train(recipe(folder, "parts", list, steps: steps), ranks: ranks, resume: steps > 1)
        }
        try TinyRun.train(parts, ranks: ranks, resume: true)
        for step in [1, 3, 6] {
            let expected = try TinyRun.files(whole, step: step)
            #expect(TinyRun.differences(expected, try TinyRun.files(parts, step: step)).isEmpty)
        }
        #expect(try TinyRun.events(parts, file: "quarantine.jsonl").count == 2)
    }

    @Test func theLimitEndsAllRanksAlike() throws {
        let folder = try TemporaryFolder()
        let list = try FaceFiles.list(in: folder, count: 24, identities: 6, damaged: [5, 17, 20])
        let failures = try TinyRun.failures(recipe(folder, "run", list, steps: 9, limit: 2), ranks: 2)
        for failure in failures {
            let failure = try #require(failure)
            #expect(failure.message == failures[0]?.message && failure.exitCode == 65)
            #expect(failure.message.contains("3 records") && failure.message.contains("quarantine_limit = 2"))
        }
        // As many as the limit are allowed.
        let run = try TinyRun.train(recipe(folder, "enough", list, steps: 3, limit: 3), ranks: 2)
        #expect(run.states[0].damagedRecords == [5, 17, 20])
    }

    /// One record in a hundred has a changed byte. The same are found, for the same reasons, in the same steps, and left
    /// out alike, on any number of ranks and when the run is resumed.
    @Test func changedBytesInARecordFile() throws {
        let folder = try TemporaryFolder()
        let list = try FaceFiles.list(in: folder, count: 200, identities: 10)
        _ = try RecordPacker.pack(ListSource(list), to: folder.file("train"), layout: .insightface)
        var bytes = [UInt8](try Data(contentsOf: URL(filePath: folder.file("train.rec"))))
        let index = try String(contentsOfFile: folder.file("train.idx"), encoding: .utf8).split(separator: "\n")
        for (place, key) in [(0, 7), (9, 60), (5, 124), (400, 181)] {
            let line = try #require(index.first { $0.hasPrefix("\(key)\t") })
            bytes[try #require(Int(line.split(separator: "\t")[1])) + place] ^= 0x10
        }
        try folder.write("train.rec", bytes)
        func recipe(_ name: String, steps: Int) -> Recipe {
            TinyRun.recipe(folder.file(name)) {
                $0.data.train = folder.file("train.rec")
                $0.schedule.maxSteps = steps
                $0.checkpoint.everySteps = 9
            }
        }
        func report(_ name: String) throws -> [String] {
            try TinyRun.events(recipe(name, steps: 18), file: "quarantine.jsonl").map { line in
                "\(line["step"] ?? "") \(line["record"] ?? "") \(line["key"] ?? "") \(line["reason"] ?? "")"
            }
        }
        // An epoch has 16 steps.
        try TinyRun.train(recipe("whole", steps: 18), ranks: 2)
        let expected = try report("whole")
        #expect(expected.count == 4 && expected.allSatisfy { $0.contains("record key") })
        try TinyRun.train(recipe("again", steps: 18), ranks: 2)
        try TinyRun.train(recipe("parts", steps: 9), ranks: 2)
        try TinyRun.train(recipe("parts", steps: 18), ranks: 2, resume: true)
        for name in ["again", "parts"] {
            #expect(try report(name) == expected)
            let differences = TinyRun.differences(
                try TinyRun.files(recipe("whole", steps: 18), step: 18),
                try TinyRun.files(recipe(name, steps: 18), step: 18))
            #expect(differences.isEmpty)
        }
        for ranks in [1, 3] {
            let run = try TinyRun.train(recipe("ranks-\(ranks)", steps: 18), ranks: ranks)
            #expect(try report("ranks-\(ranks)") == expected)
            #expect(run.states.allSatisfy { $0.damagedRecords == [6, 59, 123, 180] })
        }
        // Going on from an older checkpoint lists nothing twice.
        try FileManager.default.removeItem(atPath: folder.file("parts/checkpoints/step-00000018"))
        try Data("step-00000009".utf8).write(to: URL(filePath: folder.file("parts/checkpoints/latest")))
        try TinyRun.train(recipe("parts", steps: 18), ranks: 1, resume: true)
        #expect(try report("parts") == expected)
    }
}
