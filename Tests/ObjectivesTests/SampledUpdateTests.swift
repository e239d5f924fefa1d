import Collectives
import Foundation
import Objectives
import Tensors
import Testing

/// What an update does to rows that are in the sample, and to those that are not.
@Suite struct SampledUpdateTests {
    static let problem = ClassSamplingTests.problem

    private static func row(_ values: [Double], _ index: Int) -> ArraySlice<Double> {
        values[index * 7..<(index + 1) * 7]
    }

    @Test(arguments: [ClassSampling.Mode.keyed, .reference]) func sparseLeavesTheOthersAlone(_ mode: ClassSampling.Mode)
        throws
    {
        let sampling = ClassSampling(rate: 0.3, mode: mode)
        for ranks in [1, 3] {
            let before = try Self.problem.train(Float.self, ranks: ranks, sampling: sampling, steps: 0..<3)
            let after = try Self.problem.train(Float.self, ranks: ranks, sampling: sampling, steps: 0..<4)
            let sample = Set(after.samples[3])
            #expect(sample.count < 50)
            for index in 0..<53 {
                let isSame =
                    Self.row(before.centres, index) == Self.row(after.centres, index)
                    && Self.row(before.momentum, index) == Self.row(after.momentum, index)
                #expect(isSame != sample.contains(index), "class \(index)")
            }
        }
    }

    @Test(arguments: [ClassSampling.Mode.keyed, .reference]) func denseDecaysTheOthers(_ mode: ClassSampling.Mode)
        throws
    {
        let sampling = ClassSampling(rate: 0.3, mode: mode, momentum: .dense)
        let outcome = try Self.problem.train(
            Double.self, ranks: 2, sampling: sampling, steps: 1..<2, rate: 0.5, momentum: 0, decay: 0.02)
        let sample = Set(outcome.samples[0])
        for index in 0..<53 {
            let decayed = Self.row(Self.problem.centres, index).map { $0 * (1 - 0.5 * 0.02) }
            let difference = relativeDifference(Array(Self.row(outcome.centres, index)), decayed)
            #expect(sample.contains(index) ? difference > 1e-4 : difference < 1e-14, "class \(index)")
        }
    }

    /// v = μ·v + g + λ·p, p = p − r·v, with g = 0 outside the sample, written out.
    @Test(arguments: ClassSamplingTests.everyKind) func updatesAreSGD(_ sampling: ClassSampling) throws {
        let (rate, momentum, decay) = (0.5, 0.9, 0.01)
        let before = try Self.problem.train(
            Double.self, ranks: 2, sampling: sampling, steps: 0..<3, rate: rate, momentum: momentum, decay: decay)
        let after = try Self.problem.train(
            Double.self, ranks: 2, sampling: sampling, steps: 0..<4, rate: rate, momentum: momentum, decay: decay)
        var (centres, velocity) = (before.centres, before.momentum)
        for index in 0..<53 {
            let place = after.samples[3].firstIndex(of: index)
            if place == nil, sampling.momentum == .sparse { continue }
            for j in 0..<7 {
                let gradient = place.map { after.centreGradient[$0 * 7 + j] } ?? 0
                let i = index * 7 + j
                velocity[i] = momentum * velocity[i] + gradient + decay * centres[i]
                centres[i] -= rate * velocity[i]
            }
        }
        #expect(relativeDifference(after.centres, centres) < 1e-14)
        #expect(relativeDifference(after.momentum, velocity) < 1e-14)
    }

    /// The passes of an update share what is drawn; each adds its positives. The gradient is the sum over rows.
    @Test(arguments: [ClassSampling?.none, ClassSampling(rate: 0.2), ClassSampling(rate: 0.2, mode: .reference)])
    func gradientsOfSeveralPassesAreSummed(_ sampling: ClassSampling?) throws {
        let problem = Self.problem
        let head = problem.classifier(
            Double.self, ArcFace(margin: 0.3, scale: 16), SoloCommunicator(), sampling: sampling)
        let embeddings = Tensor([12, 7], dtype: .float64)
        _ = embeddings.doubles.update(fromContentsOf: problem.embeddings)
        // Too little room: it grows.
        let sum = GradientSum<Double>(classes: 53, dimension: 7, capacity: 2)
        for update in 0..<2 {
            var expected = [Double](repeating: 0, count: 53 * 7)
            var samples: [Set<Int>] = []
            sum.reset()
            for pass in 0..<3 {
                let labels = (0..<12).map { ($0 * 5 + 17 * pass + update) % 53 }
                try labels.withUnsafeBufferPointer { try head.begin(labels: $0, step: update) }
                _ = try head.step(embeddings: embeddings, step: update)
                sum.add(head, weight: 0.25)
                let rows = head.activeRows.map { $0.map { Int($0) } } ?? Array(0..<53)
                samples.append(Set(rows))
                let gradient = Array(head.gradientElements())
                for (i, row) in rows.enumerated() {
                    for j in 0..<7 { expected[row * 7 + j] += 0.25 * gradient[i * 7 + j] }
                }
            }
            #expect(sampling == nil || Set(samples).count == 3)
            #expect(
                Set(sum.rows.map { Int($0) }) == samples.reduce([]) { $0.union($1) } && sum.count == Set(sum.rows).count
            )
            let rows = sum.rows.map { Int($0) }
            let elements = Array(head.gradientElements(of: sum))
            for (i, row) in rows.enumerated() {
                #expect(elements[i * 7..<(i + 1) * 7] == expected[row * 7..<(row + 1) * 7])
            }
            let before = Array(head.centres.doubles)
            head.update(rate: 0.5, momentum: 0, decay: 0, with: sum)
            let moved = zip(before, expected).map { $0 - 0.5 * $1 }
            #expect(relativeDifference(Array(head.centres.doubles), moved) < 1e-15)
        }
    }

    /// SphereFace-R brings centres back to unit length: those of the sample, in their places.
    @Test func centresOfTheSampleAreNormalised() throws {
        let outcome = try Self.problem.train(
            Double.self, SphereFaceR(), ranks: 2, sampling: ClassSampling(rate: 0.3), steps: 0..<1, rate: 0)
        for index in 0..<53 {
            let row = Self.row(outcome.centres, index)
            if outcome.samples[0].contains(index) {
                #expect(abs(row.reduce(0) { $0 + $1 * $1 } - 1) < 1e-12)
            } else {
                #expect(row == Self.row(Self.problem.centres, index))
            }
        }
    }

    @Test func frozenCentresAreSampledToo() throws {
        let head = Self.problem.classifier(
            Float.self, ArcFace(), SoloCommunicator(), frozen: true, sampling: ClassSampling(rate: 0.2))
        let embeddings = Tensor([12, 7], Self.problem.embeddings.map { Float($0) })
        let before = Array(head.centres.floats)
        try Self.problem.labels.withUnsafeBufferPointer { try head.begin(labels: $0) }
        let result = try head.step(embeddings: embeddings, step: 0)
        head.update(rate: 1, momentum: 0.9, decay: 0.1)
        #expect(result.loss > 0 && head.gradientElements().isEmpty && !head.comparesEveryClass)
        #expect(Array(head.centres.floats) == before && head.activeCount < 53)
        // Scoring knows every class.
        let cosines = Tensor([12, 53])
        head.cosines(of: embeddings, into: cosines)
        #expect(cosines.floats.allSatisfy { $0 != 0 && abs($0) <= 1 })
    }

    // MARK: - Storage

    @Test func filesAreAsGoodAsMemory() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("acuity-" + UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.path
        let inFiles: @Sendable (Int) -> HeadStorage = { try! HeadStorage(in: path, rows: $0, dimension: 7) }
        for sampling in [nil, ClassSampling(rate: 0.2), ClassSampling(rate: 0.2, momentum: .dense)] {
            let memory = try Self.problem.train(Float.self, ranks: 2, sampling: sampling)
            let files = try Self.problem.train(Float.self, ranks: 2, sampling: sampling, storage: inFiles)
            #expect(files == memory)
        }
        let storage = try HeadStorage(in: path, rows: 3, dimension: 5)
        #expect(
            storage.centres.floats.allSatisfy { $0 == 0 } && storage.centres.buffer.base != storage.momentum.buffer.base
        )
        #expect(try FileManager.default.contentsOfDirectory(atPath: path).isEmpty, "files without names")
        #expect(try HeadStorage(in: path, rows: 3, dimension: 5, frozen: true).momentum.count == 0)
    }

    @Test func aFolderThatCannotHoldThem() throws {
        let missing = "/nowhere-\(UUID().uuidString)"
        let error = try #require(throws: MappedFileError.self) {
            _ = try HeadStorage(in: missing, rows: 3, dimension: 5)
        }
        #expect(error.isRefusal && error.description.contains(missing) && error.description.contains("1 MiB"))
        // More than any disk holds: refused at once, and nothing is left.
        let folder = FileManager.default.temporaryDirectory.path
        let before = try FileManager.default.contentsOfDirectory(atPath: folder).filter {
            $0.hasPrefix(".acuity-memory")
        }
        let full = try #require(throws: MappedFileError.self) {
            _ = try HeadStorage(in: folder, rows: 1 << 40, dimension: 1 << 14)
        }
        #expect(full.isRefusal && full.operation == "reserve" && full.description.contains("another folder"))
        let after = try FileManager.default.contentsOfDirectory(atPath: folder).filter {
            $0.hasPrefix(".acuity-memory")
        }
        #expect(before == after)
    }
}
