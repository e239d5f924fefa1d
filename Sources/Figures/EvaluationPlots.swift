/// Receiver operating characteristics: true accept rate over false accept rate, the latter on a logarithmic axis.
package enum ROCPlot {
    package struct Curve: Sendable {
        package let name: String
        package let falseAcceptRates: [Double]
        package let trueAcceptRates: [Double]

        /// By descending threshold, so that both rates rise.
        package init(_ name: String, falseAcceptRates: [Double], trueAcceptRates: [Double]) {
            precondition(falseAcceptRates.count == trueAcceptRates.count, "one true accept rate per false accept rate")
            self.name = name
            self.falseAcceptRates = falseAcceptRates
            self.trueAcceptRates = trueAcceptRates
        }
    }

    /// - Parameters:
    ///   - lowest: the left end of the axis; what is accepted before the first impostor is drawn from there. About one
    ///     over the number of impostor pairs: nothing is known further left.
    ///   - range: of the true accept rate; all that the curves show by default.
    package static func plot(
        _ curves: [Curve], title: String = "", lowest: Double = 1e-4, range: ClosedRange<Double>? = nil,
        width: Double = 480, height: Double = 340
    ) -> Plot {
        precondition(lowest > 0 && lowest < 1, "lowest false accept rate \(lowest)")
        let series = curves.map { curve -> Plot.Series in
            // What lies left of the axis is one point on its edge: the last of it.
            let left = curve.falseAcceptRates.prefix { $0 <= lowest }.count
            let points = zip(curve.falseAcceptRates, curve.trueAcceptRates).dropFirst(max(0, left - 1))
            return Plot.Series(curve.name, points.map { Point(max($0, lowest), $1) }, style: .steps)
        }
        let lowestShown = series.compactMap { $0.points.first?.y }.min() ?? 0
        let step = lowestShown > 0.95 ? 0.01 : lowestShown > 0.8 ? 0.05 : 0.1
        let bottom = max(0, ((lowestShown - 0.3 * step) / step).rounded(.down) * step)
        return Plot(
            title: title, x: Plot.Axis("False accept rate", scale: .logarithmic, range: lowest...1),
            y: Plot.Axis("True accept rate (%)", range: range ?? bottom...1 + 0.04 * (1 - bottom), percent: true),
            series: series, width: width, height: height)
    }
}

/// A quantity over steps, as it came and smoothed.
package enum LossPlot {
    package struct Curve: Sendable {
        package let name: String
        package let steps: [Double]
        package let values: [Double]

        package init(_ name: String, steps: [Double], values: [Double]) {
            precondition(steps.count == values.count, "one value per step")
            self.name = name
            self.steps = steps
            self.values = values
        }
    }

    /// - Parameters:
    ///   - smoothing: the weight of the past in an exponential moving average that starts without bias; 0 for none.
    ///     The values themselves stay behind it, pale.
    ///   - logarithmic: the value's axis.
    package static func plot(
        _ curves: [Curve], title: String = "", x: String = "Step", y: String = "Loss", smoothing: Double = 0.9,
        logarithmic: Bool = false, width: Double = 480, height: Double = 340
    ) -> Plot {
        precondition(smoothing >= 0 && smoothing < 1, "smoothing \(smoothing)")
        var (behind, front): ([Plot.Series], [Plot.Series]) = ([], [])
        for (index, curve) in curves.enumerated() {
            let colour = Colour.palette[index % Colour.palette.count]
            let points = zip(curve.steps, curve.values).map { Point($0, $1) }
            if smoothing > 0, points.count > 2 {
                behind.append(Plot.Series("", points, colour: colour.paler(0.65), width: 0.8))
            }
            let shown = smoothing > 0 && points.count > 2 ? smoothed(points, smoothing) : points
            front.append(Plot.Series(curve.name, shown, colour: colour))
        }
        return Plot(
            title: title, x: Plot.Axis(x), y: Plot.Axis(y, scale: logarithmic ? .logarithmic : .linear),
            series: behind + front, width: width, height: height)
    }

    /// Values that are not finite stay gaps and leave the average as it is.
    private static func smoothed(_ points: [Point], _ weight: Double) -> [Point] {
        var (sum, total) = (0.0, 0.0)
        return points.map { point in
            guard point.y.isFinite else { return point }
            sum = weight * sum + (1 - weight) * point.y
            total = weight * total + (1 - weight)
            return Point(point.x, sum / total)
        }
    }
}

/// How often each score comes among genuine and among impostor pairs, each as a share of its kind.
package enum HistogramPlot {
    package struct Counts: Sendable {
        package let name: String
        package let counts: [Int]

        package init(_ name: String, _ counts: [Int]) {
            self.name = name
            self.counts = counts
        }
    }

    /// - Parameters:
    ///   - range: from the left edge of the first bin to the right edge of the last; all bins are equally wide.
    ///   - threshold: a dashed line at a score.
    package static func plot(
        _ histograms: [Counts], range: ClosedRange<Double>, title: String = "", x: String = "Cosine similarity",
        threshold: Double? = nil, width: Double = 480, height: Double = 340
    ) -> Plot {
        var highest = 0.0
        var series = histograms.map { histogram in
            let total = Double(max(1, histogram.counts.reduce(0, +)))
            let step = (range.upperBound - range.lowerBound) / Double(max(1, histogram.counts.count))
            var points = histogram.counts.enumerated().map { bin, count in
                Point(range.lowerBound + Double(bin) * step, Double(count) / total)
            }
            points.append(Point(range.upperBound, 0))
            highest = max(highest, points.map(\.y).max() ?? 0)
            return Plot.Series(histogram.name, points, style: .bars, opacity: 0.6)
        }
        let top = highest > 0 ? highest * 1.08 : 1
        if let threshold {
            series.append(
                Plot.Series(
                    "threshold", [Point(threshold, 0), Point(threshold, top)], colour: .ink, dash: [4, 4], width: 1.2))
        }
        return Plot(
            title: title, x: Plot.Axis(x, range: shownRange(histograms, range)),
            y: Plot.Axis("Share of pairs (%)", range: 0...top, percent: true), series: series, width: width,
            height: height)
    }

    /// The bins in use, with one empty bin on each side.
    private static func shownRange(_ histograms: [Counts], _ range: ClosedRange<Double>) -> ClosedRange<Double> {
        let bins = histograms.map(\.counts.count).max() ?? 0
        let used = (0..<bins).filter { bin in histograms.contains { bin < $0.counts.count && $0.counts[bin] > 0 } }
        guard let first = used.first, let last = used.last else { return range }
        let step = (range.upperBound - range.lowerBound) / Double(bins)
        let low = range.lowerBound + Double(max(0, first - 1)) * step
        return low...range.lowerBound + Double(min(bins, last + 2)) * step
    }
}

extension Colour {
    /// Mixed with white.
    func paler(_ share: Double) -> Colour {
        func mix(_ byte: UInt8) -> UInt8 { UInt8((Double(byte) + share * (255 - Double(byte))).rounded()) }
        return Colour(mix(red), mix(green), mix(blue))
    }
}
