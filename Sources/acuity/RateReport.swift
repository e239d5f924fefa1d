import Foundation

/// The rates of some steps as `acuity bench` states them.
struct RateReport {
    private let sorted: [Double]
    var firstStepSeconds: Double
    var lossFirst: Double?
    var lossLast: Double?
    var peakMemoryMiB: Double

    init(_ rates: [Double], firstStepSeconds: Double, lossFirst: Double?, lossLast: Double?, peakMemoryMiB: Double) {
        sorted = rates.sorted()
        self.firstStepSeconds = firstStepSeconds
        self.lossFirst = lossFirst
        self.lossLast = lossLast
        self.peakMemoryMiB = peakMemoryMiB
    }

    /// Between the two nearest of the sorted rates.
    private func quantile(_ q: Double) -> Double {
        let place = Double(sorted.count - 1) * q
        let low = Int(place)
        let high = min(low + 1, sorted.count - 1)
        return sorted[low] + (sorted[high] - sorted[low]) * (place - Double(low))
    }

    /// One JSON object.
    ///
    /// - Parameter what: its first members, such as `"network":"mobilefacenet"`.
    func json(_ what: String) -> String {
        let losses = [("loss_first", lossFirst), ("loss_last", lossLast)].compactMap { name, value in
            value.map { String(format: ",\"%@\":%.5f", name, $0) }
        }.joined()
        return String(
            format: "{%@,\"images_per_second_median\":%.3f,\"min\":%.3f,\"q1\":%.3f,\"q3\":%.3f,\"max\":%.3f,"
                + "\"first_step_s\":%.3f,\"peak_rss_mib\":%.0f%@}", what, quantile(0.5), sorted[0], quantile(0.25),
            quantile(0.75), sorted[sorted.count - 1], firstStepSeconds, peakMemoryMiB, losses)
    }

    /// For people: the median with its range, and the memory.
    var text: String {
        String(
            format: "%.1f images/s (%.1f-%.1f), peak %.0f MiB", quantile(0.5), sorted[0], sorted[sorted.count - 1],
            peakMemoryMiB)
    }
}
