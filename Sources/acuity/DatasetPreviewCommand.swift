import ArgumentParser
import FaceData
import Figures
import Foundation
import Recipes
import Training

extension Dataset {
    struct Preview: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show what the network of a recipe would see: a contact sheet of its inputs.",
            discussion: """
                acuity dataset preview configs/real-faces.yaml data.train=photos data.augment.recipe=adaface \
                --output sheet.png

                The images are made by the loader as in training, with augmentation, mirroring, crop and channel order, and \
                turned back from the numbers that the network gets. Captions are record and epoch. An identity with fewer \
                images than columns shows them as they are in the following epochs.
                """)

        @OptionGroup var recipe: RecipeArguments

        @Option(help: "The PNG file to write.")
        var output: String

        @Option(help: "Identities, spread over the data; one to a row.")
        var identities = 8

        @Option(help: "Images of each.")
        var count = 8

        @Option(help: "The epoch, from 0.")
        var epoch = 0

        @Flag(help: "Show the planes as red, green and blue in the order that the network gets them in.")
        var planes = false

        func validate() throws {
            try recipe.require()
            if identities < 1 || count < 1 || identities * count > 1024 || identities > 1024 || count > 1024 {
                throw ValidationError("a sheet holds 1 to 1024 faces")
            }
            if epoch < 0 || epoch > 1_000_000_000 { throw ValidationError("--epoch must lie in 0...1000000000") }
        }

        func run() throws {
            try Command.run {
                let recipe = recipe.read()
                let source = try RunSetup.source(recipe.data)
                let loading = RunSetup.loaderOptions(recipe)
                let rows = min(identities, source.classCount)
                let labels = (0..<rows).map { $0 * source.classCount / rows }
                let members = IdentityTable(source)
                let wanted: [(record: Int, epoch: Int)] = labels.flatMap { label in
                    let records = Array(members.records(of: label))
                    return (0..<count).map {
                        (record: Int(records[$0 % records.count]), epoch: epoch + $0 / records.count)
                    }
                }
                let preview = try BatchPreview(of: source, wanted, options: loading)
                let views = loading.views.count
                let pictures = BatchPictures.images(
                    preview.images, 0..<views * wanted.count, loading.preprocessing, planes: planes)
                var items: [ContactSheet.Item] = []
                for row in 0..<rows {
                    for view in 0..<views {
                        for column in 0..<count {
                            let index = view * wanted.count + row * count + column
                            items.append(
                                ContactSheet.Item(
                                    pictures[index],
                                    caption: ["#\(preview.records[index]) e\(wanted[row * count + column].epoch)"]))
                        }
                    }
                }
                let names = labels.flatMap { label in
                    (0..<views).map { view in source.identityName(label) + (view == 0 ? "" : " (view \(view + 1))") }
                }
                try Output.folder(of: output)
                let sheet = ContactSheet(items, columns: count, title: title(recipe, loading), rowLabels: names)
                try Output.write(Data(sheet.png()), to: output)
                print("\(output): \(wanted.count) images of \(rows) identities, \(augmentation(recipe))")
            }
        }

        private func augmentation(_ recipe: Recipe) -> String {
            RunSetup.augmentation(recipe) ?? "no augmentation"
        }

        private func title(_ recipe: Recipe, _ loading: BatchLoader.Options) -> String {
            let order = loading.preprocessing.channelOrder.rawValue
            let name = RunSetup.augmentation(recipe, inFull: false).map { ", \($0)" } ?? ""
            let shown = planes ? "planes as they are (\(order))" : "channel order \(order)"
            return "epoch \(epoch)\(name), \(shown)"
        }
    }
}
