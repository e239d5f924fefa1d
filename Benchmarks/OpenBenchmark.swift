import FaceData
import Foundation
package import Recipes
import Tensors
import Training

/// What it costs to open a data set and to go to any place of a run on it.
package struct OpenBenchmark: Sendable {
    /// Its `data` and `run.seed` are looked at.
    package var recipe: Recipe
    package var globalBatch = 512
    /// The epoch, from 0, in the middle of which the second batch lies.
    package var epoch = 3
    /// Whether the batches are loaded, and not only their records found.
    package var loads = false

    package init(recipe: Recipe) { self.recipe = recipe }

    package struct Result: Sendable {
        package var images = 0
        package var identities = 0
        package var openSeconds = 0.0
        /// Of index and labels, where the source knows.
        package var tableMiB: Double?
        /// Of this process when the data was open, and at most until then.
        package var residentMiB = 0.0
        package var peakMiB = 0.0
        package var first = Place()
        package var middle = Place()

        /// One JSON object.
        package func json(keys: Bool) -> String {
            func object(_ place: Place) -> [String: Any] {
                var object: [String: Any] = ["position": place.position, "sample_seconds": place.sampleSeconds]
                if let seconds = place.loadSeconds {
                    object["load_seconds"] = seconds
                    object["unreadable"] = place.unreadable
                }
                if keys { object["keys"] = place.keys }
                return object
            }
            var all: [String: Any] = [
                "images": images, "identities": identities, "open_seconds": openSeconds, "resident_mib": residentMiB,
                "peak_mib": peakMiB, "first": object(first), "middle": object(middle),
            ]
            all["table_mib"] = tableMiB
            let data = try? JSONSerialization.data(
                withJSONObject: all, options: [.sortedKeys, .withoutEscapingSlashes])
            return String(decoding: data ?? Data(), as: UTF8.self)
        }
    }

    /// One batch.
    package struct Place: Sendable {
        package var position = 0
        /// From the position to the records' indices and labels.
        package var sampleSeconds = 0.0
        /// From the position to the images, threads started anew.
        package var loadSeconds: Double?
        package var unreadable = 0
        package var keys: [String] = []
    }

    /// - Throws: `FaceDataError`; `SamplerError`.
    package func run() throws -> Result {
        var result = Result()
        let start = monotonicSeconds()
        let source = try RunSetup.source(recipe.data)
        result.openSeconds = monotonicSeconds() - start
        result.images = source.count
        result.identities = source.classCount
        result.tableMiB = (source as? RecordIOSource).map { Double($0.byteCount) / 1_048_576 }
        result.residentMiB = Self.memory("VmRSS")
        result.peakMiB = Self.memory("VmHWM")
        result.first = try place(0, source)
        let sampler = try RunSetup.sampler(recipe.data, source, globalBatch: globalBatch, seed: recipe.run.seed)
        let position = epoch * sampler.imagesPerEpoch + sampler.stepsPerEpoch / 2 * globalBatch
        result.middle = try place(position, source)
        return result
    }

    private func place(_ position: Int, _ source: any FaceSource) throws -> Place {
        var place = Place()
        place.position = position
        var start = monotonicSeconds()
        let sampler = try RunSetup.sampler(recipe.data, source, globalBatch: globalBatch, seed: recipe.run.seed)
        let records = sampler.records(at: position)
        let labels = records.map(source.label)
        place.sampleSeconds = monotonicSeconds() - start
        precondition(labels.allSatisfy { $0 < source.classCount }, "a label out of range")
        place.keys = records.map(source.key)
        if loads {
            start = monotonicSeconds()
            var options = RunSetup.loaderOptions(recipe)
            options.prefetch = 1
            let loader = BatchLoader(source: source, sampler: sampler, position: position, options: options)
            let batch = try loader.next()
            place.loadSeconds = monotonicSeconds() - start
            place.unreadable = batch.quarantined.count
            precondition(
                place.unreadable > 0 || batch.records == records, "the loader has other records than the sampler")
        }
        return place
    }

    /// A line of /proc/self/status, in MiB.
    private static func memory(_ name: String) -> Double {
        let text = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix(name + ":") }
        let kibibytes = line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Double($0) }
        return (kibibytes ?? 0) / 1024
    }
}
