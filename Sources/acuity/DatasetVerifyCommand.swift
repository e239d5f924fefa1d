import ArgumentParser
import FaceData
import Foundation
import Training

extension Dataset {
    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Decode every record, and hold labels, index and identity records against one another.",
            discussion: """
                acuity dataset verify packed/train.rec --report bad.jsonl

                Goes on after damage: what is wrong is counted by kind, and every case written to the report. The exit \
                code is 65 when there is one.
                """)

        @Argument(help: "A .rec file, a folder of identity folders, or a list.")
        var path: String

        @Option(help: "The folder that a list's paths are relative to.")
        var folder: String?

        @Option(help: "A file for all cases: a JSON object to a line, with kind, key, byte and reason.")
        var report: String?

        @OptionGroup var work: DatasetOptions

        private struct Line: Encodable {
            var kind: String
            var key: UInt64?
            var byte: UInt64?
            var image: String?
            var reason: String
        }

        func run() throws {
            try Command.run {
                var file: FileHandle?
                if let report {
                    try Output.folder(of: report)
                    try Output.write(Data(), to: report)
                    file = FileHandle(forWritingAtPath: report)
                }
                let progress = WorkProgress(work.progress)
                let found = try DatasetVerification.run(
                    path, folder: folder, threads: work.threadCount,
                    report: { issue throws(FaceDataError) in
                        guard let file, let report else { return }
                        let line = Line(
                            kind: issue.kind.rawValue, key: issue.key, byte: issue.offset, image: issue.name,
                            reason: issue.reason)
                        do {
                            try file.write(contentsOf: Output.jsonLine(line))
                        } catch {
                            throw FaceDataError(
                                .cannotWrite, file: report, "cannot be written (\(error.localizedDescription))")
                        }
                    },
                    progress: { progress.update($0.what, $0.done, of: $0.total) })
                progress.finish()
                print(text(found))
                if found.issues > 0 { throw ExitCodeRequest(code: Training.ExitCode.badData) }
            }
        }

        private func text(_ found: DatasetVerification) -> String {
            let layout = found.layout.map { ", layout of \($0.rawValue)" } ?? ""
            var lines = [
                "\(found.location): \(found.records) records\(layout), \(found.images) images of "
                    + "\(found.identities) identities decoded"
            ]
            lines += found.notes.map { "  note: \($0)" }
            if found.issues == 0 { return (lines + ["  nothing is wrong"]).joined(separator: "\n") }
            lines.append("  \(found.issues) faults:")
            for kind in DatasetVerification.Issue.Kind.allCases {
                guard let count = found.issueCounts[kind] else { continue }
                lines.append("  \(kind.rawValue): \(count)")
                for issue in found.examples where issue.kind == kind { lines.append("    \(issue.description)") }
                let shown = DatasetVerification.mostExamples
                if count > shown {
                    lines.append("    and \(count - shown) more\(report == nil ? "; --report FILE names them" : "")")
                }
            }
            return lines.joined(separator: "\n")
        }
    }
}
