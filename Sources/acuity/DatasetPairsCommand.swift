import ArgumentParser
import FaceData
import Foundation
import Training

extension Dataset {
    struct Pairs: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Draw balanced verification pairs from a labelled set, in folds that share no identity.",
            discussion: """
                acuity dataset pairs people --output pairs.txt
                acuity evaluate --weights runs/first --set people --pairs pairs.txt
                acuity dataset pairs people.rec --output people.bin

                A .bin file holds the images themselves; any other name becomes a text of LFW's format where the files \
                are called as it needs them (name/name_0001.jpg), else of lines path, path, same, fold.
                """)

        @Argument(help: "A folder of identity folders, a list, or a .rec file.")
        var path: String

        @Option(help: "The folder that a list's paths are relative to.")
        var folder: String?

        @Option(help: "The file written, and again for a second one: .bin, or a text.")
        var output: [String]

        @Option(help: "Folds; people of one appear in no other.")
        var folds = 10

        @Option(help: "Pairs of each fold, half of them genuine.")
        var pairsPerFold = 600

        @Option(help: "Which pairs are drawn.")
        var seed: UInt64 = 1

        @OptionGroup var work: DatasetOptions

        private func isBin(_ file: String) -> Bool { file.lowercased().hasSuffix(".bin") }

        func validate() throws {
            if !(1...1000).contains(folds) { throw ValidationError("--folds must lie in 1...1000") }
            if pairsPerFold < 2 || pairsPerFold % 2 != 0 || pairsPerFold > 1_000_000 {
                throw ValidationError("--pairs-per-fold must be an even number from 2 to 1000000")
            }
            if folds != 10, output.contains(where: isBin) {
                throw ValidationError("a .bin file has ten folds: those who read it divide it so")
            }
        }

        func run() throws {
            try Command.run {
                let source = try FaceSources.open(path, folder: folder)
                var options = PairDraw.Options()
                options.folds = folds
                options.pairsPerFold = pairsPerFold
                options.seed = seed
                let draw = try PairDraw(source, options: options)
                let images = Set(draw.pairs.flatMap { [$0.first, $0.second] })
                let people = Set(images.map { source.label(of: $0) })
                for file in output {
                    try Output.folder(of: file)
                    var form = "bin"
                    if isBin(file) {
                        let progress = WorkProgress(work.progress)
                        try PairWriter.writeBin(draw, of: source, to: file) {
                            progress.update("writing pairs", $0, of: draw.pairs.count)
                        }
                        progress.finish()
                    } else {
                        form =
                            try PairWriter.writeText(draw, of: source, to: file) == .lfw
                            ? "LFW's format" : "lines of paths"
                    }
                    print(
                        "\(file): \(draw.pairs.count) pairs in \(folds) folds, half of them genuine, of \(images.count) images "
                            + "of \(people.count) identities (\(form))")
                }
            }
        }
    }
}
