import Foundation

/// A margin head on one process, in double, by plain loops over the definition: the oracle of the sharded classifier.
///
/// It shares no code with it. `logits` maps a row's cosines, label and embedding norm to logits; `slopes` gives
/// ∂z_c/∂cos_c and `normSlopes` ∂z_c/∂‖x‖; `penalty` is a term of the loss in ‖x‖ with its derivative.
package struct DenseHead: Sendable {
    package struct Row {
        package var index: Int
        package var cosines: [Double]
        package var label: Int
        package var norm: Double
        /// ‖x‖ and cos θ_y of all rows.
        package var norms: [Double] = []
        package var targetCosines: [Double] = []

        /// Every cosine but the target's.
        package func map(_ other: (Double) -> Double, target: (Double) -> Double) -> [Double] {
            cosines.enumerated().map { $0.offset == label ? target($0.element) : other($0.element) }
        }
    }

    package struct Outcome {
        package var loss = 0.0
        package var embeddingGradient: [Double]
        package var centreGradient: [Double]
        package var accuracy = 0.0
        package var targetCosine = 0.0
    }

    package var logits: @Sendable (Row) -> [Double]
    package var slopes: @Sendable (Row) -> [Double]
    package var normSlopes: @Sendable (Row) -> [Double] = { [Double](repeating: 0, count: $0.cosines.count) }
    package var penalty: @Sendable (Double) -> (value: Double, slope: Double) = { _ in (0, 0) }

    package init(
        logits: @escaping @Sendable (Row) -> [Double], slopes: @escaping @Sendable (Row) -> [Double],
        normSlopes: (@Sendable (Row) -> [Double])? = nil,
        penalty: @escaping @Sendable (Double) -> (value: Double, slope: Double) = { _ in (0, 0) }
    ) {
        self.logits = logits
        self.slopes = slopes
        if let normSlopes { self.normSlopes = normSlopes }
        self.penalty = penalty
    }

    /// A head that scales cosines by `scale` and changes only the target's.
    package static func target(
        scale: Double, _ phi: @escaping @Sendable (Double) -> Double, slope: @escaping @Sendable (Double) -> Double
    ) -> DenseHead {
        DenseHead(
            logits: { $0.map({ scale * $0 }, target: { scale * phi($0) }) },
            slopes: { $0.map({ _ in scale }, target: { scale * slope($0) }) })
    }

    /// - Parameters:
    ///   - embeddings: (N x d).
    ///   - centres: (C x d).
    ///   - labels: (N).
    package func evaluate(_ embeddings: [Double], _ centres: [Double], _ labels: [Int], dimension d: Int) -> Outcome {
        let n = labels.count
        let c = centres.count / d
        var outcome = Outcome(
            embeddingGradient: [Double](repeating: 0, count: n * d),
            centreGradient: [Double](repeating: 0, count: c * d))
        var rows: [Row] = []
        for i in 0..<n {
            let x = Array(embeddings[i * d..<(i + 1) * d])
            let norm = Self.norm(x)
            var cosines = [Double](repeating: 0, count: c)
            for j in 0..<c {
                let w = Array(centres[j * d..<(j + 1) * d])
                cosines[j] = min(max(Self.dot(x, w) / (norm * Self.norm(w)), -1), 1)
            }
            rows.append(Row(index: i, cosines: cosines, label: labels[i], norm: norm))
        }
        for (i, row) in rows.enumerated() {
            var row = row
            row.norms = rows.map(\.norm)
            row.targetCosines = rows.map { $0.cosines[$0.label] }
            accumulate(row, Array(embeddings[i * d..<(i + 1) * d]), centres, n, &outcome)
        }
        return outcome
    }

    private func accumulate(_ row: Row, _ x: [Double], _ centres: [Double], _ n: Int, _ outcome: inout Outcome) {
        let d = x.count
        let z = logits(row)
        let highest = z.max()!
        let sum = z.reduce(0) { $0 + exp($1 - highest) }
        // 1 − p_y and −log p_y without cancellation.
        let others = z.indices.reduce(0) { $1 == row.label ? $0 : $0 + exp(z[$1] - highest) }
        let crossEntropy = z[row.label] == highest ? log1p(others) : log(sum) + highest - z[row.label]
        let (extra, extraSlope) = penalty(row.norm)
        outcome.loss += (crossEntropy + extra) / Double(n)
        outcome.targetCosine += row.cosines[row.label] / Double(n)
        let negatives = row.cosines.enumerated().filter { $0.offset != row.label }.map(\.element)
        if negatives.allSatisfy({ $0 < row.cosines[row.label] }) { outcome.accuracy += 1 / Double(n) }
        let slopes = slopes(row)
        let normSlopes = normSlopes(row)
        for k in 0..<d { outcome.embeddingGradient[row.index * d + k] += extraSlope / Double(n) * x[k] / row.norm }
        for j in z.indices {
            let numerator = j == row.label ? -others : exp(z[j] - highest)
            let residual = numerator / (sum * Double(n))
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

    package static func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
    package static func norm(_ a: [Double]) -> Double { dot(a, a).squareRoot() }
}
