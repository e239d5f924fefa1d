import ArgumentParser
import FaceData
import Foundation
import Recipes
import Training

extension Dataset {
    struct Degrade: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a degraded copy of a folder or list of images.",
            discussion: """
                acuity dataset degrade photos --output worse --recipe qgface --seed 3
                acuity dataset degrade photos --output worse --op 'blur, sigma: [1, 3]' --op 'jpeg, quality: 30, p: 0.5'
                acuity dataset degrade lfw --output lfw-16 --side 16
                acuity dataset degrade lfw --output lfw-mixed --table lfw-mixed.tsv

                Names stay, the ending becomes that of what is written: PNG, so that nothing is compressed again, or JPEG \
                with --quality. degradation.tsv in the output folder says what each image got; a list with labels is copied \
                with the new names. What an image gets depends on the seed, the epoch and its name, not on the other files.
                """)

        @Argument(help: "A folder (with folders), or a list.")
        var images: String

        @Option(help: "The folder that a list's paths are relative to.")
        var folder: String?

        @Option(help: "A named recipe (adaface, qgface, ccface), or a recipe file with data.augment.")
        var recipe: String?

        @Option(
            name: .customLong("op"),
            help: "An operator of data.augment.pipeline, as 'blur, sigma: [0.5, 2]'; may be given again, in order.")
        var operators: [String] = []

        @Option(help: "Reduce to this side and enlarge again, as evaluation's degrade=SIDE does.")
        var side: Int?

        @Option(help: "A table of 'image, kind, value, seed', as evaluation's degrade=FILE takes.")
        var table: String?

        @Option(help: "Seed of what is drawn.")
        var seed: UInt64 = 1

        @Option(help: "Another epoch draws anew.")
        var epoch = 0

        @OptionGroup var options: ImageConversionOptions

        func validate() throws {
            if let recipe, AugmentSection.Name(rawValue: recipe) == nil, !FileManager.default.fileExists(atPath: recipe) {
                let names = DegradationRecipe.all.map(\.name).joined(separator: ", ")
                throw ValidationError("--recipe \(recipe): neither one of \(names) nor a file")
            }
            let ways = [recipe != nil, !operators.isEmpty, side != nil, table != nil].filter { $0 }.count
            if ways != 1 { throw ValidationError("give one of --recipe, --op, --side, --table") }
            if let side, !(1...4096).contains(side) { throw ValidationError("--side must lie in 1...4096") }
            if epoch < 0 || epoch > 1_000_000_000 { throw ValidationError("--epoch must lie in 0...1000000000") }
        }

        func run() throws {
            try Command.run {
                let plan = try makePlan()
                let files = try ImageFiles(images, folder: folder)
                let jobs = files.names.indices.map {
                    ImageConversion.Job(path: files.path(of: $0), name: files.names[$0])
                }
                // Before the first image: a copy that is ended and begun again must not mix two ways of degrading.
                let rows = rows(plan, files)
                if !options.force { try compare(rows) }
                try Output.folder(options.output)
                try write(rows, files)
                try options.run(jobs, verb: "degrading") { job, image, scratch throws(FaceDataError) in
                    try plan.apply(to: image, name: files.names[job], scratch: scratch)
                } then: { _ in
                    try write(rows.filter { FileManager.default.fileExists(atPath: path($0.name)) }, files)
                }
            }
        }

        private func path(_ name: String) -> String { "\(options.output)/\(name)" }

        private struct Row {
            var name: String
            /// Operators with their parameters.
            var steps: String
            var label: String?
        }

        /// What each image gets, under its new name; images that cannot be read have no row.
        private func rows(_ plan: DegradationPlan, _ files: ImageFiles) -> [Row] {
            let conversion = options.conversion
            return files.names.indices.compactMap { index in
                guard let size = try? files.size(of: index),
                    let steps = try? plan.report(for: files.names[index], width: size.width, height: size.height)
                else { return nil }
                return Row(
                    name: conversion.outputName(files.names[index]), steps: steps, label: files.labels?[index])
            }
        }

        /// - Throws: when the folder holds images that were degraded otherwise.
        private func compare(_ rows: [Row]) throws {
            let file = path("degradation.tsv")
            guard let text = try? String(contentsOfFile: file, encoding: .utf8) else { return }
            let fields = text.split(separator: "\n").map { $0.split(separator: "\t", maxSplits: 1) }
            let known = Dictionary(
                fields.filter { $0.count == 2 }.map { (String($0[0]), String($0[1])) }, uniquingKeysWith: { $1 })
            for row in rows {
                guard let steps = known[row.name], steps != row.steps else { continue }
                throw FaceDataError(
                    .malformed, file: file, "\(row.name) was made by '\(steps)', and would now be by '\(row.steps)'",
                    advice: "name another output folder, or make all again with --force")
            }
        }

        private func write(_ rows: [Row], _ files: ImageFiles) throws {
            let lines = ["# image\tdegradation"] + rows.map { "\($0.name)\t\($0.steps)" }
            try Output.write(lines: lines, to: path("degradation.tsv"))
            guard files.labels != nil else { return }
            let list = rows.map { "\($0.name)\t\($0.label ?? "")\n" }.joined()
            try Output.write(list, to: path(URL(filePath: images).lastPathComponent))
        }

        private func makePlan() throws -> DegradationPlan {
            if let side { return .same(.reduce(side: side)) }
            if let table { return .listed(try DegradationTable(table)) }
            let section: AugmentSection
            if let recipe {
                if let name = AugmentSection.Name(rawValue: recipe) {
                    section = AugmentSection(name)
                } else {
                    section = try Recipe(files: [recipe], overrides: []).data.augment
                }
            } else {
                let pipeline = operators.map { $0.hasPrefix("{") ? $0 : "{op: \($0)}" }.joined(separator: ", ")
                section = try Recipe(files: [], overrides: ["data.augment.pipeline=[\(pipeline)]"]).data.augment
            }
            guard let degradation = RunSetup.degradation(section) else {
                throw RecipeError.missing(key: "data.augment", why: "\(recipe ?? "it") degrades nothing")
            }
            return .drawn(degradation, seed: seed, epoch: epoch)
        }
    }
}
