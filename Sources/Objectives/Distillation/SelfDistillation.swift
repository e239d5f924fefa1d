package import Collectives
package import Tensors

/// Quality self-distillation (QSD, Ou et al., "Improving Person Re-identification by Learning Quality", with the authors'
/// released code; faces as `docs/methods.md` says): two views of one identity go through the same network, pass by
/// pass, and where their qualities differ the better one is a constant target for the other.
///
/// Taps: the spatial energies of three stages, the embedding, and the cosine logits. The loss is weight · Σ w_ℓ·L_ℓ; every
/// L_ℓ is over the pairs of the global batch. Collectives: one gather of qualities, one maximum, one sum; with the logits, a
/// gather of embeddings and a reduce-scatter of their gradients more.
package final class SelfDistillation: AddedObjective {
    package struct Options: Sendable, Equatable {
        /// λ.
        package var weight = 1.0
        /// w of the stages' taps, of the embedding and of the logits; a weight of 0 leaves the tap out.
        package var stages = 1.0
        package var embedding = 1.0
        package var logits = 0.1
        /// Share of the mean gap that a pair's gap must reach.
        package var threshold = 0.3
        /// Whether the amplification of the energies has a gradient, as in the authors' code.
        package var differentiatesAmplification = true
        /// Whether the second view is classified too; the published method classifies the first alone.
        package var classifiesBothViews = false
        package var taps = ["stage2", "stage3", "stage4"]

        package init() {}
    }

    package let name = "qsd"
    package let options: Options
    package let demand: StepDemand
    package var needsEveryClass: Bool { options.logits > 0 }

    private let communicator: any Communicator
    private let pool: ThreadPool
    /// By record, in [0, 100]; NaN where unknown.
    private let qualities: [Float]
    private let batch: Int
    /// The first row of the second view.
    private let partner: Int
    private var pairs: TeachingPairs
    /// Both qualities of this rank's pairs, of every rank's, and of the global batch by view.
    private let own: UnsafeMutableBufferPointer<Double>
    private let gathered: UnsafeMutableBufferPointer<Double>
    private let byView: UnsafeMutableBufferPointer<Double>
    private var shares: [EnergyDistillation.Share]
    private var extremes: [Double]
    private var sums: [Double]
    private let logits: LogitDistillation?

    /// - Parameters:
    ///   - qualities: by global record index.
    ///   - batch: B, pairs of this rank.
    ///   - partner: which of the step's views the second one is.
    package init(
        _ options: Options, qualities: [Float], batch: Int, dimension: Int, partner: Int = 1,
        communicator: any Communicator, pool: ThreadPool
    ) {
        precondition(partner > 0, "the first view is no partner of itself")
        self.options = options
        self.partner = partner * batch
        self.qualities = qualities
        self.batch = batch
        self.communicator = communicator
        self.pool = pool
        let taps = options.stages > 0 ? options.taps : []
        demand = StepDemand(
            views: 2, passes: [0..<1, 1..<2], classified: options.classifiesBothViews ? 2 : 1, taps: taps)
        let global = batch * communicator.size
        pairs = TeachingPairs(capacity: global)
        own = .allocate(capacity: 2 * batch)
        gathered = .allocate(capacity: 2 * global)
        byView = .allocate(capacity: 2 * global)
        shares = .init(repeating: .init(), count: taps.count)
        extremes = .init(repeating: 0, count: 2 * taps.count)
        sums = .init(repeating: 0, count: 3 * taps.count + 1)
        logits =
            options.logits > 0
            ? LogitDistillation(
                pairs: global, batch: batch, partner: self.partner, dimension: dimension, communicator: communicator,
                pool: pool)
            : nil
    }

    deinit {
        pairs.deallocate()
        own.deallocate()
        gathered.deallocate()
        byView.deallocate()
    }

    package func step(
        _ pass: ObjectivePass, _ classification: MarginClassification, weight: Float, accumulate: Bool
    ) throws -> ObjectiveOutcome {
        precondition(pass.batch == batch && pass.records.count >= partner + batch, "a pass of other pairs")
        try selectPairs(pass.records)
        var outcome = ObjectiveOutcome()
        outcome.metrics.add("quality_gap", pairs.meanGap)
        outcome.metrics.add("taught", Double(pairs.count) / Double(pairs.teachers.count))
        guard pairs.count > 0 else {
            outcome.metrics.add("distillation_loss", 0)
            return outcome
        }
        let factor = options.weight * Double(weight)
        var loss = try compareMaps(pass, factor: factor)
        if let logits {
            let mean = try logits.step(
                pass, classification.classifier, pairs, factor: options.weight * options.logits, weight: weight)
            loss += options.logits * mean
        }
        outcome.loss = options.weight * loss
        outcome.metrics.add("distillation_loss", loss)
        return outcome
    }

    /// Every rank knows the qualities of all pairs, and so which of them count.
    private func selectPairs(_ records: UnsafeBufferPointer<Int>) throws {
        for row in 0..<batch {
            own[row] = Double(qualities[records[row]])
            own[batch + row] = Double(qualities[records[partner + row]])
        }
        try communicator.allGather(
            UnsafeRawBufferPointer(own), into: UnsafeMutableRawBufferPointer(gathered), "qualities of pairs")
        let global = batch * communicator.size
        for pair in 0..<global {
            let (rank, place) = pair.quotientAndRemainder(dividingBy: batch)
            byView[pair] = gathered[2 * batch * rank + place]
            byView[global + pair] = gathered[2 * batch * rank + batch + place]
        }
        pairs.select(
            first: UnsafeBufferPointer(rebasing: byView[..<global]),
            second: UnsafeBufferPointer(rebasing: byView[global...]), threshold: options.threshold)
    }

    /// Rows of this rank's pairs that learn, with their teachers.
    private func forEachPair(_ body: (_ student: Int, _ teacher: Int) -> Void) {
        let first = communicator.rank * batch
        for pair in 0..<batch {
            switch pairs.teachers[first + pair] {
            case .none: continue
            case .first: body(partner + pair, pair)
            case .second: body(pair, partner + pair)
            }
        }
    }

    // MARK: - Stages and embedding

    /// Σ w·L of the stages' energies and of the embeddings; adds their gradients.
    private func compareMaps(_ pass: ObjectivePass, factor: Double) throws -> Double {
        let taps = pass.taps
        precondition(taps.count == shares.count, "\(taps.count) taps where \(shares.count) were asked for")
        for (index, tap) in taps.enumerated() {
            shares[index] = .init()
            let energies = UnsafePointer(tap.energies.floats.baseAddress!)
            forEachPair { student, _ in
                EnergyDistillation.extend(
                    &shares[index], student: energies + student * tap.positions, positions: tap.positions)
            }
            extremes[2 * index] = shares[index].maximum
            extremes[2 * index + 1] = -shares[index].minimum
        }
        if !taps.isEmpty { try reduce(&extremes, .max, "extremes of energies") }
        for (index, tap) in taps.enumerated() {
            shares[index].maximum = extremes[2 * index]
            shares[index].minimum = -extremes[2 * index + 1]
            let energies = UnsafePointer(tap.energies.floats.baseAddress!)
            forEachPair { student, teacher in
                EnergyDistillation.add(
                    &shares[index], student: energies + student * tap.positions,
                    teacher: energies + teacher * tap.positions, positions: tap.positions,
                    maximum: shares[index].maximum, minimum: shares[index].minimum)
            }
            (sums[3 * index], sums[3 * index + 1]) = (shares[index].squares, shares[index].maxima)
            sums[3 * index + 2] = shares[index].minima
        }
        sums[3 * taps.count] = options.embedding > 0 ? compareEmbeddings(pass, factor: factor) : 0
        try reduce(&sums, .sum, "distillation")
        var loss = options.embedding * sums[3 * taps.count] / Double(pairs.count)
        for (index, tap) in taps.enumerated() {
            (shares[index].squares, shares[index].maxima) = (sums[3 * index], sums[3 * index + 1])
            shares[index].minima = sums[3 * index + 2]
            loss += options.stages * differentiate(tap, shares[index], factor: factor * options.stages)
        }
        return loss
    }

    private func reduce(_ values: inout [Double], _ reduction: Reduction, _ label: String) throws {
        try values.withUnsafeMutableBufferPointer { try communicator.allReduce($0, reduction, label) }
    }

    private func differentiate(_ tap: TapMaps, _ total: EnergyDistillation.Share, factor: Double) -> Double {
        let entries = pairs.count * tap.positions
        let scale = EnergyDistillation.Scale(
            total, entries: entries, differentiates: options.differentiatesAmplification)
        let energies = UnsafePointer(tap.energies.floats.baseAddress!)
        let gradient = tap.gradient.floats.baseAddress!
        forEachPair { student, teacher in
            EnergyDistillation.differentiate(
                scale, factor: factor, entries: entries, student: energies + student * tap.positions,
                teacher: energies + teacher * tap.positions, positions: tap.positions, maximum: total.maximum,
                minimum: total.minimum, into: gradient + student * tap.positions)
        }
        return scale.loss
    }

    /// Σ (1 − cos) of this rank's pairs; adds the gradients.
    private func compareEmbeddings(_ pass: ObjectivePass, factor: Double) -> Double {
        let d = pass.embeddings.shape[1]
        let x = UnsafePointer(pass.embeddings.floats.baseAddress!)
        let gradient = pass.embeddingGradient.floats.baseAddress!
        let share = factor * options.embedding / Double(pairs.count)
        var sum = 0.0
        forEachPair { student, teacher in
            let (s, t) = (x + student * d, x + teacher * d)
            let products = CosineDistillation.Products(teacher: t, student: s, count: d)
            sum += 1 - products.cosine
            let teacherFactor = Float(share * products.teacherFactor)
            let studentFactor = Float(share * products.studentFactor)
            let row = gradient + student * d
            for i in 0..<d { row[i] += teacherFactor * t[i] + studentFactor * s[i] }
        }
        return sum
    }
}
