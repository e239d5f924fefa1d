/// 1:1 verification by cross-validated threshold: the protocol of LFW and of the .bin sets (insightface, facenet).
package enum PairVerification {
    /// Where the thresholds come from that accuracy is measured at.
    package enum ThresholdSource: String, Sendable, Codable {
        /// insightface: the first best of 0, 0.01, … 3.99 on the other folds.
        case grid = "grid 0…3.99 step 0.01, first best on the other folds"
        /// Every cut between two distances of the other folds; of equally good cuts the middle one.
        case exact = "all cuts between distances of the other folds, middle best"
    }

    /// Accuracy at thresholds chosen on the other folds.
    package struct Accuracy: Sendable, Equatable, Codable {
        package let source: ThresholdSource
        /// Mean over the folds.
        package let mean: Double
        /// Population standard deviation over the folds.
        package let deviation: Double
        package let perFold: [Double]
        /// Squared distance below which a pair of the fold was called the same.
        package let thresholds: [Double]
        /// Wilson's interval of the pairs called rightly, all folds together.
        package let interval: ConfidenceInterval
    }

    /// The true accept rate at a false accept rate, with thresholds interpolated on the other folds.
    package struct FoldedTAR: Sendable, Equatable, Codable {
        package let targetFAR: Double
        /// Mean over the folds.
        package let mean: Double
        /// Population standard deviation over the folds.
        package let deviation: Double
        /// The false accept rate reached on the held-out folds, mean.
        package let meanFAR: Double
        package let thresholds: [Double]
    }

    /// The true accept rate at a false accept rate, over all pairs at one threshold.
    package struct TAR: Sendable, Equatable, Codable {
        package let targetFAR: Double
        package let rate: Double
        /// The largest threshold whose false accept rate does not exceed the target; accepted is what is nearer.
        package let threshold: Double
        /// Impostor pairs accepted there. Below 10 the rate hangs on single pairs.
        package let falseAccepts: Int
        /// Impostor pairs accepted there, of all.
        package let reachedFAR: Double
        /// Over resampled pairs; nil where no bootstrap was asked for.
        package let interval: ConfidenceInterval?
    }

    /// Thresholds `step` apart from 0 up to but not including 4, as the reference spaces them: i · step.
    static func grid(step: Double) -> [Double] {
        (0..<Int((4 / step).rounded())).map { Double($0) * step }
    }

    /// Accuracy by insightface's rule: a pair is the same iff its squared distance is below the threshold; for each
    /// fold the first threshold of 0, 0.01, … 3.99 that is best on the others.
    package static func gridAccuracy(_ scores: PairScores, folds: Folds) -> Accuracy {
        precondition(folds.assignment.count == scores.count, "folds for \(folds.assignment.count) pairs")
        let grid = grid(step: 0.01)
        // correct[fold][t]: pairs of the fold called rightly at grid[t].
        let tallies = FoldTallies(scores, folds: folds, grid: grid)
        let correct = (0..<folds.count).map { fold in
            grid.indices.map { tallies.genuine[fold][$0] + tallies.impostorTotal[fold] - tallies.impostor[fold][$0] }
        }
        let thresholds = (0..<folds.count).map { held in
            var (best, bestCorrect) = (0, -1)
            for t in grid.indices {
                let right = correct.indices.reduce(0) { $0 + ($1 == held ? 0 : correct[$1][t]) }
                if right > bestCorrect { (best, bestCorrect) = (t, right) }
            }
            return grid[best]
        }
        return accuracy(scores, folds: folds, thresholds: thresholds, source: .grid)
    }

    /// Accuracy with the threshold not bound to a grid: every cut between two neighbouring distances of the other
    /// folds is tried, half-way between them.
    ///
    /// Several cuts are often equally good, and the accuracy on the held-out fold hangs on which is taken; the middle
    /// one (the lower of two) leans to neither side.
    package static func exactAccuracy(_ scores: PairScores, folds: Folds) -> Accuracy {
        precondition(folds.assignment.count == scores.count, "folds for \(folds.assignment.count) pairs")
        let order = scores.distances.indices.sorted { scores.distances[$0] < scores.distances[$1] }
        let thresholds = (0..<folds.count).map { held in
            let training = order.filter { folds.assignment[$0] != held }
            return middleBestCut(
                ascending: training.map { scores.distances[$0] }, same: training.map { scores.same[$0] })
        }
        return accuracy(scores, folds: folds, thresholds: thresholds, source: .exact)
    }

    private static func middleBestCut(ascending distances: [Double], same: [Bool]) -> Double {
        // Gain of accepting the nearest i pairs over accepting none.
        var (gain, bestGain, best) = (0, Int.min, [Int]())
        for cut in 0...distances.count {
            if cut > 0 { gain += same[cut - 1] ? 1 : -1 }
            guard cut == 0 || cut == distances.count || distances[cut - 1] < distances[cut] else { continue }
            if gain > bestGain { (bestGain, best) = (gain, []) }
            if gain == bestGain { best.append(cut) }
        }
        let cut = best[(best.count - 1) / 2]
        if cut == 0 { return distances[0] }
        if cut == distances.count { return distances[cut - 1].nextUp }
        let middle = (distances[cut - 1] + distances[cut]) / 2
        return middle > distances[cut - 1] ? middle : distances[cut]
    }

    private static func accuracy(
        _ scores: PairScores, folds: Folds, thresholds: [Double], source: ThresholdSource
    ) -> Accuracy {
        var right = [Int](repeating: 0, count: folds.count)
        for pair in 0..<scores.count {
            let fold = folds.assignment[pair]
            if (scores.distances[pair] < thresholds[fold]) == scores.same[pair] { right[fold] += 1 }
        }
        let perFold = zip(right, folds.sizes).map { Double($0) / Double($1) }
        return Accuracy(
            source: source, mean: Statistics.mean(perFold), deviation: Statistics.deviation(perFold),
            perFold: perFold, thresholds: thresholds,
            interval: .wilson(successes: right.reduce(0, +), trials: scores.count))
    }

    /// True accept rates with insightface's threshold rule: on the other folds the false accept rate is tabulated at
    /// 0, 0.001, … 3.999, and the threshold is interpolated linearly as a function of it, between the last entry below
    /// the target and the one after it; it is 0 where the table does not reach the target.
    ///
    /// - Returns: nil where some fold lacks genuine or impostor pairs, so that its rates do not exist.
    package static func foldedTAR(_ scores: PairScores, folds: Folds, targetFAR target: Double) -> FoldedTAR? {
        precondition(target > 0 && target < 1, "false accept rate \(target)")
        let grid = grid(step: 0.001)
        let tallies = FoldTallies(scores, folds: folds, grid: grid)
        guard !tallies.genuineTotal.contains(0), !tallies.impostorTotal.contains(0) else { return nil }
        let allImpostors = tallies.impostorTotal.reduce(0, +)
        let thresholds = (0..<folds.count).map { held in
            let impostors = Double(allImpostors - tallies.impostorTotal[held])
            func far(_ t: Int) -> Double {
                let accepted = tallies.impostor.indices.reduce(0) { $0 + ($1 == held ? 0 : tallies.impostor[$1][t]) }
                return Double(accepted) / impostors
            }
            // At threshold 0 nothing is accepted, so the entry that reaches the target has one before it.
            guard let reached = grid.indices.first(where: { far($0) >= target }) else { return 0.0 }
            let (low, high) = (far(reached - 1), far(reached))
            return grid[reached - 1] + (target - low) / (high - low) * (grid[reached] - grid[reached - 1])
        }
        var (accepted, wrong) = ([Int](repeating: 0, count: folds.count), [Int](repeating: 0, count: folds.count))
        for pair in 0..<scores.count where scores.distances[pair] < thresholds[folds.assignment[pair]] {
            if scores.same[pair] { accepted[folds.assignment[pair]] += 1 } else { wrong[folds.assignment[pair]] += 1 }
        }
        let rates = zip(accepted, tallies.genuineTotal).map { Double($0) / Double($1) }
        let falseRates = zip(wrong, tallies.impostorTotal).map { Double($0) / Double($1) }
        return FoldedTAR(
            targetFAR: target, mean: Statistics.mean(rates), deviation: Statistics.deviation(rates),
            meanFAR: Statistics.mean(falseRates), thresholds: thresholds)
    }

    /// True accept rates over all pairs: for n impostor pairs the threshold is the (⌊target · n⌋ + 1)-th smallest
    /// impostor distance, and pairs strictly nearer are accepted, so that the false accept rate never exceeds the
    /// target.
    ///
    /// - Parameters:
    ///   - replicates: bootstrap samples for the 95 % interval (percentiles; genuine and impostor pairs are drawn with
    ///     replacement, each kind for itself); 0 for none.
    ///   - seed: with the replicate's number it keys what is drawn.
    package static func tar(
        _ scores: PairScores, targetFARs targets: [Double], replicates: Int = 1000, seed: UInt64 = 0
    ) -> [TAR] {
        precondition(targets.allSatisfy { $0 > 0 && $0 < 1 }, "false accept rates \(targets)")
        let genuine = scores.sortedDistances(genuine: true)
        let impostor = scores.sortedDistances(genuine: false)
        let resampled = PairBootstrap(genuine: genuine, impostor: impostor)
            .rates(targetFARs: targets, replicates: replicates, seed: seed)
        return targets.indices.map { index in
            let allowed = min(Statistics.floorCount(targets[index], of: impostor.count), impostor.count - 1)
            let threshold = impostor[allowed]
            let falseAccepts = Statistics.countBelow(threshold, in: impostor)
            let interval = resampled.map { rates in
                let sorted = rates[index].sorted()
                return ConfidenceInterval(
                    lower: Statistics.quantile(sorted, 0.025), upper: Statistics.quantile(sorted, 0.975),
                    level: 0.95, method: .bootstrap)
            }
            return TAR(
                targetFAR: targets[index],
                rate: Double(Statistics.countBelow(threshold, in: genuine)) / Double(genuine.count),
                threshold: threshold, falseAccepts: falseAccepts,
                reachedFAR: Double(falseAccepts) / Double(impostor.count), interval: interval)
        }
    }
}

/// How many pairs of each kind and fold are accepted at each threshold of a grid.
private struct FoldTallies {
    /// folds x thresholds.
    private(set) var genuine: [[Int]]
    private(set) var impostor: [[Int]]
    private(set) var genuineTotal: [Int]
    private(set) var impostorTotal: [Int]

    init(_ scores: PairScores, folds: Folds, grid: [Double]) {
        let empty = [[Int]](repeating: [Int](repeating: 0, count: grid.count + 1), count: folds.count)
        (genuine, impostor) = (empty, empty)
        genuineTotal = [Int](repeating: 0, count: folds.count)
        impostorTotal = genuineTotal
        for pair in 0..<scores.count {
            let fold = folds.assignment[pair]
            // The first threshold that is strictly above the distance; grid.count where none is.
            let first = Statistics.countBelow(scores.distances[pair].nextUp, in: grid)
            if scores.same[pair] {
                genuine[fold][first] += 1
                genuineTotal[fold] += 1
            } else {
                impostor[fold][first] += 1
                impostorTotal[fold] += 1
            }
        }
        for fold in 0..<folds.count {
            for t in 1..<grid.count {
                genuine[fold][t] += genuine[fold][t - 1]
                impostor[fold][t] += impostor[fold][t - 1]
            }
        }
    }
}
