import ArgumentParser
import FaceData
import Figures
import Foundation
import Telemetry
import Tensors
import Training

struct Dataset: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Inspect, check, pack, compare, align, degrade and make data sets.",
        subcommands: [
            Inspect.self, Verify.self, Pack.self, Pairs.self, Overlap.self, Align.self, Degrade.self, Preview.self,
            Synthesize.self,
        ])

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
            try Output.write(lines: rows, to: output + "/attributes.csv")
            print("\(output): \(source.count) images of \(identities) identities")
        }
    }
}
