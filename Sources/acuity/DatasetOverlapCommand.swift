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

extension Dataset {
    struct Overlap: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Find the people of a training set who are in a test set too, by their faces and by their names.",
            discussion: """
                acuity dataset overlap photos lfw --weights model.safetensors --output overlap.txt --sheet overlap.png
                mpirun -np 4 acuity dataset overlap webface/train.rec lfw.bin --weights model.safetensors

                Every identity becomes the mean direction of its embeddings; those of the two sets whose cosine reaches the \
                threshold, or whose names are equal, are listed, and --output writes the training set's for data.exclude or \
                pack --exclude. Without --threshold it is set where about one training identity in a hundred looks as much like \
                somebody else of the test set, judged by all pairs of identities.
                """)

        @Argument(help: "The training set: a folder of identity folders, a list, a .rec file.")
        var training: String

        @Argument(help: "The test set: the same, or a .bin file.")
        var test: String

        @Option(help: "A weights file, or a run folder (its newest checkpoint).")
        var weights: String

        @Option(help: "The folder that the paths of the training list are relative to.")
        var folder: String?

        @Option(help: "The folder that the paths of the test list are relative to.")
        var testFolder: String?

        @Option(help: "The least cosine that counts as the same person; from the data by default.")
        var threshold: Double?

        @Option(help: "Test identities kept for each training identity.")
        var top = 3

        @Option(help: "Images embedded of each identity, spread evenly; 0 for all.")
        var imagesPerIdentity = 20

        @Option(help: "A list of the identities found, as data.exclude and pack --exclude take it.")
        var output: String?

        @Option(help: "A table of all candidates, the most alike first.")
        var report: String?

        @Option(help: "A picture of the first candidates side by side, a .png file.")
        var sheet: String?

        @Option(help: "Candidates that are printed beyond those found, and at least on the sheet.")
        var show = 20

        @OptionGroup var embedding: EmbeddingOptions

        @OptionGroup var session: SessionOptions

        func validate() throws {
            if let threshold, !(-1...1).contains(threshold) { throw ValidationError("--threshold must lie in -1...1") }
            if !(1...1000).contains(top) { throw ValidationError("--top must lie in 1...1000") }
            if imagesPerIdentity < 0 || show < 0 { throw ValidationError("counts must not be negative") }
        }

        func run() throws {
            try Session.run(session) { environment in
                let communicator = environment.communicator
                let (embedder, sides) = try communicator.together("set-up") {
                    let (network, card, _) = try ModelFile.open(weights)
                    let sides = [
                        OverlapReport.Side(try FaceSources.open(training, folder: folder)),
                        OverlapReport.Side(try DatasetSources.openTest(test, folder: testFolder)),
                    ]
                    if environment.isRoot {
                        for file in [output, report, sheet] { if let file { try Output.folder(of: file) } }
                    }
                    return (embedding.embedder(network, card.preprocessing, environment), sides)
                }
                let progress = WorkProgress(environment.isRoot ? environment.progress : .never)
                let centroids = try sides.enumerated().map { number, side in
                    try IdentityCentroids(
                        side.source, embedder, imagesPerIdentity: imagesPerIdentity == 0 ? nil : imagesPerIdentity,
                        communicator: communicator
                    ) { done, total in
                        progress.update(
                            number == 0 ? "embedding the training set" : "embedding the test set", done, of: total)
                    }
                }
                progress.finish()
                try communicator.together("comparison") {
                    guard environment.isRoot else { return }
                    let (limit, origin) = try leastCosine(centroids, environment.pool)
                    let nearest = try IdentityOverlap.nearest(
                        centroids[0].directions, centroids[1].directions, top: top, pool: environment.pool)
                    try write(
                        OverlapReport(
                            sides: sides, centroids: centroids, nearest: nearest, threshold: limit, origin: origin))
                }
                return Training.ExitCode.success
            }
        }

        private func leastCosine(_ centroids: [IdentityCentroids], _ pool: ThreadPool) throws -> (
            cosine: Double, origin: String
        ) {
            if let threshold { return (threshold, "as given") }
            guard
                let derived = try IdentityOverlap.threshold(
                    centroids[0].directions, centroids[1].directions, pool: pool)
            else {
                throw TrainingError.incompatible(
                    "\(training) and \(test) have too few identities to take a threshold from: give --threshold (0.5 is a start)"
                )
            }
            let text = String(
                format:
                    "about one training identity in a hundred reaches it by chance; of %d pairs a share of %g lies above "
                    + "%.3f, %g above %.3f", derived.pairs, derived.lower.tail, derived.lower.cosine,
                derived.upper.tail,
                derived.upper.cosine)
            return (derived.cosine, text)
        }

        private func write(_ found: OverlapReport) throws {
            print(found.text(show: show))
            if let report {
                try Output.write(found.table(), to: report)
                print("\(report): \(found.rows.count) candidates")
            }
            if let output {
                try Output.write(found.exclusions(), to: output)
                print("\(output): \(found.identities.count) identities of \(training)")
            }
            if let sheet {
                try Output.write(Data(try found.sheet(atLeast: show).png()), to: sheet)
                print(sheet)
            }
        }
    }
}
