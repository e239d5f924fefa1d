/// A two-sided interval for a rate.
package struct ConfidenceInterval: Sendable, Equatable, Codable {
    package enum Method: String, Sendable, Codable {
        /// Wilson's score interval of a binomial proportion.
        case wilson
        /// Percentiles over resampled pairs, genuine and impostor pairs drawn separately.
        case bootstrap
    }

    package let lower: Double
    package let upper: Double
    /// The coverage aimed at, e.g. 0.95.
    package let level: Double
    package let method: Method

    package init(lower: Double, upper: Double, level: Double, method: Method) {
        self.lower = lower
        self.upper = upper
        self.level = level
        self.method = method
    }

    /// The 95 % interval of `successes` out of `trials` (E. B. Wilson, JASA 22, 1927).
    package static func wilson(successes: Int, trials: Int) -> ConfidenceInterval {
        precondition(trials > 0 && (0...trials).contains(successes), "\(successes) successes of \(trials)")
        let z = 1.959963984540054
        let n = Double(trials)
        let rate = Double(successes) / n
        let scale = 1 / (1 + z * z / n)
        let centre = (rate + z * z / (2 * n)) * scale
        let half = z * scale * (rate * (1 - rate) / n + z * z / (4 * n * n)).squareRoot()
        return ConfidenceInterval(
            lower: max(0, centre - half), upper: min(1, centre + half), level: 0.95, method: .wilson)
    }
}

/// Small sums that several protocols share.
package enum Statistics {
    static func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }

    /// Population standard deviation (divides by n, as numpy does unless told otherwise).
    static func deviation(_ values: [Double]) -> Double {
        let mean = mean(values)
        return (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)).squareRoot()
    }

    /// Linear interpolation between order statistics (Hyndman and Fan's type 7), of ascending values.
    package static func quantile(_ sorted: [Double], _ fraction: Double) -> Double {
        let position = fraction * Double(sorted.count - 1)
        let low = min(max(Int(position), 0), sorted.count - 1)
        let high = min(low + 1, sorted.count - 1)
        return sorted[low] + (position - Double(low)) * (sorted[high] - sorted[low])
    }

    /// ⌊fraction · count⌋, unharmed by the rounding of a fraction such as 0.001 or 0.35.
    static func floorCount(_ fraction: Double, of count: Int) -> Int {
        Int((fraction * Double(count) + 1e-9).rounded(.down))
    }

    /// The number of ascending values below `limit`.
    static func countBelow(_ limit: Double, in sorted: [Double]) -> Int {
        var (low, high) = (0, sorted.count)
        while low < high {
            let middle = (low + high) / 2
            if sorted[middle] < limit { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Area under y(x) by the trapezoid rule.
    static func trapezoid(_ x: [Double], _ y: [Double]) -> Double {
        var area = 0.0
        for i in 1..<max(1, x.count) { area += (x[i] - x[i - 1]) * (y[i] + y[i - 1]) / 2 }
        return area
    }
}
