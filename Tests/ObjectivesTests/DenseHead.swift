import Foundation

/// A margin head on one process, in double, by plain loops over the definition: the oracle of the sharded classifier.
///
/// It shares no code with it. `logits` maps a row's cosines, label and embedding norm to logits; `slopes` gives
/// ∂z_c/∂cos_c and `normSlopes` ∂z_c/∂‖x‖; `penalty` is a term of the loss in ‖x‖ with its derivative.
struct DenseHead: Sendable {
    struct Row {
        var index: Int
        var cosines: [Double]
        var label: Int
        var norm: Double
    }

    struct Outcome {
        var loss = 0.0
        var embeddingGradient: [Double]
        var centreGradient: [Double]
        var accuracy = 0.0
        var targetCosine = 0.0
    }

    var logits: @Sendable (Row) -> [Double]
    var slopes: @Sendable (Row) -> [Double]
    var normSlopes: @Sendable (Row) -> [Double] = { [Double](repeating: 0, count: $0.cosines.count) }
    var penalty: @Sendable (Double) -> (value: Double, slope: Double) = { _ in (0, 0) }

    /// A head that scales cosines by `scale` and changes only the target's.
    static func target(
        scale: Double, _ phi: @escaping @Sendable (Double) -> Double, slope: @escaping @Sendable (Double) -> Double
    ) -> DenseHead {
        DenseHead(
            logits: { row in
                var z = row.cosines.map { scale * $0 }
                z[row.label] = scale * phi(row.cosines[row.label])
                return z
            },
            slopes: { row in
                var slopes = [Double](repeating: scale, count: row.cosines.count)
                slopes[row.label] = scale * slope(row.cosines[row.label])
                return slopes
            })
    }

    /// - Parameters:
    ///   - embeddings: (N x d).
    ///   - centres: (C x d).
    ///   - labels: (N).
    func evaluate(_ embeddings: [Double], _ centres: [Double], _ labels: [Int], dimension d: Int) -> Outcome {
        let n = labels.count
        let c = centres.count / d
        var outcome = Outcome(
            embeddingGradient: [Double](repeating: 0, count: n * d),
            centreGradient: [Double](repeating: 0, count: c * d))
        for i in 0..<n {
            let x = Array(embeddings[i * d..<(i + 1) * d])
            let norm = Self.norm(x)
            var cosines = [Double](repeating: 0, count: c)
            for j in 0..<c {
                let w = Array(centres[j * d..<(j + 1) * d])
                cosines[j] = min(max(Self.dot(x, w) / (norm * Self.norm(w)), -1), 1)
            }
            let row = Row(index: i, cosines: cosines, label: labels[i], norm: norm)
            accumulate(row, x, centres, n, &outcome)
        }
        return outcome
    }

    private func accumulate(_ row: Row, _ x: [Double], _ centres: [Double], _ n: Int, _ outcome: inout Outcome) {
        let d = x.count
        let z = logits(row)
        let highest = z.max()!
        let sum = z.reduce(0) { $0 + exp($1 - highest) }
        let (extra, extraSlope) = penalty(row.norm)
        outcome.loss += (log(sum) + highest - z[row.label] + extra) / Double(n)
        outcome.targetCosine += row.cosines[row.label] / Double(n)
        let others = row.cosines.enumerated().filter { $0.offset != row.label }.map(\.element)
        if others.allSatisfy({ $0 < row.cosines[row.label] }) { outcome.accuracy += 1 / Double(n) }
        let slopes = slopes(row)
        let normSlopes = normSlopes(row)
        for k in 0..<d { outcome.embeddingGradient[row.index * d + k] += extraSlope / Double(n) * x[k] / row.norm }
        for j in z.indices {
            let residual = (exp(z[j] - highest) / sum - (j == row.label ? 1 : 0)) / Double(n)
            let w = Array(centres[j * d..<(j + 1) * d])
            let length = Self.norm(w)
            for k in 0..<d {
                let unitX = x[k] / row.norm
                let unitW = w[k] / length
                outcome.embeddingGradient[row.index * d + k] +=
                    residual * (slopes[j] * (unitW - row.cosines[j] * unitX) / row.norm + normSlopes[j] * unitX)
                outcome.centreGradient[j * d + k] += residual * slopes[j] * (unitX - row.cosines[j] * unitW) / length
            }
        }
    }

    static func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
    static func norm(_ a: [Double]) -> Double { dot(a, a).squareRoot() }
}
