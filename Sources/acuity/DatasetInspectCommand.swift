import ArgumentParser
import FaceData
import Figures
import Foundation
import Training

extension Dataset {
    struct Inspect: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Count identities and images, measure them, and find those that are there twice.",
            discussion: """
                acuity dataset inspect photos --histogram images-per-identity.png
                acuity dataset inspect ms1mv3/train.rec --sample 2000

                Every record is read and decoded unless --sample asks for fewer. The exit code is 65 when one cannot be \
                decoded. Duplicates are equal bytes, and with --deep equal pixels.
                """)

        @Argument(help: "A .rec file, a folder of identity folders, or a list.")
        var path: String

        @Option(help: "The folder that a list's paths are relative to.")
        var folder: String?

        @Option(help: "Records looked at, evenly spread; 0 for all.")
        var sample = 0

        @Flag(help: "Compare decoded pixels too.")
        var deep = false

        @Option(help: "A picture of the images per identity: a .png or .svg file.")
        var histogram: String?

        @Flag(help: "Print JSON.")
        var json = false

        @OptionGroup var work: DatasetOptions

        /// Groups of duplicates and unreadable records that are named.
        private static let mostNamed = 10

        func validate() throws {
            if sample < 0 { throw ValidationError("--sample must not be negative") }
            if let histogram, !histogram.hasSuffix(".png"), !histogram.hasSuffix(".svg") {
                throw ValidationError("--histogram must name a .png or .svg file")
            }
        }

        func run() throws {
            try Command.run {
                let source = try FaceSources.open(path, folder: folder)
                if let histogram { try Output.folder(of: histogram) }
                var options = DatasetInspection.Options()
                options.sample = sample
                options.comparesPixels = deep
                options.threads = work.threadCount
                let total = sample == 0 ? source.count : min(sample, source.count)
                let progress = WorkProgress(work.progress)
                let found = try DatasetInspection(source, options: options) {
                    progress.update("decoding", $0, of: total)
                }
                progress.finish()
                if let histogram { try draw(found, to: histogram) }
                if json {
                    Output.show(try Output.json(Summary(path, found, source)))
                } else {
                    print(text(found, source))
                }
                if found.unreadable > 0 { throw ExitCodeRequest(code: Training.ExitCode.badData) }
            }
        }

        // MARK: - JSON

        private struct Summary: Encodable {
            struct Duplicates: Encodable {
                var groups: Int
                var surplusImages: Int
                var groupsInSeveralIdentities: Int
                /// Keys of the first groups.
                var examples: [[String]]

                init(_ found: DatasetInspection.Duplicates, _ source: any FaceSource) {
                    groups = found.groups.count
                    surplusImages = found.surplus
                    groupsInSeveralIdentities = found.conflicting.count
                    // Those that contradict the labels first.
                    let first = Set(found.conflicting)
                    let order = found.conflicting + found.groups.indices.filter { !first.contains($0) }
                    examples = order.prefix(1000).map { found.groups[$0].map { source.key(of: $0) } }
                }
            }

            var path: String
            var images: Int
            var identities: Int
            var imagesPerIdentity: [String: Double]
            var singleImageIdentities: Int
            var examined: Int
            var decoded: Int
            var bytes: Int
            var sizes: [String: Int]
            var formats: [String: Int]
            var grey: Int
            var duplicates: Duplicates
            var duplicatePixels: Duplicates?
            var unreadable: [String]
            var unreadableCount: Int
            var notes: [String]

            init(_ path: String, _ found: DatasetInspection, _ source: any FaceSource) {
                self.path = path
                images = found.images
                identities = found.identities
                let per = found.imagesPerIdentity
                imagesPerIdentity = [
                    "minimum": Double(per.minimum), "median": per.median, "mean": per.mean,
                    "maximum": Double(per.maximum),
                ]
                singleImageIdentities = found.singleImageIdentities
                examined = found.examined
                decoded = found.decoded
                bytes = found.bytes
                sizes = found.sizes
                formats = found.formats
                grey = found.grey
                duplicates = Duplicates(found.duplicates, source)
                duplicatePixels = found.pixelDuplicates.map { Duplicates($0, source) }
                unreadable = found.unreadableExamples
                unreadableCount = found.unreadable
                notes = found.notes
            }
        }

        // MARK: - Text

        private func text(_ found: DatasetInspection, _ source: any FaceSource) -> String {
            let per = found.imagesPerIdentity
            let mean = found.examined > 0 ? found.bytes / found.examined : 0
            var lines = [
                "\(path): \(found.images) images of \(found.identities) identities",
                "  images per identity: \(per.minimum) to \(per.maximum), "
                    + String(format: "median %g, mean %.1f", per.median, per.mean),
                "  identities with a single image: \(found.singleImageIdentities)",
                "  \(found.decoded) of \(found.examined) records decoded: \(Self.list(found.sizes)); "
                    + "\(Self.list(found.formats)); \(found.grey) grey",
                "  bytes: \(found.bytes) in all, \(found.bytes == 0 ? 0 : found.smallest) to \(found.largest), mean \(mean)",
            ]
            lines += duplicates(found.duplicates, "duplicates", source)
            if let pixels = found.pixelDuplicates { lines += duplicates(pixels, "duplicates by pixels", source) }
            lines += found.notes.map { "  note: \($0)" }
            lines += found.unreadableExamples.prefix(2 * Self.mostNamed).map { "  unreadable: \($0)" }
            if found.unreadable > 2 * Self.mostNamed {
                lines.append("  unreadable records in all: \(found.unreadable)")
            }
            return lines.joined(separator: "\n")
        }

        /// The most frequent first, ten of them.
        private static func list(_ counts: [String: Int]) -> String {
            let sorted = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
            let rest = sorted.dropFirst(10).reduce(0) { $0 + $1.value }
            return sorted.prefix(10).map { "\($0.key) (\($0.value))" }.joined(separator: ", ")
                + (rest > 0 ? ", others (\(rest))" : "")
        }

        private func duplicates(
            _ found: DatasetInspection.Duplicates, _ title: String, _ source: any FaceSource
        ) -> [String] {
            if found.groups.isEmpty { return ["  \(title): none"] }
            var lines = [
                "  \(title): \(found.groups.count) images are there more than once, \(found.surplus) copies too many; "
                    + "\(found.conflicting.count) of them under several identities"
            ]
            for group in found.conflicting.prefix(Self.mostNamed) {
                let members = found.groups[group].prefix(4).map { record in
                    "\(source.key(of: record)) (identity \(source.identityName(source.label(of: record))))"
                }
                lines.append("  under several identities: " + members.joined(separator: ", "))
            }
            if found.conflicting.count > Self.mostNamed {
                lines.append("  and \(found.conflicting.count - Self.mostNamed) more; --json names them")
            }
            return lines
        }

        // MARK: - Picture

        private func draw(_ found: DatasetInspection, to file: String) throws {
            let histogram = found.histogram
            // The edges lie between the numbers; the last point only closes the last bar.
            let points = zip(histogram.edges, histogram.identities + [0]).map { Point(Double($0) - 0.5, Double($1)) }
            let low = max(0.5, points[0].x)
            let plot = Plot(
                title: "\(found.images) images of \(found.identities) identities",
                x: Plot.Axis(
                    "Images of an identity", scale: histogram.isLogarithmic ? .logarithmic : .linear,
                    range: histogram.isLogarithmic ? low...points[points.count - 1].x : nil),
                y: Plot.Axis("Identities", range: 0...1.08 * Double(max(1, histogram.identities.max() ?? 1))),
                series: [Plot.Series("", points.map { Point(max(low, $0.x), $0.y) }, style: .bars, opacity: 0.6)])
            let data = file.hasSuffix(".svg") ? Data(plot.svg().utf8) : Data(try plot.png())
            try Output.write(data, to: file)
        }
    }
}
