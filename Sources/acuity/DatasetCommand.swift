import ArgumentParser
import FaceData
import Figures
import Foundation
import Telemetry
import Tensors
import Training

struct Dataset: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Inspect, pack, align, degrade and make data sets.",
        subcommands: [
            Inspect.self, Pack.self, Synthesize.self,
            Align.self, Degrade.self, Preview.self,
        ])

    struct Inspect: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Count identities and images, and look at a sample of the records.")

        @Argument(help: "A .rec file, a folder of identity folders, or a list.")
        var path: String

        @Option(help: "The folder that a list's paths are relative to.")
        var folder: String?

        @Option(help: "Records decoded, evenly spread; 0 for all.")
        var sample = 200

        @Flag(help: "Print JSON.")
        var json = false

        func validate() throws {
            if sample < 0 { throw ValidationError("--sample must not be negative") }
        }

        private struct Summary: Encodable {
            var path: String
            var images: Int
            var identities: Int
            var imagesPerIdentity: [String: Double]
            var singleImageIdentities: Int
            var decoded: Int
            var sizes: [String: Int]
            var formats: [String: Int]
            var unreadable: [String]
            var notes: [String]
        }

        func run() throws {
            try Command.run {
                let source = try FaceSources.open(path, folder: folder)
                var counts = [Int](repeating: 0, count: source.classCount)
                for index in 0..<source.count { counts[source.label(of: index)] += 1 }
                let sorted = counts.sorted()
                var summary = Summary(
                    path: path, images: source.count, identities: source.classCount,
                    imagesPerIdentity: [
                        "minimum": Double(sorted.first ?? 0), "median": Double(sorted[sorted.count / 2]),
                        "mean": Double(source.count) / Double(max(1, source.classCount)),
                        "maximum": Double(sorted.last ?? 0),
                    ],
                    singleImageIdentities: counts.filter { $0 < 2 }.count, decoded: 0, sizes: [:], formats: [:],
                    unreadable: [], notes: source.notes)
                examine(source, &summary)
                print(json ? try Self.json(summary) : Self.text(summary))
                if !summary.unreadable.isEmpty { throw ExitCodeRequest(code: Training.ExitCode.badData) }
            }
        }

        private func examine(_ source: any FaceSource, _ summary: inout Summary) {
            let step = sample == 0 ? 1 : max(1, source.count / sample)
            let progress = ProgressDisplay(total: source.count)
            for index in stride(from: 0, to: source.count, by: step) {
                do {
                    let bytes = try source.encodedBytes(of: index)
                    let format = ImageCodec.format(of: bytes).map { "\($0)" } ?? "unknown"
                    summary.formats[format, default: 0] += 1
                    let image = try source.image(at: index)
                    summary.sizes["\(image.width)x\(image.height)", default: 0] += 1
                    summary.decoded += 1
                } catch {
                    summary.unreadable.append("\(error)")
                }
                progress.update(index, "decoding")
            }
            progress.finish()
        }

        private static func json(_ summary: Summary) throws -> String {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            return String(decoding: try encoder.encode(summary), as: UTF8.self)
        }

        private static func text(_ summary: Summary) -> String {
            func list(_ counts: [String: Int]) -> String {
                counts.sorted { $0.value > $1.value }.map { "\($0.key) (\($0.value))" }.joined(separator: ", ")
            }
            let per = summary.imagesPerIdentity
            var lines = [
                "\(summary.path): \(summary.images) images of \(summary.identities) identities",
                "  images per identity: \(Int(per["minimum"]!)) to \(Int(per["maximum"]!)), median \(Int(per["median"]!)), "
                    + String(format: "mean %.1f", per["mean"]!),
                "  identities with a single image: \(summary.singleImageIdentities)",
                "  \(summary.decoded) records decoded: \(list(summary.sizes)); \(list(summary.formats))",
            ]
            lines += summary.notes.map { "  note: \($0)" }
            lines += summary.unreadable.map { "  unreadable: \($0)" }
            return lines.joined(separator: "\n")
        }
    }

    struct Pack: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Pack a folder, list or .rec into .rec, .idx, .lst and property.",
            discussion: "acuity dataset pack photos --output packed/train")

        @Argument(help: "A folder of identity folders, a list, or a .rec file.")
        var path: String

        @Option(help: "The folder that a list's paths are relative to.")
        var folder: String?

        @Option(help: "Prefix of the files written; the folder is made.")
        var output: String

        @Option(help: "Record layout: insightface (metadata and identity records) or im2rec.")
        var layout = "insightface"

        @Flag(help: "Leave out images that cannot be decoded, and name them.")
        var skipDamaged = false

        func validate() throws {
            guard ["insightface", "im2rec"].contains(layout) else {
                throw ValidationError("--layout must be insightface or im2rec")
            }
        }

        func run() throws {
            try Command.run {
                let source = try FaceSources.open(path, folder: folder)
                try Output.folder(of: output)
                let progress = ProgressDisplay(total: source.count)
                let summary = try RecordPacker.pack(
                    source, to: output, layout: layout == "im2rec" ? .im2rec : .insightface, skipDamaged: skipDamaged
                ) { progress.update($0, "packing") }
                progress.finish()
                for reason in summary.skipped { Session.warn("left out \(reason)") }
                print("\(output).rec: \(summary.images) images of \(summary.classes) identities")
            }
        }
    }

    struct Synthesize: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write synthetic faces as identity folders, or a contact sheet of them.",
            discussion: """
                acuity dataset synthesize --identities 100 --images 10 --output faces
                acuity dataset synthesize --identities 8 --images 8 --sheet faces.png
                """)

        @Option(help: "Identities.")
        var identities = 100

        @Option(help: "Images per identity.")
        var images = 10

        @Option(help: "Which universe of identities.")
        var seed: UInt64 = 1

        @Option(help: "The first identity.")
        var first = 0

        @Option(help: "A folder for root/identity/image.png and attributes.csv.")
        var output: String?

        @Option(help: "A picture with one row per identity.")
        var sheet: String?

        func validate() throws {
            if identities < 1 || images < 1 || first < 0 { throw ValidationError("the counts must be positive") }
            // The bounds of a recipe's data.synthetic.
            if identities > 100_000_000 || images > 100_000 || first > 1_000_000_000 {
                throw ValidationError("at most 100000000 identities of 100000 images, from 1000000000 on")
            }
            if output == nil, sheet == nil { throw ValidationError("give --output or --sheet") }
            if sheet != nil, identities * images > 1024 { throw ValidationError("a sheet holds at most 1024 faces") }
        }

        func run() throws {
            try Command.run {
                let source = SyntheticSource(
                    SyntheticFaces(seed: seed), identities: first..<first + identities, imagesPerIdentity: images)
                if let sheet {
                    let items = (0..<source.count).map { ContactSheet.Item(source.attributed($0).0) }
                    let labels = (0..<identities).map { source.identityName($0) }
                    try Output.folder(of: sheet)
                    let picture = ContactSheet(items, columns: images, rowLabels: labels)
                    try Output.write(Data(picture.png()), to: sheet)
                    print(sheet)
                }
                if let output { try write(source, to: output) }
            }
        }

        private func write(_ source: SyntheticSource, to output: String) throws {
            var rows = ["image,identity,degradation,blur_sigma,resolution,noise_sigma,occlusion,yaw,pitch,exposure"]
            let progress = ProgressDisplay(total: source.count)
            for index in 0..<source.count {
                let label = source.label(of: index)
                let folder = "\(output)/\(source.identityName(label))"
                if index % images == 0 { try Output.folder(folder) }
                let (image, known) = source.attributed(index)
                let name = "\(source.identityName(label))/\(index % images).png"
                try Output.write(Data(ImageCodec.encodePNG(image)), to: "\(output)/\(name)")
                rows.append(
                    "\(name),\(label),\(known.degradation),\(known.blurSigma),\(known.resolution),\(known.noiseSigma),"
                        + "\(known.occlusion),\(known.yaw),\(known.pitch),\(known.exposure)")
                progress.update(index + 1, "drawing")
            }
            progress.finish()
            try Output.write(Data((rows.joined(separator: "\n") + "\n").utf8), to: output + "/attributes.csv")
            print("\(output): \(source.count) images of \(identities) identities")
        }
    }
}
