package import Recipes

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// The learning rate as a function of the completed updates (methods of arcface_torch, AdaFace and others).
package struct LearningRateSchedule: Sendable, Equatable {
    package let kind: ScheduleSection.Kind
    /// The rate after warm-up, scaled to the global batch.
    package let base: Double
    package let warmupSteps: Int
    package let totalSteps: Int
    /// Updates at which the `steps` kind multiplies by `factor`.
    package let milestones: [Int]
    package let factor: Double
    package let power: Double
    /// arcface_torch's quirk: the first update of a warm-up runs at the full rate.
    package let reference: Bool

    /// - Parameter stepsPerEpoch: updates per epoch, counted from the data.
    package init(_ schedule: ScheduleSection, _ optimizer: OptimizerSection, globalBatch: Int, stepsPerEpoch: Int) {
        kind = schedule.kind
        base = Self.scaledRate(optimizer, globalBatch: globalBatch)
        totalSteps = max(1, Int((schedule.epochs * Double(stepsPerEpoch)).rounded()))
        warmupSteps = schedule.warmupSteps ?? Int((schedule.warmupEpochs * Double(stepsPerEpoch)).rounded())
        milestones = schedule.milestones.map { $0 * stepsPerEpoch }
        factor = schedule.factor
        power = schedule.power
        reference = schedule.reference
    }

    /// The stated rate, carried over from the reference batch to the global one.
    package static func scaledRate(_ optimizer: OptimizerSection, globalBatch: Int) -> Double {
        let ratio = Double(globalBatch) / Double(optimizer.referenceBatch)
        return switch optimizer.scaling {
        case .none: optimizer.learningRate
        case .linear: optimizer.learningRate * ratio
        case .sqrt: optimizer.learningRate * ratio.squareRoot()
        }
    }

    /// The rate of the update that follows `step` completed ones.
    ///
    /// With l = step in `reference` mode and l = step + 1 within warm-up otherwise: base·l/W while l ≤ W; then by kind
    /// base·(1 − t)^power, base·factor^(milestones passed), or base·(1 + cos πt)/2, t = (step − W)/(T − W).
    package func rate(step: Int) -> Double {
        if reference, step == 0 { return base }
        let warm = reference ? step : step + 1
        if warm <= warmupSteps { return base * Double(warm) / Double(warmupSteps) }
        switch kind {
        case .steps:
            return base * pow(factor, Double(milestones.filter { step >= $0 }.count))
        case .polynomial, .cosine:
            let span = max(1, totalSteps - warmupSteps)
            let t = min(1, max(0, Double(step - warmupSteps) / Double(span)))
            return kind == .cosine ? base * (1 + cos(Double.pi * t)) / 2 : base * pow(1 - t, power)
        }
    }
}
