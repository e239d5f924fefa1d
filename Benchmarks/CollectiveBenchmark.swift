package import Collectives

/// The time of what a step sends: gradients by the reducer's route, and plain collectives.
package struct CollectiveBenchmark: Sendable {
    package var repetitions = 10
    /// Of gradients that travel as messages.
    package var precision = GradientReducer.MessagePrecision.fp32

    package init() {}

    package struct Timing: Sendable {
        package var name: String
        package var mebibytes: Double
        /// Median seconds, of the slowest rank.
        package var seconds: Double
    }

    /// - Throws: `CollectiveError`.
    package func run(_ communicator: any Communicator, mebibytes sizes: [Double]) throws -> [Timing] {
        var timings: [Timing] = []
        for size in sizes {
            let count = max(16, Int(size * 262_144))
            let bucket = 1 << 20
            let buckets = stride(from: 0, to: count, by: bucket).map { $0..<min($0 + bucket, count) }
            let reducer = try GradientReducer(
                communicator: communicator, elementCount: count, bucketRanges: buckets, messages: precision)
            let gradients = try communicator.medianSeconds(of: repetitions) {
                reducer.begin()
                for index in buckets.indices { reducer.bucketReady(index) }
                _ = try reducer.finish()
            }
            timings.append(Timing(name: "gradients, \(reducer.route.rawValue)", mebibytes: size, seconds: gradients))
            var values = [Float](repeating: 1, count: count)
            let reduced = try communicator.medianSeconds(of: repetitions) {
                try values.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .max, "benchmark") }
            }
            timings.append(Timing(name: "all-reduce", mebibytes: size, seconds: reduced))
        }
        let barrier = try communicator.medianSeconds(of: repetitions) { try communicator.barrier("benchmark") }
        timings.append(Timing(name: "barrier", mebibytes: 0, seconds: barrier))
        return timings
    }
}
