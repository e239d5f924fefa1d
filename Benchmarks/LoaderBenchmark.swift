package import Collectives
package import FaceData
import Recipes
import Training

/// How many images per second the loader delivers when nothing waits for it: decoded, mirrored, normalised, in batches.
package struct LoaderBenchmark: Sendable {
    package var workers = 1
    /// Images of all ranks together.
    package var globalBatch = 64
    package var batches = 200
    /// What is done to each image.
    package var degradation: DegradationRecipe?

    package init() {}

    package struct Result: Sendable {
        /// Images per second of all ranks, by their slowest.
        package var rate: Double
        package var images: Int
        package var quarantined: Int
    }

    /// - Throws: `FaceDataError`; `CollectiveError`.
    package func run(_ source: any FaceSource, _ communicator: any Communicator) throws -> Result {
        let sampler = try EpochSampler(recordCount: source.count, globalBatch: globalBatch, seed: 1)
        let loader = BatchLoader(
            source: source, sampler: sampler, rank: communicator.rank, worldSize: communicator.size,
            options: .init(
                seed: 1, threads: workers, quarantineLimit: .max,
                views: [degradation.map { View.degraded($0) } ?? View()]))
        // The first batches start the threads and open the files.
        for _ in 0..<2 { _ = try loader.next() }
        try communicator.barrier("benchmark")
        let start = monotonicSeconds()
        for _ in 0..<batches { _ = try loader.next() }
        var seconds = [monotonicSeconds() - start]
        try seconds.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .max, "benchmark") }
        return Result(
            rate: Double(batches * globalBatch) / seconds[0], images: source.count,
            quarantined: loader.quarantinedCount)
    }
}
