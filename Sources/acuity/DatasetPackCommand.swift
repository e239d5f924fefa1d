import ArgumentParser
import FaceData
import Foundation
import Training

extension RecordPacker.Layout: ExpressibleByArgument {}
extension PackPlan.Labels: ExpressibleByArgument {}

extension Dataset {
    struct Pack: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Pack folders, lists and .rec files into one .rec with .idx, .lst and property.",
            discussion: """
                acuity dataset pack photos --output packed/train
                acuity dataset pack webface/train.rec photos --output packed/train --min-images 5 --exclude overlap.txt

                Every image is decoded, to see that it is whole; its bytes are copied as they are unless --resize or \
                --reencode asks for other ones. Stopped or killed, the same command goes on where it was. Beside the \
                records, classes.tsv says what each label is called.
                """)

        @Argument(help: "Folders of identity folders, lists, .rec files.")
        var paths: [String]

        @Option(help: "The folder that a list's paths are relative to; for several lists once for each.")
        var folder: [String] = []

        @Option(help: "Prefix of the files written; the folder is made.")
        var output: String

        @Option(help: "Record layout: insightface (metadata and identity records) or im2rec.")
        var layout = RecordPacker.Layout.insightface

        @Option(help: "Of several sources: separate identities, or shared ones where names are equal.")
        var labels = PackPlan.Labels.separate

        @Option(help: "Width and height of the images written; others are resized and cut at the centre.")
        var resize: Int?

        @Option(help: "Of the JPEG where an image is encoded anew, 1 to 100.")
        var quality: Int?

        @Flag(help: "Encode every image anew as JPEG.")
        var reencode = false

        @Flag(help: "Leave out images that cannot be decoded, and name them.")
        var skipDamaged = false

        @Option(help: "A list of identities and records to leave out, one to a line.")
        var exclude: String?

        @Option(help: "Leave out identities with fewer images.")
        var minImages = 1

        @Option(help: "Of an identity with more images take that many, spread evenly.")
        var maxImages: Int?

        @Option(help: "Where the names of the labels go; classes.tsv beside the records by default.")
        var classMap: String?

        @OptionGroup var work: DatasetOptions

        func validate() throws {
            if let resize, !(1...4096).contains(resize) { throw ValidationError("--resize must lie in 1...4096") }
            if let quality, !(1...100).contains(quality) { throw ValidationError("--quality must lie in 1...100") }
            if quality != nil, resize == nil, !reencode {
                throw ValidationError("--quality goes with --resize or --reencode: bytes are copied otherwise")
            }
            if minImages < 1 { throw ValidationError("--min-images must be at least 1") }
            if let maxImages, maxImages < minImages {
                throw ValidationError("--max-images must be at least 1, and not below --min-images")
            }
        }

        func run() throws {
            try Command.run {
                let sources = try DatasetSources.open(paths, folders: folder)
                try Output.folder(ofPrefix: output)
                if let classMap { try Output.folder(of: classMap) }
                let progress = WorkProgress(work.progress)
                let summary = try RecordPacker.pack(sources, to: output, options: try options()) {
                    progress.update($0.pass == 1 ? "packing" : "packing again", $0.done, of: $0.total)
                }
                progress.finish()
                present(summary)
            }
        }

        private func options() throws -> RecordPacker.Options {
            var options = RecordPacker.Options()
            options.layout = layout
            options.conversion = RecordConversion(size: resize, quality: quality ?? 95, reencodes: reencode)
            options.selection.labels = labels
            options.selection.minimumImages = minImages
            options.selection.maximumImages = maxImages
            options.selection.exclusions = try exclude.map { try ExclusionList($0) }
            options.skipsDamaged = skipDamaged
            options.threads = work.threadCount
            options.classMap = classMap
            return options
        }

        private func present(_ summary: RecordPacker.Summary) {
            for note in summary.notes { Session.warn(note) }
            for reason in summary.skipped.prefix(50) { Session.warn("left out \(reason)") }
            if summary.skipped.count > 50 { Session.warn("and \(summary.skipped.count - 50) more") }
            print("\(output).rec: \(summary.images) images of \(summary.classes) identities")
            if summary.resumedAt > 0 { print("  \(summary.resumedAt) of them were packed before") }
            if summary.excludedImages > 0 { print("  \(summary.excludedImages) images excluded by \(exclude ?? "")") }
            if summary.droppedIdentities > 0 {
                print("  \(summary.droppedIdentities) identities with fewer than \(minImages) images left out")
            }
        }
    }
}

/// Sources that a command line names.
enum DatasetSources {
    /// - Parameter folders: for the lists among `paths`, in their order; one is for all of them.
    static func open(_ paths: [String], folders: [String]) throws -> [any FaceSource] {
        var lists = 0
        return try paths.map { path in
            let source = try FaceSources.open(
                path, folder: folders.isEmpty ? nil : folders[min(lists, folders.count - 1)])
            if source is ListSource { lists += 1 }
            return source
        }
    }

    /// The same, and verification sets as `.bin` files.
    static func openTest(_ path: String, folder: String?) throws -> any FaceSource {
        if path.lowercased().hasSuffix(".bin") { return try PairSetSource(PairSet.bin(path)) }
        return try FaceSources.open(path, folder: folder)
    }
}
