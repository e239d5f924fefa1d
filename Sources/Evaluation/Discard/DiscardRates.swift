/// The shares of the pairs that are left out along an error-versus-discard curve: 0, 1/n, 2/n, … 0.95.
package struct DiscardRates: Sendable, Equatable {
    package let values: [Double]

    package static let last = 0.95

    /// - Parameter perUnit: n, a multiple of 20: 20 for steps of 0.05 (CR-FIQA), 100 for steps of 0.01; at most 200.
    package init(perUnit: Int = 20) {
        precondition(perUnit > 0 && perUnit % 20 == 0 && perUnit <= 200, "discard rates in steps of 1/\(perUnit)")
        values = (0...perUnit / 20 * 19).map { Double($0) / Double(perUnit) }
    }

    var count: Int { values.count }

    /// How many pairs are left out at each rate.
    func cuts(of pairs: Int) -> [Int] { values.map { Statistics.floorCount($0, of: pairs) } }

    /// Area under a curve over these rates up to `limit`, by the trapezoid rule, not divided by the limit; nil where a
    /// value in it does not exist.
    func area(_ curve: [Double?], upTo limit: Double) -> Double? {
        let covered = values.prefix { $0 <= limit + 1e-9 }.count
        let known = curve.prefix(covered).compactMap { $0 }
        guard known.count == covered else { return nil }
        return Statistics.trapezoid(Array(values.prefix(covered)), known)
    }
}
