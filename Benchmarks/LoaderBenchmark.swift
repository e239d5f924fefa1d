package import Collectives
package import FaceData
import Recipes
import Tensors
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
                seed: 1, threads: workers, quarantineLimit: .max, views: [degradation.map { View.degraded($0) } ?? View()]))
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

    /// How long a recipe takes on one image of this source, on one thread, decoding left out.
    ///
    /// - Returns: mean seconds per image.
    /// - Throws: `FaceDataError` where an image cannot be read.
    package static func seconds(_ recipe: DegradationRecipe, on source: any FaceSource) throws -> Double {
        let preprocessing = Preprocessing.arcFace
        let count = min(64, source.count)
        let faces = try (0..<count).map { preprocessing.fitted(try source.image(at: $0 * source.count / count)) }
        let scratch = ImageScratch()
        var images = 0
        func round(_ number: Int) {
            for (index, face) in faces.enumerated() {
                let context = ViewContext(seed: 1, record: index, epoch: number, view: 0)
                var random = context.random(.degradation)
                _ = recipe.apply(to: face, &random, scratch: scratch)
                images += 1
            }
        }
        // The first rounds make the tables.
        for number in 0..<4 { round(number) }
        images = 0
        let start = monotonicSeconds()
        var number = 4
        while monotonicSeconds() - start < 2 {
            round(number)
            number += 1
        }
        let seconds = monotonicSeconds() - start
        return seconds / Double(images)
    }
}
