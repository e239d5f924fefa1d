import Benchmarks
import Evaluation
import Foundation

/// Rates that were measured one after the other: their median and their range.
struct Rates {
    private let sorted: [Double]

    init(_ rates: [Double]) { sorted = rates.sorted() }

    var least: Double { sorted[0] }
    var most: Double { sorted[sorted.count - 1] }
    var median: Double { quantile(0.5) }

    /// Between the two nearest of the sorted rates.
    func quantile(_ fraction: Double) -> Double { Statistics.quantile(sorted, fraction) }
}

/// The rates of some steps as `acuity bench` states them.
struct RateReport {
    private let rates: Rates
    private let times: StepTimes

    init(_ times: StepTimes) {
        self.times = times
        rates = Rates(times.rates)
    }

    /// One JSON object.
    ///
    /// - Parameter what: its first members, such as `"network":"mobilefacenet"`.
    func json(_ what: String) -> String {
        let losses = [("loss_first", times.lossFirst), ("loss_last", times.lossLast)].compactMap { name, value in
            value.map { String(format: ",\"%@\":%.5f", name, $0) }
        }.joined()
        return String(
            format: "{%@,\"steps\":%d,\"images_per_second_median\":%.3f,\"min\":%.3f,\"q1\":%.3f,\"q3\":%.3f,\"max\":%.3f,"
                + "\"first_step_s\":%.3f,\"peak_rss_mib\":%.0f%@}", what, times.rates.count, rates.median, rates.least,
            rates.quantile(0.25), rates.quantile(0.75), rates.most, times.firstStepSeconds, times.peakMemoryMiB, losses)
    }

    /// For people: the median with its range, and the memory.
    var text: String {
        String(
            format: "%.1f images/s (%.1f-%.1f), peak %.0f MiB", rates.median, rates.least, rates.most,
            times.peakMemoryMiB)
    }
}
