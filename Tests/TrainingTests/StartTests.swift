import Artifacts
import Foundation
import Layers
import Networks
import Objectives
import Recipes
import Tensors
import Testing
import Training

/// What `init:` promises.
@Suite(.serialized) struct StartTests {
    /// Names and bytes of everything that a run has learnt or will learn.
    private struct Values: Equatable {
        var parameters: [String: [Float]] = [:]
        /// In global order.
        var centres: [Float] = []
        var centreMomentum: [Float] = []

        func moved(from other: Values) -> [String] {
            parameters.keys.filter { parameters[$0] != other.parameters[$0] }.sorted()
        }
    }

    /// Before and after `recipe`'s steps on two ranks.
    private func values(_ recipe: Recipe, resume: Bool = false) throws -> (start: Values, end: Values) {
        let ranks = try TinyRun.onRanks(recipe, ranks: 2, resume: resume) { trainer, _ in
            func now() -> Values {
                var values = Values()
                for parameter in trainer.network.parameters {
                    values.parameters[parameter.name] = Array(parameter.value.floats)
                }
                values.centres = Array(trainer.head.classifier.centres.floats)
                values.centreMomentum = Array(trainer.head.classifier.momentum.floats)
                return values
            }
            let start = now()
            _ = try trainer.run()
            return (start, now())
        }
        func joined(_ part: ((Values, Values)) -> Values) -> Values {
            var whole = part(ranks[0])
            #expect(part(ranks[1]).parameters == whole.parameters)
            whole.centres += part(ranks[1]).centres
            whole.centreMomentum += part(ranks[1]).centreMomentum
            return whole
        }
        return (joined(\.0), joined(\.1))
    }

    private func recipe(
        _ folder: TemporaryFolder, _ name: String, steps: Int = 2, _ change: (inout Recipe) -> Void = { _ in }
    ) -> Recipe {
        TinyRun.recipe(folder.file(name)) {
            $0.schedule.maxSteps = steps
            change(&$0)
        }
    }

    private func weights(_ recipe: Recipe) throws -> String {
        try TinyRun.checkpoint(recipe, step: 2).folder + "/" + CheckpointContents.modelFile
    }

    @Test func weightsAndCentresOfAnEarlierRun() throws {
        let folder = try TemporaryFolder()
        let first = recipe(folder, "first")
        let earlier = try values(first).end
        #expect(earlier.centreMomentum.contains { $0 != 0 })
        let file = try weights(first)
        // The run means its newest checkpoint.
        let whole = try values(recipe(folder, "whole") { $0.start.weights = first.run.folder })
        #expect(whole.start.parameters == earlier.parameters && whole.start.centres != earlier.centres)
        let second = try values(
            recipe(folder, "second") {
                $0.run.seed = 6
                $0.start.weights = file
                $0.start.head = first.run.folder
            })
        #expect(second.start.parameters == earlier.parameters && second.start.centres == earlier.centres)
        // A new run, at rest.
        #expect(second.start.centreMomentum.allSatisfy { $0 == 0 })
        #expect(second.end.centres != earlier.centres)
    }

    @Test func weightsThatDoNotFit() throws {
        let folder = try TemporaryFolder()
        let first = recipe(folder, "first")
        let earlier = try values(first).end
        let file = try weights(first)
        let wider = recipe(folder, "wider") {
            $0.network.embedding = 80
            $0.start.weights = file
        }
        for failure in try TinyRun.failures(wider, ranks: 2) {
            #expect(failure?.exitCode == 65 && failure?.message.contains("linear1.conv.weight") == true)
        }
        // Partial: what fits is taken, the rest starts at random, and is said.
        var partial = wider
        partial.start.match = .partial
        let log = LogCapture()
        let taken = try TinyRun.onRanks(partial, ranks: 2, log: log) { trainer, _ -> [String: [Float]] in
            trainer.network.parameters.reduce(into: [:]) { $0[$1.name] = Array($1.value.floats) }
        }[0]
        let own = try values(recipe(folder, "own") { $0.network.embedding = 80 }).start.parameters
        for (name, value) in taken {
            let expected = earlier.parameters[name].flatMap { $0.count == value.count ? $0 : nil } ?? own[name]
            #expect(value == expected, "\(name)")
        }
        #expect(log.warnings.filter { $0.contains("linear1.conv.weight") }.count == 1)
        // Centres of another length are refused, not taken apart.
        let head = recipe(folder, "head") {
            $0.network.embedding = 80
            $0.start.head = first.run.folder
        }
        for failure in try TinyRun.failures(head, ranks: 2) {
            #expect(failure?.exitCode == 65 && failure?.message.contains("64 components") == true)
        }
    }

    @Test func weightsOfAnotherPreprocessing() throws {
        let folder = try TemporaryFolder()
        let first = recipe(folder, "first")
        try TinyRun.train(first, ranks: 1)
        let file = try weights(first)
        let other = recipe(folder, "bgr") {
            $0.data.channelOrder = .bgr
            $0.start.weights = file
        }
        for failure in try TinyRun.failures(other, ranks: 2) {
            #expect(failure?.exitCode == 65 && failure?.message.contains("channel order rgb") == true)
        }
    }

    @Test func frozenPrefixesStay() throws {
        let folder = try TemporaryFolder()
        let frozen = recipe(folder, "frozen") { $0.start.freeze = ["conv1", "dw_conv1", "blocks.0."] }
        let run = try values(frozen)
        let moved = run.end.moved(from: run.start)
        func isFrozen(_ name: String) -> Bool {
            ["conv1", "dw_conv1", "blocks.0."].contains { name.hasPrefix($0) }
        }
        #expect(!moved.contains(where: isFrozen) && run.start.parameters.keys.contains(where: isFrozen))
        #expect(moved == run.start.parameters.keys.filter { !isFrozen($0) }.sorted())
        #expect(run.end.centres != run.start.centres)

        let nothing = recipe(folder, "nothing") { $0.start.freeze = ["convolution"] }
        for failure in try TinyRun.failures(nothing, ranks: 2) {
            #expect(failure?.message.contains("no parameter of mobilefacenet begins with 'convolution'") == true)
        }
    }

    /// Every name begins with the empty prefix: only the head trains.
    @Test func aWhollyFrozenBackbone() throws {
        let folder = try TemporaryFolder()
        let whole = recipe(folder, "whole", steps: 3) { $0.start.freeze = [""] }
        let run = try values(whole)
        #expect(run.end.moved(from: run.start).isEmpty && run.end.centres != run.start.centres)
        try TinyRun.train(recipe(folder, "parts") { $0.start.freeze = [""] }, ranks: 2)
        let parts = recipe(folder, "parts", steps: 3) { $0.start.freeze = [""] }
        try TinyRun.train(parts, ranks: 2, resume: true)
        #expect(TinyRun.differences(try TinyRun.files(whole, step: 3), try TinyRun.files(parts, step: 3)).isEmpty)
    }

    @Test func aFrozenHead() throws {
        let folder = try TemporaryFolder()
        let first = recipe(folder, "first") { $0.start.freeze = ["head"] }
        let run = try values(first)
        #expect(run.end.centres == run.start.centres)
        #expect(run.end.moved(from: run.start).count == run.start.parameters.count)
        // Its checkpoint has no momentum of the head: it can be resumed, and given to another run.
        let more = try values(recipe(folder, "first", steps: 3) { $0.start.freeze = ["head"] }, resume: true)
        #expect(more.start == run.end && more.end.centres == run.start.centres && more.end != run.end)
        let second = try values(
            recipe(folder, "second") {
                $0.run.seed = 6
                $0.start.head = first.run.folder
            })
        #expect(second.start.centres == run.start.centres && second.end.centres != run.start.centres)
    }

    @Test func learningRateFactors() throws {
        let folder = try TemporaryFolder()
        let plain = try values(recipe(folder, "plain", steps: 1))
        let scaled = try values(
            recipe(folder, "scaled", steps: 1) {
                $0.start.learningRateFactors = ["head": 2, "blocks": 0.5, "blocks.1.": 0, "linear1": 4]
            })
        #expect(plain.start == scaled.start)
        func check(_ factor: Double, _ name: String, _ start: [Float], _ one: [Float], _ other: [Float]) {
            var largest = 0.0
            var error = 0.0
            for ((s, a), b) in zip(zip(start, one), other) {
                largest = max(largest, abs(Double(a) - Double(s)))
                error = max(error, abs(Double(b) - Double(s) - factor * (Double(a) - Double(s))))
            }
            // The rounding of the values themselves: half a unit in the last place of about one.
            #expect(largest > 0 && error <= 1e-4 * largest + 5e-7, "\(name): \(error) of \(largest)")
        }
        for (name, start) in plain.start.parameters {
            let factor =
                name.hasPrefix("blocks.1.")
                ? 0 : name.hasPrefix("blocks") ? 0.5 : name.hasPrefix("linear1") ? 4.0 : 1
            check(factor, name, start, plain.end.parameters[name]!, scaled.end.parameters[name]!)
            if factor == 0 { #expect(scaled.end.parameters[name] == start) }
        }
        check(2, "head", plain.start.centres, plain.end.centres, scaled.end.centres)
    }
}
