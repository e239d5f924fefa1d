import ArgumentParser
import FaceData
import Foundation
import Networks
import Recipes
import Training

struct Config: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show or check recipes.", subcommands: [Show.self, Check.self])

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print the merged recipe with every default.")

        @OptionGroup var recipe: RecipeArguments

        @Flag(help: "Print where each value that was set comes from.")
        var origins = false

        func run() throws {
            try Command.run {
                if origins {
                    var tree = ConfigTree()
                    for file in recipe.files { try tree.merge(file: file) }
                    for text in recipe.overrides { try tree.merge(override: text) }
                    _ = try Recipe(tree)
                    for (key, origin) in Recipe.origins(tree) { print("\(key)  (\(origin))") }
                } else {
                    print(recipe.read().yaml, terminator: "")
                }
            }
        }
    }

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check a recipe: keys, values, the network, and that its files are there.")

        @OptionGroup var recipe: RecipeArguments

        func validate() throws { try recipe.require() }

        func run() throws {
            try Command.run {
                let recipe = recipe.read()
                let network = try RunSetup.specification(recipe.network).build()
                let source = try RunSetup.source(recipe.data)
                for set in recipe.evaluation.sets { _ = try VerificationSets.open(set) }
                print(
                    "\(recipe.network.name): \(network.parameterCount) parameters; \(source.count) images of "
                        + "\(source.classCount) identities; \(recipe.evaluation.sets.count) evaluation set(s): sound")
            }
        }
    }
}
