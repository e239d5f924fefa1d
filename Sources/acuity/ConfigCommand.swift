import ArgumentParser
import Collectives
import FaceData
import Foundation
import Logging
import Networks
import Recipes
import Telemetry
import Tensors
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
                    for (key, value) in tree.leaves { print("\(key)  (\(value.origin))") }
                } else {
                    print(recipe.read().yaml, terminator: "")
                }
            }
        }
    }

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check a recipe as a run would: keys, values, what goes together, the data and the files it names.")

        @OptionGroup var recipe: RecipeArguments

        func validate() throws { try recipe.require() }

        func run() throws {
            try Command.run {
                let recipe = recipe.read()
                let check = try RunCheck(
                    recipe,
                    RunEnvironment(
                        communicator: SoloCommunicator(), pool: ThreadPool(threads: ThreadPool.availableProcessors),
                        logger: Logger(label: "acuity") { StandardErrorLog(label: $0, level: .warning) }, progress: .never))
                print(
                    "\(recipe.network.name): \(check.network.parameterCount) parameters; \(check.source.count) images of "
                        + "\(check.source.classCount) identities; \(recipe.evaluation.sets.count) evaluation set(s): sound")
            }
        }
    }
}
