import Evaluation
import Foundation
import Tensors
import Testing

/// Error-versus-discard curves of whole sets against the definition, worked out pair by pair.
@Suite struct DiscardReportTests {
    private let pool = ThreadPool(threads: 2)

    /// Faces whose spread around their identity grows as their quality falls.
    private struct Faces {
        let unit: Embeddings
        let labels: [Int32]
        let qualities: [Double]

        init(_ count: Int, identities: Int, dimension: Int = 24, ties: Bool = false) throws {
            var values: [Float] = []
            var (labels, qualities): ([Int32], [Double]) = ([], [])
            for image in 0..<count {
                var stream = RandomStream(seed: 21, purpose: .test, index: UInt64(image))
                let label = Int32(stream.below(identities))
                let quality = stream.uniform(0, 1)
                var centre = RandomStream(seed: 22, purpose: .test, index: UInt64(label))
                for _ in 0..<dimension {
                    values.append(Float(centre.normal() + (1.6 - quality) * stream.normal()))
                }
                labels.append(label)
                qualities.append(ties ? (4 * quality).rounded() : quality)
            }
            unit = try Embeddings(values, dimension: dimension).normalised()
            self.labels = labels
            self.qualities = qualities
        }

        var pairs: [VerificationPair] {
            (0..<unit.count).flatMap { a in
                (a + 1..<unit.count).map { VerificationPair(a, $0, same: labels[a] == labels[$0]) }
            }
        }
    }

    private func facts(_ pairs: DiscardFacts.Pairs) -> DiscardFacts {
        DiscardFacts(
            dataset: "drawn", pairs: pairs, degradation: "none", flip: .none, embeddings: "random", quality: "known")
    }

    /// CR-FIQA's operating point, candidate by candidate.
    private func operatingPoint(_ distances: [Double], _ same: [Bool], target: Double) -> Double? {
        let impostors = zip(distances, same).filter { !$0.1 }.map(\.0)
        guard !impostors.isEmpty else { return nil }
        var (best, bestGap) = (Double?.none, Double.infinity)
        for candidate in distances.sorted(by: >) {
            let gap = abs(Double(impostors.count { $0 <= candidate }) / Double(impostors.count) - target)
            if gap < bestGap { (best, bestGap) = (candidate, gap) }
        }
        return best
    }

    /// Images left out one by one, worst first, as long as the share of their pairs is not exceeded.
    private func reference(
        _ faces: Faces, target: Double, threshold: ErrorVersusDiscard.Threshold
    ) -> (rates: [Double?], cosines: [Double?]) {
        let order = faces.qualities.indices.sorted { (faces.qualities[$0], $0) < (faces.qualities[$1], $1) }
        let pairs = faces.pairs
        var (rates, cosines): ([Double?], [Double?]) = ([], [])
        // left[k]: pairs that the k worst images leave with.
        let left = (0...order.count).map { worst in
            let gone = Set(order[..<worst])
            return pairs.count { gone.contains($0.first) || gone.contains($0.second) }
        }
        for step in 0..<20 {
            let gone = Set(order[..<left.lastIndex { 20 * $0 <= step * pairs.count }!])
            let kept = pairs.filter { !gone.contains($0.first) && !gone.contains($0.second) }
            let distances = kept.map { -faces.unit.similarity($0.first, $0.second) }
            let point =
                threshold == .fixed && step > 0
                ? cosines[0].map { -$0 } : operatingPoint(distances, kept.map(\.same), target: target)
            let genuine = zip(distances, kept).filter { $0.1.same }.map(\.0)
            cosines.append(point.map { -$0 })
            rates.append(
                point == nil || genuine.isEmpty
                    ? nil : Double(genuine.count { $0 >= point! - 1e-7 }) / Double(genuine.count))
        }
        return (rates, cosines)
    }

    @Test(arguments: [ErrorVersusDiscard.Threshold.fixed, .reselected], [false, true])
    func allPairsAreThoseOfTheDefinition(threshold: ErrorVersusDiscard.Threshold, ties: Bool) throws {
        let faces = try Faces(40, identities: 5, ties: ties)
        let targets = [0.05, 0.01, 0.001]
        let expected = targets.map { reference(faces, target: $0, threshold: threshold) }
        for limit in [nil, 40] {
            // With room for 40 impostor pairs only, operating points come from windows around them.
            let report = try DiscardReport(
                allPairsOf: faces.unit, labels: faces.labels, qualities: faces.qualities, facts: facts(.all),
                options: .init(targetFMRs: targets, threshold: threshold, randomOrders: 2, samples: 4), pool: pool,
                listLimit: limit)
            #expect(report.pairs == 40 * 39 / 2 && report.genuinePairs == faces.pairs.count { $0.same })
            for (rate, share) in zip(report.discardRates, report.discarded) {
                #expect(share <= rate + 1e-12 && share > rate - 0.06)
            }
            for (expected, curve) in zip(expected, report.curves) {
                #expect(curve.falseNonMatchRates == expected.rates, "\(curve.targetFMR), limit \(limit ?? 0)")
                for (found, wanted) in zip(curve.thresholds, expected.cosines) {
                    #expect(abs((found ?? 9) - (wanted ?? 9)) < 1e-5)
                }
            }
            #expect(report.curves.contains { !$0.resamplesThreshold } == (limit != nil))
        }
    }

    @Test func severalBlocksAreOneSet() throws {
        // More images than a block has rows, against the same pairs as a list.
        let faces = try Faces(700, identities: 40, dimension: 8)
        let report = try DiscardReport(
            allPairsOf: faces.unit, labels: faces.labels, qualities: faces.qualities, facts: facts(.all),
            options: .init(targetFMRs: [0.01], randomOrders: 1, samples: 0), pool: pool)
        let pairs = faces.pairs
        let listed = try DiscardReport(
            similarities: pairs.map { faces.unit.similarity($0.first, $0.second) }, pairs: pairs,
            qualities: faces.qualities, facts: facts(.listed),
            options: .init(targetFMRs: [0.01], randomOrders: 1, samples: 0), pool: pool)
        #expect(report.genuinePairs == listed.genuinePairs && report.pairs == listed.pairs)
        let (one, two) = (report.curves[0], listed.curves[0])
        #expect(abs(try #require(one.thresholds[0]) - (try #require(two.thresholds[0]))) < 1e-6)
        for (a, b) in zip(one.falseNonMatchRates, two.falseNonMatchRates) {
            // Where a list is cut within the pairs of an image, a few pairs differ.
            #expect(abs(try #require(a) - (try #require(b))) < 0.004)
        }
    }

    @Test func theNearestImpostorsSuffice() throws {
        // More pairs than are all kept, and more images than a block has columns.
        let faces = try Faces(4300, identities: 300, dimension: 8)
        let report = try DiscardReport(
            allPairsOf: faces.unit, labels: faces.labels, qualities: faces.qualities, facts: facts(.all),
            options: .init(targetFMRs: [0.01, 0.0001], randomOrders: 1, samples: 0), pool: pool)
        let sizes = Dictionary(grouping: faces.labels, by: { $0 }).values.map(\.count)
        #expect(report.genuinePairs == sizes.reduce(0) { $0 + $1 * ($1 - 1) / 2 })
        for curve in report.curves {
            let threshold = try #require(curve.thresholds[0])
            var (near, at) = (0, 0)
            for a in 0..<4300 {
                for b in a + 1..<4300 where faces.labels[a] != faces.labels[b] {
                    let cosine = faces.unit.similarity(a, b)
                    if cosine > threshold + 1e-6 { near += 1 } else if cosine > threshold - 1e-6 { at += 1 }
                }
            }
            let accepted = try #require(curve.reachedFMR) * Double(report.impostorPairs)
            #expect(abs(accepted - curve.targetFMR * Double(report.impostorPairs)) <= 1)
            #expect(Double(near) <= accepted + 1e-6 && accepted <= Double(near + at) + 1e-6)
        }
    }

    @Test func baselinesAndIntervals() throws {
        let faces = try Faces(220, identities: 16)
        for isListed in [true, false] {
            let options = DiscardReport.Options(targetFMRs: [0.02, 0.005], randomOrders: 30, samples: 60)
            func report(_ pool: ThreadPool) throws -> DiscardReport {
                guard isListed else {
                    return try DiscardReport(
                        allPairsOf: faces.unit, labels: faces.labels, qualities: faces.qualities, facts: facts(.all),
                        options: options, pool: pool)
                }
                let pairs = faces.pairs.enumerated().filter { $0.element.same || $0.offset % 5 == 0 }.map(\.element)
                return try DiscardReport(
                    similarities: pairs.map { faces.unit.similarity($0.first, $0.second) }, pairs: pairs,
                    qualities: faces.qualities, facts: facts(.listed), options: options, pool: pool)
            }
            let found = try report(pool)
            #expect(found == (try report(ThreadPool(threads: 1))))
            for curve in found.curves {
                let area = try #require(curve.areas.first)
                let (quality, random) = (try #require(area.quality), try #require(area.random))
                // The quality is the true one: it does better than chance, and not better than knowing the errors.
                #expect(quality < random.mean - 3 * random.deviation)
                #expect(try #require(area.oracle) < quality)
                // Both areas rise and fall with the sample: their difference varies less.
                let gain = try #require(area.gain)
                #expect(abs(gain.mean - (random.mean - quality)) < 0.2 * (random.mean - quality))
                #expect(gain.deviation < (try #require(area.deviation)) && gain.mean > 3 * gain.deviation)
                let start = try #require(curve.falseNonMatchRates[0])
                #expect(curve.oracle[0] == start)
                for (rate, tolerance) in [(0, 1e-12), (10, 0.05)] {
                    let baseline = try #require(curve.random[rate])
                    #expect(abs(baseline.mean - start) < tolerance)
                }
                let interval = try #require(area.interval)
                #expect(interval.lower < quality && quality < interval.upper && interval.lower > 0)
                #expect(curve.resamplesThreshold)
                #expect(try #require(curve.areas.last?.quality) < quality)
            }
        }
    }

    @Test func equalQualitiesSayNothing() throws {
        let faces = try Faces(80, identities: 6)
        let report = try DiscardReport(
            allPairsOf: faces.unit, labels: faces.labels, qualities: [Double](repeating: 1, count: 80),
            facts: facts(.all), options: .init(targetFMRs: [0.01], randomOrders: 1, samples: 0), pool: pool)
        // Images leave in the order of the set.
        let half = try #require(report.discardRates.firstIndex(of: 0.5))
        var first = 0
        while (first + 1) * (160 - first - 2) / 2 <= 80 * 79 / 4 { first += 1 }
        let point = try #require(report.curves[0].thresholds[0])
        let kept = faces.pairs.filter { $0.first >= first && $0.same }
        let failed = kept.count { faces.unit.similarity($0.first, $0.second) <= point + 1e-7 }
        #expect(report.curves[0].falseNonMatchRates[half] == Double(failed) / Double(kept.count))
    }

    @Test func whatCannotBeComparedIsNamed() throws {
        let faces = try Faces(10, identities: 2)
        #expect(throws: EvaluationError.oneKindOnly(genuine: 45, impostor: 0)) {
            try DiscardReport(
                allPairsOf: faces.unit, labels: [Int32](repeating: 0, count: 10), qualities: faces.qualities,
                facts: facts(.all), pool: pool)
        }
        var qualities = faces.qualities
        qualities[3] = .nan
        #expect(throws: EvaluationError.nonFiniteQuality(image: 3)) {
            try DiscardReport(
                allPairsOf: faces.unit, labels: faces.labels, qualities: qualities, facts: facts(.all), pool: pool)
        }
    }
}
