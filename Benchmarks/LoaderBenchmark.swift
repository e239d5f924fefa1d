package import Collectives
package import FaceData
package import Recipes
import Tensors
import Training

/// How many images per second the loader delivers when nothing waits for it: decoded, mirrored, normalised, in batches.
package struct LoaderBenchmark: Sendable {
    /// Its `data` and `run.seed` are looked at.
    package var recipe = Recipe()
    /// Images of all ranks together.
    package var globalBatch = 64
    package var batches = 200
    /// The batches are timed in so many groups.
    package var groups = 10

    package init() {}

    package struct Result: Sendable {
        /// Images per second of all ranks, by their slowest, in each group.
        package var rates: [Double]
        package var images: Int
        package var quarantined: Int
        /// Of the threads of this rank.
        package var times: LoaderTimes
        /// Sum of all ranks' peaks.
        package var peakMemoryMiB: Double
    }

    /// - Throws: `FaceDataError`; `SamplerError`; `CollectiveError`.
    package func run(_ source: any FaceSource, _ communicator: any Communicator) throws -> Result {
        let sampler = try RunSetup.sampler(recipe.data, source, globalBatch: globalBatch, seed: recipe.run.seed)
        var options = RunSetup.loaderOptions(recipe)
        options.quarantineLimit = .max
        let loader = BatchLoader(
            source: source, sampler: sampler, rank: communicator.rank, worldSize: communicator.size, options: options)
        // The first batches start the threads and open the files.
        for _ in 0..<options.prefetch + 1 { _ = try loader.next() }
        let before = loader.times
        var rates: [Double] = []
        for group in 0..<min(groups, batches) {
            let count = batches * (group + 1) / min(groups, batches) - batches * group / min(groups, batches)
            try communicator.barrier("benchmark")
            let start = monotonicSeconds()
            for _ in 0..<count { _ = try loader.next() }
            let seconds = try communicator.allReduce(monotonicSeconds() - start, .max, "benchmark")
            rates.append(Double(count * globalBatch) / seconds)
        }
        var times = loader.times
        times.subtract(before)
        return Result(
            rates: rates, images: source.count, quarantined: loader.quarantinedCount, times: times,
            peakMemoryMiB: try PeakMemory.sum(communicator))
    }
}
