#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// The closed formula of the numeric vectors: element n is offset + amplitude·sin(rate·n + phase).
package func sine(_ count: Int, amplitude: Double = 1, rate: Double, phase: Double, offset: Double = 0) -> [Double] {
    (0..<count).map { offset + amplitude * sin(rate * Double($0) + phase) }
}

/// ‖a − b‖ / ‖b‖, or ‖a‖ where b is zero.
package func relativeError(_ a: [Double], _ b: [Double]) -> Double {
    precondition(a.count == b.count, "\(a.count) values against \(b.count)")
    let difference = zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }.squareRoot()
    let norm = b.reduce(0) { $0 + $1 * $1 }.squareRoot()
    return norm > 0 ? difference / norm : difference
}

package func norm(_ values: [Double]) -> Double { values.reduce(0) { $0 + $1 * $1 }.squareRoot() }
