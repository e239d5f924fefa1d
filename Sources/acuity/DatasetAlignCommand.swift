import ArgumentParser
import FaceData
import Foundation

extension Dataset {
    struct Align: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Cut aligned faces out of photos, by five landmarks each.",
            discussion: """
                acuity dataset align photos --landmarks landmarks-5pt.txt --output aligned

                A line of the landmarks is 'path x1 y1 x2 y2 x3 y3 x4 y4 x5 y5', separated by tabs or spaces: left eye, right \
                eye, nose, left and right corner of the mouth as seen, in pixels. The face comes to insightface's template by \
                the similarity (rotation, scale, shift) with the least squared error; what lies beyond the photo is black.

                Files that are there already stay, so that the command can be run again.
                """)

        @Argument(help: "The folder that the landmarks' paths are relative to, or a list of some of these paths.")
        var photos: String

        @Option(help: "The file of landmarks.")
        var landmarks: String

        @Option(help: "The folder that a list's paths are relative to.")
        var folder: String?

        @Option(help: "Height of a face; the template is that of 112 pixels, scaled.")
        var size = 112

        @Option(help: "Width of the part around the middle that is kept; by default all.")
        var width: Int?

        @OptionGroup var options: ImageConversionOptions

        func validate() throws {
            if !(16...4096).contains(size) { throw ValidationError("--size must lie in 16...4096") }
            if let width, !(8...size).contains(width) { throw ValidationError("--width must lie in 8...\(size)") }
        }

        func run() throws {
            try Command.run {
                let list = try LandmarkList(landmarks)
                let (root, entries, missing) = try selection(list)
                let template = FaceTemplate(size: size, width: width)
                let jobs = entries.map { ImageConversion.Job(path: "\(root)/\($0.path)", name: $0.path) }
                try options.run(jobs, failures: list.failures + missing, verb: "aligning") {
                    job, photo, _ throws(FaceDataError) in
                    let entry = entries[job]
                    guard let alignment = template.alignment(of: entry.points) else {
                        throw FaceDataError(
                            .malformed, file: list.location, at: .line(entry.line),
                            "no alignment follows from these points")
                    }
                    return template.aligned(photo, by: alignment)
                }
            }
        }

        /// All photos with landmarks, or those of a list, and what a list names that has none.
        private func selection(
            _ list: LandmarkList
        ) throws -> (root: String, entries: [LandmarkList.Entry], missing: [FaceDataError]) {
            var isFolder: ObjCBool = false
            if FileManager.default.fileExists(atPath: photos, isDirectory: &isFolder), isFolder.boolValue {
                return (photos, list.entries, [])
            }
            let files = try ImageFiles(photos, folder: folder)
            let known = Dictionary(uniqueKeysWithValues: list.entries.map { ($0.path, $0) })
            var entries: [LandmarkList.Entry] = []
            var missing: [FaceDataError] = []
            for name in files.names {
                if let entry = known[name] {
                    entries.append(entry)
                } else {
                    missing.append(FaceDataError(.malformed, file: list.location, "has no landmarks of \(name)"))
                }
            }
            return (files.folder, entries, missing)
        }
    }
}
