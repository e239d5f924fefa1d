/// Sums over rows of floats, written so that they vectorise.
enum Rows {
    /// sums = Σ weight(t)·source(t), t = 0..<taps in this order, element by element; taps > 0.
    @inline(__always)
    static func weightedSum(
        _ sums: UnsafeMutablePointer<Float>, count: Int, taps: Int, weight: (Int) -> Float,
        source: (Int) -> UnsafePointer<Float>
    ) {
        let (w, first) = (weight(0), source(0))
        for index in 0..<count { sums[index] = w * first[index] }
        var tap = 1
        // Four taps to a sweep over the sums; the order of the additions stays.
        while tap + 3 < taps {
            let (wa, wb, wc, wd) = (weight(tap), weight(tap + 1), weight(tap + 2), weight(tap + 3))
            let (a, b, c, d) = (source(tap), source(tap + 1), source(tap + 2), source(tap + 3))
            for index in 0..<count {
                var sum = sums[index]
                sum += wa * a[index]
                sum += wb * b[index]
                sum += wc * c[index]
                sum += wd * d[index]
                sums[index] = sum
            }
            tap += 4
        }
        while tap < taps {
            let (w, row) = (weight(tap), source(tap))
            for index in 0..<count { sums[index] += w * row[index] }
            tap += 1
        }
    }
}

/// From floats to bytes without a branch or a call: 2^23 + v has the rounded v in its lowest bits.
enum Rounding {
    /// The nearest byte, ties to even.
    @inline(__always)
    static func byte(_ value: Float) -> UInt8 {
        UInt8(truncatingIfNeeded: (max(0, min(255, value)) + 8_388_608).bitPattern)
    }

    /// The nearest byte, ties upwards.
    @inline(__always)
    static func byteTiesUp(_ value: Float) -> UInt8 {
        let clipped = max(0, min(255, value))
        let shifted = clipped + 8_388_608
        let rest = clipped - (shifted - 8_388_608)
        return UInt8(truncatingIfNeeded: shifted.bitPattern &+ (rest >= 0.5 ? 1 : 0))
    }
}
