import Evaluation
import Foundation
import Testing

/// The folder of a published MobileFaceNet and what it gives on LFW.
private enum PublishedModel {
    static let folder: String? = {
        guard let faces = ProcessInfo.processInfo.environment["ACUITY_FACES"] else { return nil }
        let folder = faces + "/models/mobilefacenet-112x96/"
        return FileManager.default.fileExists(atPath: folder + "lfw_pairs_scores.csv") ? folder : nil
    }()
}

/// The figures of a published MobileFaceNet on LFW, from its stored scores and embeddings: the same rules, worked out
/// with numpy, gave the expected values.
@Suite(
    .enabled(
        if: PublishedModel.folder != nil,
        "ACUITY_FACES names no folder with models/mobilefacenet-112x96/lfw_pairs_scores.csv"))
struct PublishedModelTests {
    private struct ListedPairs {
        var folds: [Int] = []
        var same: [Bool] = []
        var cosines: [Double] = []
        var names: [(String, String)] = []

        init() throws {
            let path = try #require(PublishedModel.folder) + "lfw_pairs_scores.csv"
            for line in try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").dropFirst() {
                let fields = line.split(separator: ",")
                folds.append(try #require(Int(fields[1])))
                same.append(fields[2] == "1")
                cosines.append(try #require(Double(fields[3])))
                names.append((String(fields[4]), String(fields[5])))
            }
        }
    }

    private func check(_ report: VerificationReport) {
        #expect(report.pairs == 6000 && report.genuinePairs == 3000 && report.foldSizes.allSatisfy { $0 == 600 })
        #expect(abs(report.accuracy.mean - 0.99) < 1e-12)
        #expect(abs(report.accuracy.deviation - 0.0051099032) < 1e-9)
        let thresholds = [1.43, 1.42, 1.43, 1.37, 1.43, 1.43, 1.43, 1.43, 1.43, 1.43]
        for (found, wanted) in zip(report.accuracy.thresholds, thresholds) { #expect(abs(found - wanted) < 1e-9) }
        #expect(abs(report.exactAccuracy.mean - 0.9903333333) < 1e-9)
        #expect(abs(report.exactAccuracy.deviation - 0.004522) < 1e-6)
        for (tar, wanted) in zip(report.tar, [2989, 2970, 2888]) { #expect(tar.rate == Double(wanted) / 3000) }
        #expect(report.tar.map(\.falseAccepts) == [300, 30, 3])
        for (tar, wanted) in zip(report.foldedTAR, [0.9963333333, 0.99, 0.9623333333]) {
            #expect(abs(tar.mean - wanted) < 1e-9)
        }
        for (tar, wanted) in zip(report.foldedTAR, [0.0996666667, 0.0093333333, 0.0013333333]) {
            #expect(abs(tar.meanFAR - wanted) < 1e-9)
        }
        #expect(abs(report.equalErrorRate - 0.01) < 1e-9)
        #expect(abs(report.areaUnderCurve - 0.9986237) < 1e-6)
    }

    @Test func fromStoredScores() throws {
        let listed = try ListedPairs()
        let report = try VerificationReport(
            PairScores(similarities: listed.cosines, same: listed.same),
            facts: VerificationFacts(dataset: "lfw", flip: .sum), folds: Folds(listed: listed.folds))
        check(report)
        // Numpy's bootstrap of the same kind gave 0.942...0.981 at the rate of 1e-3.
        let interval = try #require(report.tar[2].interval)
        #expect(abs(interval.lower - 0.942) < 0.006 && abs(interval.upper - 0.981) < 0.004)
    }

    @Test func fromStoredEmbeddings() throws {
        let listed = try ListedPairs()
        let folder = try #require(PublishedModel.folder)
        let names = try String(contentsOfFile: folder + "lfw_pairs_embeddings_names.txt", encoding: .utf8)
            .split(separator: "\n").map(String.init)
        let bytes = try Data(contentsOf: URL(fileURLWithPath: folder + "lfw_pairs_embeddings_f32_7701x128.bin"))
        var values = [Float](repeating: 0, count: bytes.count / 4)
        _ = values.withUnsafeMutableBytes { bytes.copyBytes(to: $0) }
        let rows = Dictionary(uniqueKeysWithValues: zip(names, names.indices))
        let pairs = try zip(listed.names, listed.same).map { names, same in
            VerificationPair(try #require(rows[names.0]), try #require(rows[names.1]), same: same)
        }
        let unit = try FusedEmbeddings(raw: Embeddings(values, dimension: 128), fusion: .none).unit
        #expect(unit.count == 7701)
        check(
            try VerificationReport(
                PairScores(unit: unit, pairs: pairs), facts: VerificationFacts(dataset: "lfw", flip: .sum),
                replicates: 0))
    }
}
