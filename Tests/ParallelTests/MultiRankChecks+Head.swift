import Collectives
import Objectives
import Tensors
import TestSupport

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

extension MultiRankCheck {
    /// The sharded classifier against the dense head in double: loss, gradients, and the centres after one update.
    static let head: [MultiRankCheck] = [
        MultiRankCheck("a sharded head in fp32 is the dense one") { try compare($0, Float.self, tolerance: 1e-5) },
        MultiRankCheck("a sharded head in double is the dense one") { try compare($0, Double.self, tolerance: 1e-12) },
        MultiRankCheck("softmax with biases over shards is that of one rank") {
            try compareWithOneRank($0, Softmax(bias: true))
        },
        MultiRankCheck("a head with statistics over shards is that of one rank") {
            try compareWithOneRank($0, InterclassFilter(AdaFace(averaging: 0.5, mean: 2, deviation: 1), threshold: 0.3))
            try compareWithOneRank($0, CurricularFace(averaging: 0.5, weight: 0.2))
        },
        MultiRankCheck("a sampled head in fp32 is that of one process") { try train($0, Float.self, tolerance: 1e-5) },
        MultiRankCheck("a sampled head in double is that of one process") { try train($0, Double.self, tolerance: 1e-12) },
    ]

    private static let classes = 11
    private static let dimension = 8
    private static let batch = 3
    private static let rate = 0.5

    /// Labels lie in the first classes only, so that the last of several ranks owns no positive.
    private static func compare<Scalar: HeadScalar>(
        _ communicator: any Communicator, _ type: Scalar.Type, tolerance: Double
    ) throws {
        let pool = ThreadPool(threads: 1)
        let margin = ArcFace(margin: 0.5, scale: 16)
        let dense = DenseHead.target(scale: 16, phi, slope: slope)
        let rows = batch * communicator.size
        let labels = (0..<rows).map { ($0 * 5 + 1) % 3 }
        let embeddings = (0..<rows * dimension).map { Double(Scalar(sin(1.3 * Double($0) + 0.4))) }

        let classifier = ShardedClassifier<Scalar>(
            classes: classes, dimension: dimension, batch: batch, margin: margin, communicator: communicator, pool: pool,
            seed: 5)
        // Every rank's own rows; all of them come from one rank's draw of the whole head.
        let whole = ShardedClassifier<Scalar>(
            classes: classes, dimension: dimension, batch: batch, margin: margin, communicator: SoloCommunicator(),
            pool: pool, seed: 5)
        let centres = values(of: whole.centres, Scalar.self)
        let expected = dense.evaluate(embeddings, centres, labels, dimension: dimension)

        let own = classifier.ownRows
        let input = Tensor([batch, dimension], dtype: Scalar.dtype)
        let target = Scalar.elements(input)
        for i in target.indices { target[i] = Scalar(embeddings[own.lowerBound * dimension + i]) }
        try own.map { labels[$0] }.withUnsafeBufferPointer { try classifier.begin(labels: $0) }
        let result = try classifier.step(embeddings: input, step: 0)

        try check(abs(result.loss - expected.loss) <= tolerance * expected.loss, "loss \(result.loss), dense \(expected.loss)")
        let gradient = values(of: classifier.embeddingGradient, Scalar.self)
        let share = Array(expected.embeddingGradient[own.lowerBound * dimension..<own.upperBound * dimension])
        try check(relativeError(gradient, share) <= tolerance, "dX is off by \(relativeError(gradient, share))")

        guard !classifier.classRange.isEmpty else { return }
        let part = classifier.classRange.lowerBound * dimension..<classifier.classRange.upperBound * dimension
        let updated = zip(values(of: classifier.centres, Scalar.self), values(of: classifier.gradient, Scalar.self))
            .map { $0 - rate * $1 }
        let wanted = zip(centres[part], expected.centreGradient[part]).map { $0 - rate * $1 }
        try check(relativeError(updated, wanted) <= tolerance, "centres are off by \(relativeError(updated, wanted))")
    }

    /// Two steps in double of the sharded head, and of a head that holds all classes and sees all rows.
    private static func compareWithOneRank(_ communicator: any Communicator, _ margin: any MarginFunction) throws {
        func head(_ communicator: any Communicator, batch: Int) -> ShardedClassifier<Double> {
            ShardedClassifier<Double>(
                classes: classes, dimension: dimension, batch: batch, margin: margin, communicator: communicator,
                pool: ThreadPool(threads: 1), seed: 5, initializer: .unitUniform)
        }
        let rows = batch * communicator.size
        let (sharded, whole) = (head(communicator, batch: batch), head(SoloCommunicator(), batch: rows))
        let biases = Tensor([classes], dtype: .float64)
        for index in 0..<classes { biases.doubles[index] = sin(Double(index)) }
        if sharded.bias != nil {
            sharded.load(0..<classes, biases: biases)
            whole.load(0..<classes, biases: biases)
        }
        for step in 0..<2 {
            let labels = (0..<rows).map { ($0 * 5 + step) % classes }
            func run(_ head: ShardedClassifier<Double>) throws -> ClassificationResult {
                let input = Tensor([head.batch, dimension], dtype: .float64)
                let first = head.ownRows.lowerBound * dimension
                for i in 0..<head.batch * dimension { input.doubles[i] = 2 * sin(1.3 * Double(first + i) + 0.4) }
                try Array(labels[head.ownRows]).withUnsafeBufferPointer { try head.begin(labels: $0) }
                return try head.step(embeddings: input, step: step)
            }
            let (result, expected) = (try run(sharded), try run(whole))
            try check(abs(result.loss - expected.loss) < 1e-12, "loss \(result.loss), \(expected.loss) on one rank")
            try check(result.accuracy == expected.accuracy, "accuracy \(result.accuracy), \(expected.accuracy)")
            for (name, value) in whole.margin.statistics {
                try check(abs((sharded.margin.statistics[name] ?? .nan) - value) < 1e-12, "\(name)")
            }
        }
        let dx = values(of: sharded.embeddingGradient, Double.self)
        let all = values(of: whole.embeddingGradient, Double.self)
        let own = sharded.ownRows
        let share = Array(all[own.lowerBound * dimension..<own.upperBound * dimension])
        try check(relativeError(dx, share) < 1e-12, "dX is off by \(relativeError(dx, share))")
        let range = sharded.classRange
        guard !range.isEmpty else { return }
        let dw = values(of: whole.gradient, Double.self)[range.lowerBound * dimension..<range.upperBound * dimension]
        try check(relativeError(values(of: sharded.gradient, Double.self), Array(dw)) < 1e-12, "dW is off")
        if sharded.bias != nil {
            let db = Array(values(of: whole.biasGradient, Double.self)[range])
            try check(relativeError(values(of: sharded.biasGradient, Double.self), db) < 1e-12, "db is off")
        }
    }

    /// Some updates on samples of the classes, beside the same updates on one process that owns every class.
    private static func train<Scalar: HeadScalar>(
        _ communicator: any Communicator, _ type: Scalar.Type, tolerance: Double
    ) throws {
        let classes = 61
        let rows = batch * communicator.size
        func head(
            _ communicator: any Communicator, _ margin: any MarginFunction, _ momentum: ClassSampling.Momentum
        ) -> ShardedClassifier<Scalar> {
            ShardedClassifier<Scalar>(
                classes: classes, dimension: dimension, batch: rows / communicator.size, margin: margin,
                communicator: communicator, pool: ThreadPool(threads: 1), seed: 5, initializer: .unitUniform,
                sampling: ClassSampling(rate: 0.1, momentum: momentum))
        }
        func update(_ head: ShardedClassifier<Scalar>, step: Int) throws -> Double {
            let input = Tensor([head.batch, dimension], dtype: Scalar.dtype)
            let target = Scalar.elements(input)
            let start = head.ownRows.lowerBound * dimension
            for i in target.indices { target[i] = Scalar(sin(1.3 * Double(start + i) + 0.4 * Double(step))) }
            // The first classes only: the last of several ranks has no positives, and some steps no class at all.
            try head.ownRows.map { ($0 * 5 + step) % 4 }.withUnsafeBufferPointer {
                try head.begin(labels: $0, step: step)
            }
            let loss = try head.step(embeddings: input, step: step).loss
            head.update(rate: 0.2, momentum: 0.9, decay: 0.01)
            return loss
        }
        let margins: [any MarginFunction] = [ArcFace(margin: 0.3, scale: 16), Softmax(bias: true)]
        for (margin, momentum) in margins.flatMap({ [($0, ClassSampling.Momentum.sparse), ($0, .dense)] }) {
            let (own, whole) = (head(communicator, margin, momentum), head(SoloCommunicator(), margin, momentum))
            for step in 0..<6 {
                let (loss, expected) = (try update(own, step: step), try update(whole, step: step))
                try check(abs(loss - expected) <= tolerance * expected, "step \(step): loss \(loss), alone \(expected)")
                let range = own.classRange
                let sample = own.activeRows?.map { Int($0) + range.lowerBound } ?? []
                let share = whole.activeRows?.map { Int($0) }.filter(range.contains) ?? []
                try check(sample == share, "step \(step): sample \(sample), alone \(share)")
            }
            let part = own.classRange.lowerBound * dimension..<own.classRange.upperBound * dimension
            for (name, mine, all) in [
                ("centres", own.centres, whole.centres), ("momentum", own.momentum, whole.momentum),
            ] {
                let error = relativeError(values(of: mine, Scalar.self), Array(values(of: all, Scalar.self)[part]))
                try check(error <= tolerance, "\(momentum) \(name) are off by \(error)")
            }
            guard let bias = own.bias, let all = whole.bias else { continue }
            for (name, mine, all) in [("biases", bias.values, all.values), ("their momentum", bias.momentum, all.momentum)] {
                let wanted = Array(values(of: all, Scalar.self)[own.classRange])
                let error = relativeError(values(of: mine, Scalar.self), wanted)
                try check(error <= tolerance, "\(momentum) \(name) are off by \(error)")
            }
        }
    }

    private static func values<Scalar: HeadScalar>(of tensor: Tensor, _ type: Scalar.Type) -> [Double] {
        Scalar.elements(tensor).map { Double($0) }
    }

    /// cos(θ + m), and past π − m its linear continuation.
    @Sendable private static func phi(_ cosine: Double) -> Double {
        cosine > cos(Double.pi - 0.5) ? cos(acos(cosine) + 0.5) : cosine - 0.5 * sin(0.5)
    }

    @Sendable private static func slope(_ cosine: Double) -> Double {
        guard cosine > cos(Double.pi - 0.5) else { return 1 }
        return sin(acos(cosine) + 0.5) / sin(acos(cosine))
    }
}
