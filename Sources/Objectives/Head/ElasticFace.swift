internal import Tensors

/// Margins drawn anew for each sample and step from N(m, σ): φ = cos(θ + m_i) or cos θ − m_i (Boutros et al.,
/// "ElasticFace", CVPRW 2022).
///
/// Draws are keyed by (seed, step, record), so they depend on neither the ranks nor the place in the batch.
package struct ElasticFace: MarginFunction {
    package enum Kind: String, Sendable, CaseIterable { case arc, cosine }

    /// Which sample gets which of the drawn margins.
    package enum Assignment: String, Sendable, CaseIterable {
        /// Its own.
        case drawn
        /// ElasticFace+: larger margins to smaller target cosines, as the paper intends.
        case ranked
        /// ElasticFace+ as the authors' code computes it: sample i gets the sorted margin number p(i), where p lists
        /// the samples by descending target cosine.
        case permuted
    }

    package var kind: Kind
    package var mean: Double
    package var deviation: Double
    package var scale: Double
    package var assignment: Assignment
    /// The standard normal number of a (record, step).
    package var noise: @Sendable (_ sample: Int64, _ step: Int) -> Double
    /// m_i of the step's rows.
    package private(set) var margins: [Double] = []
    private var order: [Int] = []

    /// - Parameters:
    ///   - mean: m; 0.5 for arc and 0.35 for cosine if nil.
    ///   - deviation: σ; the paper has 0.05, and 0.0175 (arc) and 0.02 (cosine) for ElasticFace+.
    ///   - seed: the run's seed.
    package init(
        kind: Kind = .arc, mean: Double? = nil, deviation: Double = 0.05, scale: Double = 64,
        assignment: Assignment = .drawn, seed: UInt64
    ) {
        self.kind = kind
        self.mean = mean ?? (kind == .arc ? 0.5 : 0.35)
        self.deviation = deviation
        self.scale = scale
        self.assignment = assignment
        noise = { sample, step in
            var stream = RandomStream(
                seed: seed, purpose: .marginNoise, index: UInt64(bitPattern: sample), step: UInt64(step))
            return stream.normal()
        }
    }

    package var needsTargetCosines: Bool { assignment != .drawn }

    package mutating func prepare(_ batch: MarginBatch) {
        margins.removeAll(keepingCapacity: true)
        for sample in batch.samples { margins.append(mean + deviation * noise(sample, batch.step)) }
        guard assignment != .drawn else { return }
        let cosines = batch.targetCosines
        order.removeAll(keepingCapacity: true)
        order.append(contentsOf: margins.indices)
        // Ties go by row, so that every rank agrees.
        order.sort { cosines[$0] != cosines[$1] ? cosines[$0] > cosines[$1] : $0 < $1 }
        let sorted = margins.sorted()
        for (place, row) in order.enumerated() {
            if assignment == .ranked { margins[row] = sorted[place] } else { margins[place] = sorted[row] }
        }
    }

    package func scale(_ row: MarginRow) -> LogitScale { LogitScale(scale) }

    package func metrics(_ outcome: MarginOutcome) -> Metrics {
        var metrics = Metrics()
        metrics.add("margin", margins.reduce(0, +) / Double(margins.count))
        return metrics
    }

    package func target(_ row: MarginRow) -> MarginTarget {
        let margin = margins[row.index]
        guard kind == .arc else { return MarginTarget(value: row.cosine - margin, slope: 1) }
        let moved = AngularMargin.of(margin, row, fallback: .plain)
        return MarginTarget(value: moved.value, slope: moved.slope)
    }
}
