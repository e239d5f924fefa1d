package import Objectives
package import Recipes

extension RunSetup {
    /// The margin function of a recipe.
    ///
    /// - Parameters:
    ///   - seed: the run's, which random margins hang on.
    ///   - ranks: P, where statistics are each rank's own.
    package static func margin(_ head: HeadSection, seed: UInt64, ranks: Int) -> any MarginFunction {
        var function = base(head.margin, seed: seed)
        if scope(head.margin) == .local { function = LocalStatistics(function, ranks: ranks) }
        if let threshold = head.filter { function = InterclassFilter(function, threshold: threshold) }
        return function
    }

    /// nil where every class takes part in every step.
    package static func sampling(_ head: HeadSection) -> ClassSampling? {
        guard head.sampling.rate < 1 else { return nil }
        return ClassSampling(
            rate: head.sampling.rate, mode: head.sampling.mode == .keyed ? .keyed : .reference,
            momentum: head.sampling.momentum == .sparse ? .sparse : .dense)
    }

    package static func initializer(_ head: HeadSection) -> CentreInitializer {
        switch head.centres {
        case .normal: .normal(standardDeviation: 0.01)
        case .unitUniform: .unitUniform
        }
    }

    /// What a rank's class centres and their momentum lie in.
    ///
    /// - Throws: `MappedFileError`.
    package static func storage(_ recipe: Recipe, classes: Int, rank: Int, ranks: Int) throws -> HeadStorage {
        let rows = ShardMap(classes: classes, ranks: ranks).range(ofRank: rank).count
        let frozen = recipe.freezesHead
        return switch recipe.head.storage {
        case .memory: HeadStorage(rows: rows, dimension: recipe.network.embedding, frozen: frozen)
        case .file:
            try HeadStorage(
                in: recipe.head.storageFolder ?? recipe.run.folder, rows: rows, dimension: recipe.network.embedding,
                frozen: frozen)
        }
    }

    /// Refuses a sample of the classes to an objective that needs them all.
    ///
    /// - Throws: `TrainingError.incompatible`.
    package static func checkSampling(_ head: HeadSection, _ objectives: [(name: String, needsEveryClass: Bool)]) throws {
        guard sampling(head) != nil, let refused = objectives.first(where: \.needsEveryClass) else { return }
        throw TrainingError.incompatible(
            "head.sampling.rate = \(head.sampling.rate): \(refused.name) needs the cosines to every class, and would be "
                + "wrong on a sample; leave head.sampling out, or set its rate to 1")
    }

    private static func base(_ margin: HeadSection.Margin, seed: UInt64) -> any MarginFunction {
        switch margin {
        case .softmax(let keys): Softmax(bias: keys.bias)
        case .normface(let keys): NormFace(scale: keys.scale)
        case .sphereface(let keys):
            SphereFace(margin: keys.m, start: keys.lambda.start, floor: keys.lambda.floor, rate: keys.lambda.rate)
        case .sphereFaceR(let keys):
            SphereFaceR(margin: keys.m, scale: keys.scale, normalisesCentres: keys.normaliseCentres)
        case .cosface(let keys): CosFace(margin: keys.m, scale: keys.scale)
        case .arcface(let keys):
            ArcFace(
                margin: keys.m, scale: keys.scale, fallback: fallback(keys.fallback), gradient: gradient(keys.gradient))
        case .combined(let keys):
            CombinedMargin(
                multiplier: keys.m1, angle: keys.m2, offset: keys.m3, scale: keys.scale,
                gradient: gradient(keys.gradient))
        case .magface(let keys):
            MagFace(
                scale: keys.scale, lengths: keys.lengths, margins: keys.margins, penaltyWeight: keys.penalty,
                fallback: fallback(keys.fallback))
        case .adaface(let keys):
            AdaFace(
                margin: keys.m, concentration: keys.h, scale: keys.scale, averaging: keys.averaging,
                mean: keys.normMean, deviation: keys.normDeviation)
        case .curricularface(let keys):
            CurricularFace(margin: keys.m, scale: keys.scale, averaging: keys.averaging)
        case .elasticFaceArc(let keys): elastic(keys, .arc, seed)
        case .elasticFaceCos(let keys): elastic(keys, .cosine, seed)
        }
    }

    private static func elastic(_ keys: ElasticFaceSection, _ kind: ElasticFace.Kind, _ seed: UInt64) -> ElasticFace {
        let assignment: ElasticFace.Assignment =
            switch keys.assignment {
            case .drawn: .drawn
            case .ranked: .ranked
            case .permuted: .permuted
            }
        return ElasticFace(
            kind: kind, mean: keys.m, deviation: keys.deviation, scale: keys.scale, assignment: assignment, seed: seed)
    }

    private static func scope(_ margin: HeadSection.Margin) -> StatisticsScope {
        switch margin {
        case .adaface(let keys): keys.statistics
        case .curricularface(let keys): keys.statistics
        case .elasticFaceArc(let keys), .elasticFaceCos(let keys): keys.statistics
        default: .global
        }
    }

    private static func fallback(_ fallback: MarginFallback) -> AngularMargin.Fallback {
        switch fallback {
        case .hard: .hard
        case .plain: .plain
        case .easy: .easy
        case .clipped: .clipped
        }
    }

    private static func gradient(_ derivative: MarginDerivative) -> MarginGradient {
        derivative == .exact ? .exact : .straightThrough
    }
}
