/// Any margin function, with what it measures over the batch measured over each rank's own rows: what data-parallel
/// code does whose head runs in every process by itself.
///
/// Moving averages are carried on as those of rank 0's rows, as under PyTorch's DistributedDataParallel with its
/// default `broadcast_buffers`, which hands rank 0's buffers to all before each forward pass: every rank moves the same
/// averages by its own rows, uses the result for these, and rank 0's stay. So the state has no key but its name and any
/// number of ranks can go on with it; the result depends on their number.
package struct LocalStatistics: MarginFunction {
    /// One function for the rows of each rank.
    package private(set) var parts: [any MarginFunction]
    private var rows = 1

    /// - Parameter ranks: P; the global batch has equally many rows of each.
    package init(_ base: any MarginFunction, ranks: Int) {
        precondition(ranks >= 1, "\(ranks) ranks")
        parts = [any MarginFunction](repeating: base, count: ranks)
    }

    package var normalisation: Normalisation { parts[0].normalisation }
    package var needsTargetCosines: Bool { parts[0].needsTargetCosines }
    package var modifiesNegatives: Bool { parts[0].modifiesNegatives }
    package var normalisesCentres: Bool { parts[0].normalisesCentres }
    package var statistics: [String: Double] {
        get { parts[0].statistics }
        set { for part in parts.indices { parts[part].statistics = newValue } }
    }

    package mutating func prepare(_ batch: MarginBatch) {
        precondition(batch.samples.count % parts.count == 0, "\(batch.samples.count) rows of \(parts.count) ranks")
        rows = batch.samples.count / parts.count
        let shared = statistics
        for part in parts.indices {
            let own = part * rows..<(part + 1) * rows
            parts[part].statistics = shared
            parts[part].prepare(
                MarginBatch(
                    step: batch.step, norms: Self.slice(batch.norms, own), samples: .init(rebasing: batch.samples[own]),
                    targetCosines: Self.slice(batch.targetCosines, own)))
        }
    }

    private static func slice(
        _ values: UnsafeBufferPointer<Double>, _ rows: Range<Int>
    ) -> UnsafeBufferPointer<Double> {
        values.isEmpty ? values : UnsafeBufferPointer(rebasing: values[rows])
    }

    /// The function of the row's rank, and the row as that one counts.
    private func own(_ row: MarginRow) -> (any MarginFunction, MarginRow) {
        let (part, index) = row.index.quotientAndRemainder(dividingBy: rows)
        var row = row
        row.index = index
        return (parts[part], row)
    }

    package func scale(_ row: MarginRow) -> LogitScale {
        let (function, row) = own(row)
        return function.scale(row)
    }

    package func target(_ row: MarginRow) -> MarginTarget {
        let (function, row) = own(row)
        return function.target(row)
    }

    package func negatives(_ row: MarginRow) -> NegativeRule? {
        let (function, row) = own(row)
        return function.negatives(row)
    }

    package func weight(_ row: MarginRow) -> Double {
        let (function, row) = own(row)
        return function.weight(row)
    }

    package func penalty(_ row: MarginRow) -> NormPenalty {
        let (function, row) = own(row)
        return function.penalty(row)
    }

    /// The means over the ranks of what each rank's function says of its rows.
    package func metrics(_ outcome: MarginOutcome) -> Metrics {
        var metrics = Metrics()
        for part in parts.indices {
            let own = part * rows..<(part + 1) * rows
            let mean = parts[part].metrics(
                MarginOutcome(
                    norms: Self.slice(outcome.norms, own), targetCosines: Self.slice(outcome.targetCosines, own),
                    nearestNegatives: Self.slice(outcome.nearestNegatives, own)))
            metrics.add(mean, of: parts.count)
        }
        return metrics
    }
}
