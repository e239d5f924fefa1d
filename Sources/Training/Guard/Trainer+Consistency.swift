import Collectives
import FaceData
import Recipes
import Tensors

extension Trainer {
    /// Compares the parameters of all ranks, bit by bit as far as a hash can tell. Collective.
    ///
    /// - Throws: `RunFailure` on every rank, naming the ranks that differ; `CollectiveError`.
    package func compareParameters() throws {
        let communicator = environment.communicator
        guard communicator.size > 1 else { return }
        let start = monotonicSeconds()
        let hash = Consistency.hash(UnsafeBufferPointer(step.arena.values.floats))
        try Consistency.check(
            "parameters after step \(state.step)", .init(hash: hash), over: communicator,
            exitCode: ExitCode.internalError,
            advice:
                "they are updated alike from the same sums, so the memory or the arithmetic of a host has failed; resume "
                + "from the last checkpoint without it")
        recorder.consistencySeconds += monotonicSeconds() - start
    }

    /// Compares what was given to each rank before anything is made of it. Collective.
    static func compareRecipes(_ recipe: Recipe, _ environment: RunEnvironment) throws {
        let host = "recipe " + String(recipe.yaml.stableHash, radix: 16)
        try Consistency.check(
            "program", .init(hash: ModelFile.version.stableHash, text: "version \(ModelFile.version)"),
            over: environment.communicator, exitCode: ExitCode.badData, advice: "install the same version on every host"
        )
        try Consistency.check(
            "recipe", .init(hash: recipe.yaml.stableHash, text: host), over: environment.communicator,
            exitCode: ExitCode.badData, advice: "give every rank the same files and overrides")
    }

    /// Compares what each rank has opened. Collective.
    static func compareData(_ source: any FaceSource, _ communicator: any Communicator) throws {
        guard communicator.size > 1 else { return }
        try Consistency.check(
            "data", Consistency.fingerprint(source), over: communicator, exitCode: ExitCode.badData,
            advice: "every rank must see the same data in the same order")
    }

    /// Compares the teacher and the tables that each rank has read. Collective.
    ///
    /// - Parameter origins: hashes, by the recipe's key.
    static func compareOrigins(_ origins: [String: String], _ communicator: any Communicator) throws {
        for (key, hash) in origins.sorted(by: { $0.key < $1.key }) where key != images {
            try Consistency.check(
                key, .init(hash: hash.stableHash, text: hash), over: communicator, exitCode: ExitCode.badData,
                advice: "every host must read the same file")
        }
    }

    /// Adds an update to what is known of each rank's time, and every so many updates finds out whom the others wait for.
    /// Collective.
    ///
    /// - Parameters:
    ///   - seconds: of the whole update.
    ///   - dataWait: of this rank, seconds.
    ///   - isFirst: waits for the loader to start, and counts for nothing.
    func noteTimes(_ report: StepReport, seconds: Double, dataWait: Double, isFirst: Bool) throws {
        let communicator = environment.communicator
        if isFirst { return }
        rankTimes.add(communicator.ring, seconds: seconds, reduceWait: report.reduceWait, dataWait: dataWait)
        guard communicator.size > 1, state.step % recipe.log.everySteps == 0, rankTimes.steps >= RankTimes.fewest
        else { return }
        let shares = try rankTimes.exchange(communicator)
        guard environment.isRoot, let straggler = RankTimes.straggler(shares) else { return }
        try recorder.straggler(straggler, shares, hosts: hosts, step: state.step)
    }
}
