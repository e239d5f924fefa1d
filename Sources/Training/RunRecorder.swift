import Artifacts
import Collectives
import Evaluation
import FaceData
import Figures
import Foundation
import Logging
import Objectives
import Recipes
import Telemetry
import Tensors

/// What a run writes beside its checkpoints, and what its user sees: log lines, progress, `log.jsonl`, `recipe.yaml`,
/// `quarantine.jsonl`, the first batch as a picture. Rank 0 writes it all.
final class RunRecorder {
    private let folder: String
    private let environment: RunEnvironment
    private let log: RunLog?
    private var quarantineLog: RunLog?
    /// Records that the list has from an earlier part of the run.
    private var listed: Set<Int>?
    private var waiting = Waiting()
    private var progress: ProgressDisplay
    private var window = Window()
    private var every = 20
    private var imagesPerStep = 0
    /// Seconds spent on comparing the parameters over the ranks.
    var consistencySeconds = 0.0
    /// The straggler that was named last, and at which step.
    private var named: (rank: Int, step: Int)?
    /// A disk that is full for now costs events, not the run: while a checkpoint is written, whose own error is to be
    /// heard, and where that is only a warning.
    var toleratesFullDisk = false
    private var lostEvents = 0

    /// Sums since the last log line.
    private struct Window {
        var steps = 0
        var outcome = ObjectiveOutcome()
        var dataWait = 0.0
        var reduceWait = 0.0
        var start = monotonicSeconds()
    }

    /// What the ranks waited for over the whole run; the first step is left out, because it waits for the loader to start.
    private struct Waiting {
        var steps = 0
        /// Of the mean rank, for data.
        var data = 0.0
        var start = 0.0
        var end = 0.0
    }

    init(folder: String, _ environment: RunEnvironment) throws {
        self.folder = folder
        self.environment = environment
        log = environment.isRoot ? try RunLog(path: folder + "/log.jsonl") : nil
        progress = ProgressDisplay(total: 0, style: .never)
    }

    func start(every: Int, total: Int, first: Int, images: Int) {
        self.every = every
        imagesPerStep = images
        progress = ProgressDisplay(total: total, first: first, style: environment.isRoot ? environment.progress : .never)
        window = Window()
    }

    /// Leaves out of the rates what came before the first step.
    func restartClock() { window = Window() }

    func finish() { progress.finish() }

    /// The part of the time that the ranks waited for data; nil where there were too few steps to tell.
    var dataWaitShare: Double? {
        waiting.steps > 20 ? waiting.data / max(1e-9, waiting.end - waiting.start) : nil
    }

    func event(_ name: String, step: Int, _ fields: [(String, LogValue)]) throws {
        guard let log else { return }
        do {
            let lost = lostEvents > 0 ? [("lost_events", LogValue.integer(lostEvents))] : []
            try log.write(name, step: step, fields + lost)
            lostEvents = 0
        } catch let error as RunLogError where toleratesFullDisk && error.isFullDisk {
            if lostEvents == 0 { environment.logger.warning("\(error); events are left out") }
            lostEvents += 1
        }
    }

    // MARK: - Steps

    func record(_ report: StepReport, state: RunState, ranks: Int) throws {
        guard environment.isRoot else { return }
        window.steps += 1
        window.outcome.add(report.outcome)
        window.dataWait += report.flags.dataWait / Double(ranks)
        window.reduceWait += report.reduceWait
        waiting.end = monotonicSeconds()
        if waiting.steps == 0 {
            waiting.start = waiting.end
        } else {
            waiting.data += report.flags.dataWait / Double(ranks)
        }
        waiting.steps += 1
        let seconds = max(1e-9, monotonicSeconds() - window.start)
        let rate = Double(window.steps * imagesPerStep) / seconds
        progress.update(state.step, "loss \(fixed(report.loss, 3))  \(fixed(rate, 1)) images/s")
        guard state.step % every == 0 || state.step == 1 else { return }
        try line(report, state, seconds: seconds, rate: rate)
        window = Window()
    }

    private func line(_ report: StepReport, _ state: RunState, seconds: Double, rate: Double) throws {
        let steps = Double(window.steps)
        let outcome = window.outcome.mean(of: window.steps)
        let shown = outcome.metrics.named.map { "\($0.name) \(fixed($0.value, 4))" }
        progress.line(
            (["step \(state.step)", "loss \(fixed(outcome.loss, 4))"] + shown + [
                "grad \(fixed(report.gradientNorm, 2))", "lr \(fixed(report.learningRate, 5))",
                "\(fixed(rate, 1)) images/s", "data wait \(fixed(100 * window.dataWait / seconds, 1)) %",
                progress.remaining(state.step),
            ]).joined(separator: "  "))
        try event(
            "step", step: state.step,
            [("loss", .number(outcome.loss))] + outcome.metrics.named.map { ($0.name, .number($0.value)) }
                + [
                    ("gradient_norm", .number(report.gradientNorm)), ("learning_rate", .number(report.learningRate)),
                    ("images_per_second", .number(rate)), ("step_seconds", .number(seconds / steps)),
                    ("data_wait_share", .number(window.dataWait / seconds)),
                    ("reduce_wait_seconds", .number(window.reduceWait / steps)), ("images", .integer(state.position)),
                    ("watchdog_seconds", .number(environment.watchdogSeconds())),
                    ("consistency_seconds", .number(consistencySeconds)),
                ])
    }

    /// Whom the others wait for: in the log each time, in words when it is another rank than before or after a while.
    func straggler(_ straggler: RankTimes.Straggler, _ shares: [RankTimes.Share], hosts: [String], step: Int) throws {
        let (rank, own) = (straggler.rank, shares[straggler.rank])
        let host = rank < hosts.count ? hosts[rank] : ""
        try event(
            "straggler", step: step,
            [
                ("rank", .integer(rank)), ("host", .text(host)), ("held_up_seconds", .number(straggler.seconds)),
                ("share", .number(straggler.share)), ("step_seconds", .number(own.step)),
                ("compute_seconds", .numbers(shares.map(\.compute))),
                ("data_wait_seconds", .numbers(shares.map(\.dataWait))),
                ("collective_wait_seconds", .numbers(shares.map(\.collectiveWait))),
            ])
        if let named, named.rank == rank, step < named.step + 20 * every { return }
        named = (rank, step)
        environment.logger.warning(
            """
            rank \(rank) on \(host) holds the others up by \(fixed(1000 * straggler.seconds, 1)) ms of each update \
            (\(fixed(100 * straggler.share, 0)) %): it computes \(fixed(1000 * own.compute, 1)) ms, waits \
            \(fixed(1000 * own.dataWait, 1)) ms for data and \(fixed(1000 * own.collectiveWait, 1)) ms for other ranks
            """)
    }

    /// Lists records that could not be read, on rank 0. A run that goes on from an older checkpoint meets some again, and
    /// lists them once.
    func quarantine(_ records: [(record: Int, key: String, reason: String)], step: Int) throws {
        let path = folder + "/quarantine.jsonl"
        for (record, key, reason) in records {
            environment.logger.warning("left out \(key): \(reason)")
            if listed == nil { listed = Self.records(listedIn: path) }
            guard listed!.insert(record).inserted else { continue }
            if quarantineLog == nil { quarantineLog = try RunLog(path: path) }
            try quarantineLog?.write(
                "quarantined", step: step,
                [("record", .integer(record)), ("key", .text(key)), ("reason", .text(reason))])
        }
    }

    private static func records(listedIn path: String) -> Set<Int> {
        guard let bytes = try? Data(contentsOf: URL(filePath: path)) else { return [] }
        var records: Set<Int> = []
        // By bytes: a line that was cut off may end within a character.
        for line in bytes.split(separator: UInt8(ascii: "\n")) {
            let object = try? JSONSerialization.jsonObject(with: Data(line)) as? [String: Any]
            if let record = object?["record"] as? Int { records.insert(record) }
        }
        return records
    }

    // MARK: - Milestones

    func evaluated(_ report: VerificationReport, step: Int) throws {
        let tar = report.tar.map { "TAR@\(scientific($0.targetFAR)) \(percent($0.rate))" }
        progress.line(
            ([
                "step \(step)",
                "\(report.facts.dataset): accuracy \(percent(report.accuracy.mean)) ± "
                    + percent(report.accuracy.deviation),
            ] + tar + ["EER \(percent(report.equalErrorRate))"])
            .joined(separator: "  "))
        try event(
            "evaluation", step: step,
            [
                ("set", .text(report.facts.dataset)), ("accuracy", .number(report.accuracy.mean)),
                ("accuracy_deviation", .number(report.accuracy.deviation)),
                ("equal_error_rate", .number(report.equalErrorRate)), ("auc", .number(report.areaUnderCurve)),
                ("degradation", .text(report.facts.degradation)), ("pairs", .integer(report.pairs)),
            ] + report.tar.map { ("tar_at_\(scientific($0.targetFAR))", .number($0.rate)) })
    }

    /// - Parameters:
    ///   - seconds: from the beginning of the save to its end.
    ///   - stall: what of it training waited for.
    func saved(_ committed: CommittedCheckpoint, step: Int, seconds: Double, stall: Double) throws {
        guard environment.isRoot else { return }
        let behind = stall < seconds ? ", of which training waited \(fixed(stall, 2)) s" : ""
        progress.line(
            "step \(step)  saved \(committed.name), \(fixed(Double(committed.byteCount) / 1_048_576, 1)) MiB in "
                + "\(fixed(seconds, 2)) s\(behind)")
        try event(
            "checkpoint", step: step,
            [
                ("name", .text(committed.name.description)), ("bytes", .integer(committed.byteCount)),
                ("seconds", .number(seconds)), ("stall_seconds", .number(stall)),
            ])
    }

    func saveRecipe(_ recipe: Recipe) throws {
        let path = folder + "/recipe.yaml"
        do {
            try Data(recipe.yaml.utf8).write(to: URL(filePath: path), options: .atomic)
        } catch {
            throw RunLogError(path: path, reason: systemReason(error))
        }
    }

    /// Writes the recipe that a resumed run goes on with over the one it had, which is kept as `recipe-until-step-N.yaml`.
    ///
    /// - Returns: what is different, as "key: former -> new".
    /// - Throws: `RunLogError`, `ArtifactError.cannotWrite`.
    func replaceRecipe(by recipe: Recipe, at step: Int) throws -> [String] {
        let path = folder + "/recipe.yaml"
        guard FileManager.default.fileExists(atPath: path) else {
            try saveRecipe(recipe)
            return []
        }
        var lines = ["recipe.yaml is a new one: the former could not be read"]
        if let former = try? Recipe(files: [path], overrides: []) {
            lines = recipe.changes(since: former).filter { $0.key != "run.folder" }
                .map { "\($0.key): \($0.former) -> \($0.new)" }
        }
        if lines.isEmpty { return [] }
        let kept = folder + "/recipe-until-step-\(step).yaml"
        // One that was there made the steps up to this one; the other has made none.
        if !FileManager.default.fileExists(atPath: kept) { try keepRecipe(path, as: kept) }
        try saveRecipe(recipe)
        return lines
    }

    /// Copies the recipe that is about to be written over: the copy is there as a whole, and durable, or not at all.
    private func keepRecipe(_ path: String, as kept: String) throws {
        let text: [UInt8]
        do {
            text = [UInt8](try Data(contentsOf: URL(filePath: path)))
        } catch {
            throw RunLogError(path: kept, reason: systemReason(error))
        }
        do {
            try environment.fileSystem.writeAtomically(kept, text)
        } catch let error as FileSystemError {
            throw ArtifactError.cannotWrite(path: error.path, reason: error.reason)
        }
    }

    /// The images of the first step as the network sees them, with their labels.
    func saveFirstBatch(_ batch: Batch, _ recipe: Recipe) throws {
        let count = batch.labels.count
        let views = batch.records.count / count
        let rows = (0..<min(64 / views, count)).flatMap { row in (0..<views).map { $0 * count + row } }
        let pictures = BatchPictures.images(batch.images, rows, RunSetup.preprocessing(recipe))
        let items = zip(pictures, rows).map { ContactSheet.Item($0, caption: ["\(batch.labels[$1 % count])"]) }
        let augmentation = RunSetup.augmentation(recipe, inFull: false).map { ", \($0)" } ?? ""
        let path = folder + "/first-batch.png"
        let sheet = ContactSheet(items, columns: 8 / views * views, title: "first batch\(augmentation), captions are labels")
        do {
            try Data(sheet.png()).write(to: URL(filePath: path), options: .atomic)
        } catch {
            throw RunLogError(path: path, reason: systemReason(error))
        }
    }

    /// Of the resolved recipe.
    func recipeHash(_ recipe: Recipe) -> String { String(recipe.yaml.stableHash, radix: 16) }

    private func fixed(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }
    private func percent(_ value: Double) -> String { fixed(100 * value, 2) + " %" }
    private func scientific(_ value: Double) -> String { String(format: "%.0e", value).replacing("e-0", with: "e-") }
}
