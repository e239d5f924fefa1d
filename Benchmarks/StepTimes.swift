import Collectives

/// What the benchmarks of steps state.
package struct StepTimes: Sendable {
    /// Rows of all ranks per second, images or embeddings, in each measured step.
    package var rates: [Double]
    package var firstStepSeconds: Double
    package var lossFirst: Double?
    package var lossLast: Double?
    /// Sum of all ranks' peaks.
    package var peakMemoryMiB: Double
    /// Of this rank, seconds of a mean step.
    package var stepSeconds: Double

    /// Collective.
    ///
    /// - Parameters:
    ///   - seconds: of every step, the first `warmup` of which are not measured.
    ///   - rows: of all ranks together, in a step.
    ///   - losses: of the steps; nil where there are none.
    init(
        _ seconds: [Double], warmup: Int, rows: Int, losses: [Double]?, _ communicator: any Communicator
    ) throws {
        let measured = seconds.dropFirst(warmup)
        rates = measured.map { Double(rows) / $0 }
        firstStepSeconds = seconds[0]
        lossFirst = losses?.first
        lossLast = losses?.last
        peakMemoryMiB = try PeakMemory.sum(communicator)
        stepSeconds = measured.reduce(0, +) / Double(max(measured.count, 1))
    }
}
