#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// An axis laid on the page: values to places.
struct PlotAxis {
    let scale: Plot.Scale
    let range: ClosedRange<Double>
    /// Where the range begins and ends, in points.
    var start: Double
    var end: Double
    var ticks = Ticks(major: [], minor: [])

    init(_ axis: Plot.Axis, values: [Double], includesZero: Bool) {
        scale = axis.scale
        range = axis.range ?? Self.range(of: values, scale: axis.scale, includesZero: includesZero)
        precondition(
            range.lowerBound < range.upperBound && (axis.scale == .linear || range.lowerBound > 0),
            "axis '\(axis.label)' over \(range)")
        (start, end) = (0, 1)
    }

    /// Nil where the value has no place: not finite, or not positive on a logarithmic axis.
    func place(_ value: Double) -> Double? {
        guard value.isFinite, scale == .linear || value > 0 else { return nil }
        let fraction =
            scale == .linear
            ? (value - range.lowerBound) / (range.upperBound - range.lowerBound)
            : log(value / range.lowerBound) / log(range.upperBound / range.lowerBound)
        // Far outside the page nothing is seen, and huge coordinates upset renderers.
        return start + min(max(fraction, -10), 10) * (end - start)
    }

    /// All values with a margin; a whole number of decades where that is near.
    private static func range(of values: [Double], scale: Plot.Scale, includesZero: Bool) -> ClosedRange<Double> {
        let shown = values.filter { $0.isFinite && (scale == .linear || $0 > 0) }
        guard var low = shown.min(), var high = shown.max() else { return scale == .linear ? 0...1 : 0.1...1 }
        if scale == .logarithmic {
            if high / low < 1.01 { return low / 2...high * 2 }
            let margin = pow(high / low, 0.03)
            return low / margin...high * margin
        }
        if includesZero { (low, high) = (min(low, 0), max(high, 0)) }
        if high - low < 1e-9 * max(abs(low), abs(high), 1e-30) {
            let spread = max(abs(low) * 0.1, 1e-6)
            return low - spread...high + spread
        }
        let margin = 0.04 * (high - low)
        let bottom = includesZero && low == 0 ? 0 : low - margin
        let top = includesZero && high == 0 ? 0 : high + margin
        return bottom...top
    }
}
