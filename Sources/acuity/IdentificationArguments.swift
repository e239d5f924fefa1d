import ArgumentParser
import Collectives
import Evaluation
import FaceData
import Figures
import Foundation
import Layers
import Networks
import Telemetry
import Tensors
import Training

/// Identification by the rules of a data set.
enum IdentificationRules: String, CaseIterable, ExpressibleByArgument {
    case tinyface, scface

    /// What the papers state.
    var ranks: [Int] {
        switch self {
        case .tinyface: [1, 5, 20]
        case .scface: [1]
        }
    }
}

/// `acuity evaluate --protocol`.
struct IdentificationArguments: ParsableArguments {
    @Option(
        name: .customLong("protocol"),
        help: "Identification instead of verification, in the data set that --set names: tinyface, scface.")
    var rules: IdentificationRules?

    @Option(
        parsing: .upToNextOption,
        help: "Ranks that rates are given for; by default 1 5 20 (tinyface), 1 (scface).")
    var rankK: [NumberList] = []

    @Flag(inversion: .prefixedNo, help: "tinyface: search among the distractors, too.")
    var distractors = true

    @Option(help: "scface: cameras of the probes; by default 1-5, those for visible light.")
    var cameras: NumberList?

    @Option(help: "scface: only these subjects, as numbers (51-130) or a file of numbers.")
    var subjects: String?

    func validate(_ command: Evaluate) throws {
        guard let rules else {
            if !rankK.isEmpty || !distractors || cameras != nil || subjects != nil {
                throw ValidationError("--rank-k, --no-distractors, --cameras and --subjects go with --protocol")
            }
            return
        }
        if command.discard.edc { throw ValidationError("give --protocol or --edc") }
        if command.pixels { throw ValidationError("--protocol compares embeddings: give --weights or --untrained") }
        if command.set == nil { throw ValidationError("--protocol \(rules.rawValue): --set names the folder") }
        if command.sides != nil || command.down != nil || command.up != nil {
            throw ValidationError("--sides, --down and --up are for verification, not for --protocol")
        }
        if command.pairs != nil || command.degrade != nil || !command.sizes.isEmpty {
            throw ValidationError("--pairs, --degrade and --sizes are for verification, not for --protocol")
        }
        if rules != .scface, cameras != nil || subjects != nil {
            throw ValidationError("--cameras and --subjects go with --protocol scface")
        }
        if rules != .tinyface, !distractors { throw ValidationError("--no-distractors goes with --protocol tinyface") }
        if !ranks(rules).allSatisfy({ (1...100_000).contains($0) }) {
            throw ValidationError("--rank-k must lie in 1...100000")
        }
    }

    /// Ascending, each once.
    private func ranks(_ rules: IdentificationRules) -> [Int] {
        let given = rankK.flatMap(\.values)
        return given.isEmpty ? rules.ranks : Set(given).sorted()
    }

    func run(_ command: Evaluate, _ rules: IdentificationRules, _ environment: RunEnvironment) throws {
        let communicator = environment.communicator
        let (network, preprocessing, set) = try communicator.together("set-up") {
            if environment.isRoot, let output = command.output { try Output.folder(output) }
            let set = try open(command.set!, rules)
            let (network, preprocessing) = try command.model(environment)
            return (network, preprocessing, set)
        }
        if environment.isRoot { for note in set.notes { Session.warn("\(set.location): \(note)") } }
        let embedder = command.embedding.embedder(network, preprocessing, environment)
        let facts = IdentificationFacts(
            dataset: command.setName, rules: rules.rawValue, selection: set.selection,
            flip: command.flip ? .sum : .none,
            embeddings: command.weights ?? "\(command.untrained!), starting values")
        let progress = ProgressDisplay(
            total: set.gallery.count + set.probes.count, style: environment.isRoot ? environment.progress : .never)
        let report = try embedder.identify(
            set, ranks: ranks(rules), facts: facts, communicator: communicator
        ) {
            progress.update($0, "embedding \(facts.dataset)")
        }
        progress.finish()
        try communicator.together("report") {
            if let report { try present(report, command) }
        }
    }

    private func open(_ path: String, _ rules: IdentificationRules) throws -> IdentificationSet {
        switch rules {
        case .tinyface: return try .tinyFace(path, distractors: distractors)
        case .scface:
            return try .scFace(
                path, cameras: cameras?.values ?? [1, 2, 3, 4, 5],
                subjects: subjects.map { try IdentificationSet.subjects($0) })
        }
    }

    // MARK: - Results

    private func present(_ report: IdentificationReport, _ command: Evaluate) throws {
        if command.json {
            print(String(decoding: try Output.json(report), as: UTF8.self), terminator: "")
        } else {
            print(Self.summary(report))
        }
        guard let output = command.output else { return }
        let stem = output + "/" + report.facts.dataset.replacing("/", with: "-") + "-" + report.facts.rules
        try Output.write(Output.json(report), to: stem + ".json")
        try Output.write(Data(Self.table(report).utf8), to: stem + "-cmc.csv")
        let plot = MatchPlot.plot(
            report.groups.map { group in
                MatchPlot.Curve(
                    report.groups.count == 1 ? report.facts.dataset : group.name, rates: group.matchCharacteristic)
            },
            title: "\(report.facts.dataset), \(report.facts.rules), \(report.gallery) gallery images")
        try Output.write(Data(plot.svg().utf8), to: stem + "-cmc.svg")
        try Output.write(Data(plot.png()), to: stem + "-cmc.png")
    }

    private static func table(_ report: IdentificationReport) -> String {
        var lines = ["group,rank,rate"]
        for group in report.groups {
            for (place, rate) in group.matchCharacteristic.enumerated() {
                lines.append("\(group.name),\(place + 1),\(rate)")
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    static func summary(_ report: IdentificationReport) -> String {
        func percent(_ value: Double) -> String { String(format: "%.2f %%", 100 * value) }
        let facts = report.facts
        let ranks = report.groups.first?.rates.map(\.rank) ?? []
        var header = ["probes", "searched", "no mate"]
        header += ranks.map { "rank-\($0)" }
        header += ["95 % of rank-\(ranks.first ?? 1)", "mAP"]
        var rows = [header]
        for group in report.groups {
            var row = [group.name, "\(group.probes)", "\(group.probesWithoutMate)"]
            row += group.rates.map { percent($0.rate) }
            if let interval = group.rates.first?.interval {
                row.append("\(percent(interval.lower))–\(percent(interval.upper))")
            }
            row.append(percent(group.meanAveragePrecision))
            rows.append(row)
        }
        let lines = [
            "\(facts.dataset), \(facts.rules), \(facts.selection): gallery of \(report.gallery) images "
                + "(\(report.galleryIdentities) identities, \(report.distractors) distractors), flip \(facts.flip.rawValue), "
                + "ties \(facts.ties)",
            "  embeddings of \(facts.embeddings)",
        ]
        return (lines + TextTable.lines(rows)).joined(separator: "\n")
    }
}
