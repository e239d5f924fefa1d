#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Marks on an axis.
package struct Ticks: Sendable, Equatable {
    package struct Tick: Sendable, Equatable {
        package let value: Double
        package let label: Label
    }

    /// Labelled marks, ascending.
    package var major: [Tick]
    /// Marks without labels.
    package var minor: [Double]

    /// Multiples of 1, 2 or 5 times a power of ten, at most `count` of them within the range.
    ///
    /// - Parameter percent: label 0.25 as 25 (the axis says %).
    package static func linear(_ range: ClosedRange<Double>, atMost count: Int, percent: Bool = false) -> Ticks {
        let factor = percent ? 100.0 : 1
        let (low, high) = (range.lowerBound * factor, range.upperBound * factor)
        precondition(low.isFinite && high.isFinite && low < high && count > 1, "ticks on \(range)")
        var exponent = Int(log10((high - low) / Double(count)).rounded(.down))
        var mantissas = [1, 2, 5, 10][...]
        while true {
            let mantissa = mantissas.removeFirst()
            let step = scaled(mantissa, exponent)
            let (first, last) = ((low / step - 1e-9).rounded(.up), (high / step + 1e-9).rounded(.down))
            if last - first + 1 <= Double(count), last - first < 1e6 {
                let multiples = first <= last ? Array(Int(first)...Int(last)) : []
                let largest = max(abs(low), abs(high))
                return Ticks(
                    major: multiples.map { multiple in
                        Tick(
                            value: Double(multiple) * step / factor,
                            label: label(multiple * mantissa, exponent: exponent, largest: largest))
                    }, minor: [])
            }
            if mantissas.isEmpty {
                exponent += 1
                mantissas = [2, 5, 10]
            }
        }
    }

    private static func scaled(_ mantissa: Int, _ exponent: Int) -> Double {
        // Division by a power of ten is exact where multiplication by its inverse is not.
        exponent < 0 ? Double(mantissa) / pow(10, Double(-exponent)) : Double(mantissa) * pow(10, Double(exponent))
    }

    /// `digits` times a power of ten, as a person would write it on an axis whose largest value is `largest`.
    private static func label(_ digits: Int, exponent: Int, largest: Double) -> Label {
        if digits == 0 { return Label("0") }
        if largest >= 1e10 || (largest < 1e-3 && exponent < -4) {
            let power = Int(log10(largest).rounded(.down))
            return Label(fixed(digits, exponent - power) + "×10", exponent: signed(power))
        }
        if largest >= 1e9 { return Label(fixed(digits, exponent - 9) + "G") }
        if largest >= 1e6 { return Label(fixed(digits, exponent - 6) + "M") }
        if largest >= 1e4 { return Label(fixed(digits, exponent - 3) + "k") }
        return Label(fixed(digits, exponent))
    }

    /// digits · 10^exponent in decimal notation, without trailing zeros beyond the exponent.
    private static func fixed(_ digits: Int, _ exponent: Int) -> String {
        let sign = digits < 0 ? "\u{2212}" : ""
        var text = String(abs(digits))
        guard exponent < 0 else { return sign + text + String(repeating: "0", count: exponent) }
        if text.count <= -exponent { text = String(repeating: "0", count: -exponent - text.count + 1) + text }
        let whole = text.dropLast(-exponent)
        let rest = text.suffix(-exponent)
        return rest.allSatisfy { $0 == "0" } ? sign + whole : sign + whole + "." + rest
    }

    private static func signed(_ value: Int) -> String {
        value < 0 ? "\u{2212}\(-value)" : "\(value)"
    }

    /// Powers of ten, every k-th labelled so that at most `count` are; below three decades also 2 and 5 times them.
    package static func logarithmic(_ range: ClosedRange<Double>, atMost count: Int) -> Ticks {
        precondition(range.lowerBound > 0 && range.lowerBound < range.upperBound, "logarithmic ticks on \(range)")
        let first = Int((log10(range.lowerBound) - 1e-9).rounded(.up))
        let last = Int((log10(range.upperBound) + 1e-9).rounded(.down))
        let inside = { (value: Double) in
            value >= range.lowerBound * (1 - 1e-9) && value <= range.upperBound * (1 + 1e-9)
        }
        let every = first <= last ? max(1, (last - first + count) / count) : 1
        var ticks = Ticks(major: [], minor: [])
        let plain = first >= -2 && last <= 3
        for power in first - 1...max(first - 1, last) {
            for mantissa in 1...9 {
                let value = scaled(mantissa, power)
                guard inside(value) else { continue }
                let between = last - first < 2 && (mantissa == 2 || mantissa == 5) && 3 * (last - first + 1) <= count
                if mantissa == 1 && (power - first) % every == 0 {
                    ticks.major.append(Tick(value: value, label: powerLabel(1, power, plain: plain)))
                } else if between {
                    ticks.major.append(Tick(value: value, label: powerLabel(mantissa, power, plain: plain)))
                } else if every == 1 || mantissa == 1 {
                    ticks.minor.append(value)
                }
            }
        }
        return ticks
    }

    /// Decimals where they are short for the whole axis, else powers, but for 1.
    private static func powerLabel(_ mantissa: Int, _ power: Int, plain: Bool) -> Label {
        if plain || power == 0 { return Label(fixed(mantissa, power)) }
        return Label(mantissa == 1 ? "10" : "\(mantissa)×10", exponent: signed(power))
    }
}
