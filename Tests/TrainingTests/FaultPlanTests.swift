import Artifacts
import Collectives
import Foundation
import Recipes
import Tensors
import TestSupport
import Testing
import Training

@Suite struct FaultPlanTests {
    private func plan(_ texts: String...) throws -> (FaultPlan, Box<[String]>) {
        let said = Box<[String]>([])
        return (try FaultPlan(parsing: texts) { line in said.update { $0.append(line) } }, said)
    }

    @Test func aFaultIsReadAsItIsWritten() throws {
        let (plan, _) = try plan(
            "kill@rank=1,step=20,phase=save", "delay@rank=2,seconds=0.25", "corrupt-record@record=7")
        #expect(plan.faults.map(\.kind) == [.kill, .delay, .corruptRecord])
        #expect(plan.faults[0].rank == 1 && plan.faults[0].step == 20 && plan.faults[0].phase == .save)
        #expect(plan.faults[0].times == 1 && plan.faults[1].times == nil && plan.faults[1].phase == .step)
        #expect(plan.faults[1].seconds == 0.25 && plan.faults[1].step == nil)
        #expect(plan.corruptRecords(rank: 0) == [7] && !plan.isEmpty)
        #expect("\(plan.faults[0])" == "kill (rank 1, step 20, phase save)")
        #expect(FaultPlan.empty.isEmpty)
    }

    @Test(arguments: [
        ("explode", "the kinds are kill, delay, hang, nan"), ("kill@rank", "not key=value"),
        ("kill@rank=-1", "rank = '-1'"),
        ("kill@when=now", "not 'when'"), ("kill@phase=lunch", "not in 'lunch'"),
        ("nan@phase=save", "strikes in the phases step"),
        ("delay@rank=1", "needs seconds"), ("delay@seconds=-1", "not a positive number"),
        ("corrupt-record", "needs record"),
        ("kill@record=3", "record is for corrupt-record"), ("", "the kinds are"), ("kill@times=0", "times = '0'"),
        ("hang@step=1.5", "step = '1.5'"),
    ])
    func whatCannotBeUnderstoodIsRefused(_ text: String, _ reason: String) {
        let error = #expect(throws: FaultPlanError.self) { try FaultPlan(parsing: [text]) }
        #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
    }

    @Test func aFaultStrikesAtItsPlaceAndSaysSo() throws {
        let (plan, said) = try plan("nan@rank=1,step=3", "disk-full@step=2,times=2", "delay@seconds=0.001")
        #expect(plan.due(.nan, .step, step: 3, rank: 0) == nil)
        #expect(plan.due(.nan, .step, step: 2, rank: 1) == nil)
        #expect(plan.due(.nan, .step, step: 3, rank: 1) != nil)
        #expect(plan.due(.nan, .step, step: 3, rank: 1) == nil)
        // On each rank for itself.
        for rank in [0, 1, 0, 1] { #expect(plan.due(.diskFull, .save, step: 2, rank: rank) != nil) }
        #expect(plan.due(.diskFull, .save, step: 2, rank: 0) == nil)
        plan.reached(.step, step: 1, rank: 4)
        plan.reached(.step, step: 2, rank: 4)
        plan.reached(.save, step: 2, rank: 4)
        #expect(said.value.count == 7)
        #expect(said.value.first == "rank 1, step 3: nan (rank 1, step 3, phase step)")
        #expect(said.value.last == "rank 4, step 2: delay (every rank, phase step, 0.001 s)")
    }

    @Test func aHangCanEnd() throws {
        let (plan, _) = try plan("hang@seconds=0.2")
        let start = MonotonicClock.seconds
        plan.reached(.step, step: 1, rank: 0)
        #expect(MonotonicClock.seconds - start >= 0.2)
    }

    // MARK: - The disk

    private func write(_ disk: InjectedDisk, _ path: String) throws {
        let file = try disk.createFile(path, exclusive: false)
        defer { try? file.close() }
        try [UInt8](repeating: 7, count: 100).withUnsafeBytes { try file.write($0) }
    }

    @Test func theDiskIsFullForOneCheckpoint() throws {
        let folder = try TemporaryFolder()
        for name in [".tmp-step-00000002", ".tmp-step-00000003"] {
            try FileManager.default.createDirectory(atPath: folder.file(name), withIntermediateDirectories: true)
        }
        let (plan, said) = try plan("disk-full@rank=0,step=2")
        let disk = InjectedDisk(POSIXFileSystem(), plan, rank: 0)
        let error = #expect(throws: FileSystemError.self) { try write(disk, folder.file(".tmp-step-00000002/a")) }
        #expect(error?.reason.contains("No space left") == true)
        // Once: a run that goes back and comes by again finds room.
        try write(disk, folder.file(".tmp-step-00000002/b"))
        try write(disk, folder.file(".tmp-step-00000003/a"))
        try write(InjectedDisk(POSIXFileSystem(), plan, rank: 1), folder.file(".tmp-step-00000002/c"))
        #expect(said.value.count == 1)
    }

    /// The run's own folder may be called like a checkpoint.
    @Test func theInnermostStepCounts() throws {
        let folder = try TemporaryFolder()
        try FileManager.default.createDirectory(
            atPath: folder.file("step-9/.tmp-step-00000002"), withIntermediateDirectories: true)
        let (plan, said) = try plan("disk-full@step=2")
        let disk = InjectedDisk(POSIXFileSystem(), plan, rank: 0)
        #expect(throws: FileSystemError.self) { try write(disk, folder.file("step-9/.tmp-step-00000002/a")) }
        #expect(said.value.count == 1)
    }

    @Test func aTornWriteIsSilent() throws {
        let folder = try TemporaryFolder()
        try FileManager.default.createDirectory(atPath: folder.file("step-00000002"), withIntermediateDirectories: true)
        let (plan, _) = try plan("torn-write@step=2")
        let disk = InjectedDisk(POSIXFileSystem(), plan, rank: 0)
        for (name, size) in [("a", 50), ("b", 100)] {
            try write(disk, folder.file("step-00000002/" + name))
            #expect(try Data(contentsOf: URL(filePath: folder.file("step-00000002/" + name))).count == size)
        }
    }

    @Test func aRunOnAFullDiskSaysSo() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) {
            $0.schedule.maxSteps = 4
            $0.checkpoint.everySteps = 2
        }
        let (plan, _) = try plan("disk-full@rank=1,step=4")
        for failure in try TinyRun.failures(recipe, ranks: 2, faults: plan) {
            #expect(failure?.exitCode == 73 && failure?.message.contains("No space left") == true)
        }
        // What was there before is untouched.
        #expect(try TinyRun.checkpoint(recipe, step: 2).verify().isEmpty)
    }

    @Test func aCorruptRecordIsQuarantined() throws {
        let folder = try TemporaryFolder()
        let recipe = TinyRun.recipe(folder.file("run")) { $0.schedule.maxSteps = 3 }
        let records = [3, 9, 15]
        let faults = try FaultPlan(parsing: records.map { "corrupt-record@record=\($0)" }) { _ in }
        let run = try TinyRun.train(recipe, ranks: 2, faults: faults)
        // An epoch leaves out 4 of the 28 images.
        let found = run.states[0].damagedRecords ?? []
        #expect(!found.isEmpty && Set(found).isSubset(of: records) && run.states[1].damagedRecords == found)
        let listed = try TinyRun.events(recipe, file: "quarantine.jsonl").compactMap { $0["record"] as? Int }
        #expect(listed.sorted() == found)
    }
}
