import Collectives
import Tensors

/// The logits' tap of self-distillation, over class centres that are sharded: 1 − cos between the teacher's and the
/// student's cosines to all classes.
///
/// Three sums over classes for each pair, t·s, t·t and s·s, are all that the ranks must tell one another; each then knows
/// the gradient of its own classes' cosines. The logits exist block by block, and are computed twice where a shard has more
/// than one block.
final class LogitDistillation {
    private let communicator: any Communicator
    private let pool: ThreadPool
    private let pairs: Int
    private let batch: Int
    /// The first row of the second view in a pass.
    private let partner: Int
    private let dimension: Int
    /// Embeddings of both views of all pairs, (2N x d), rank by rank; their inverse norms; partial gradients.
    private let embeddings: Tensor
    private let inverses: Tensor
    private let partial: Tensor
    private let own: Tensor
    private var logits: Tensor
    private var sums: [Double]
    private var factors: [(teacher: Float, student: Float)]

    init(
        pairs: Int, batch: Int, partner: Int, dimension: Int, communicator: any Communicator, pool: ThreadPool
    ) {
        self.pairs = pairs
        self.batch = batch
        self.partner = partner
        self.dimension = dimension
        self.communicator = communicator
        self.pool = pool
        embeddings = Tensor([2 * pairs, dimension])
        inverses = Tensor([2 * pairs])
        partial = Tensor([2 * pairs, dimension])
        own = Tensor([2 * batch, dimension])
        logits = Tensor([0])
        sums = .init(repeating: 0, count: 3 * pairs)
        factors = .init(repeating: (0, 0), count: pairs)
    }

    private var rows: Int { 2 * pairs }
    private var x: UnsafeMutablePointer<Float> { embeddings.floats.baseAddress! }
    private var z: UnsafeMutablePointer<Float> { logits.floats.baseAddress! }

    /// - Parameters:
    ///   - factor: of the mean over pairs, in the loss.
    ///   - weight: of gradients that go to the pass, beside `factor`.
    /// - Returns: the mean over pairs of 1 − cos, the same on every rank.
    func step(
        _ pass: ObjectivePass, _ classifier: ShardedClassifier<Float>, _ selected: TeachingPairs, factor: Double,
        weight: Float
    ) throws -> Double {
        precondition(
            classifier.isFrozen || classifier.holdsGradient, "the logits' tap needs the centres' gradient in memory")
        let raw = pass.embeddings.floats.baseAddress!
        let size = batch * dimension
        own.floats.baseAddress!.update(from: raw, count: size)
        (own.floats.baseAddress! + size).update(from: raw + partner * dimension, count: size)
        try communicator.allGather(
            UnsafeRawBufferPointer(own.bytes), into: embeddings.bytes, "embeddings of pairs")
        Float.inverseNorms(pool, x, rows: rows, columns: dimension, into: inverses.floats.baseAddress!)
        let classes = classifier.classRange.count
        let width = ColumnBlocks.width(rows: rows, of: classes)
        if logits.shape[0] < rows * width { logits = Tensor([rows * width]) }

        for i in sums.indices { sums[i] = 0 }
        for start in stride(from: 0, to: classes, by: width) {
            let range = start..<min(start + width, classes)
            computeCosines(classifier, range)
            addProducts(selected, columns: range.count)
        }
        try sums.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "logits of pairs") }
        var loss = 0.0
        for pair in 0..<pairs where selected.teachers[pair] != .none {
            let products = CosineDistillation.Products(
                mixed: sums[3 * pair], teacher: sums[3 * pair + 1], student: sums[3 * pair + 2])
            loss += 1 - products.cosine
            let share = factor / Double(selected.count)
            factors[pair] = (Float(share * products.teacherFactor), Float(share * products.studentFactor))
        }

        partial.fill(0)
        for start in stride(from: 0, to: classes, by: width) {
            let range = start..<min(start + width, classes)
            if width < classes { computeCosines(classifier, range) }
            differentiate(selected, columns: range.count)
            propagate(classifier, range)
        }
        Float.project(
            pool, partial.floats.baseAddress!, x: x, inverse: inverses.floats.baseAddress!, rows: rows, columns: dimension,
            radial: nil)
        try Float.reduceScatter(communicator, partial.floats, into: own.floats, "gradients of pairs")
        let target = pass.embeddingGradient.floats.baseAddress!
        let source = own.floats
        for i in 0..<size {
            target[i] += weight * source[i]
            target[partner * dimension + i] += weight * source[size + i]
        }
        return loss / Double(selected.count)
    }

    /// The rows of a pair's student and teacher in gathered order.
    private func rows(of pair: Int, _ teacher: TeachingPairs.Teacher) -> (student: Int, teacher: Int) {
        let (rank, place) = pair.quotientAndRemainder(dividingBy: batch)
        let first = 2 * batch * rank + place
        return teacher == .first ? (first + batch, first) : (first, first + batch)
    }

    private func computeCosines(_ classifier: ShardedClassifier<Float>, _ range: Range<Int>) {
        let centres = classifier.active.centres.floats.baseAddress! + range.lowerBound * dimension
        let columnInverse = classifier.active.inverses.floats.baseAddress! + range.lowerBound
        let rowInverse = inverses.floats.baseAddress!
        let z = z
        Float.gemm(
            pool, transposeA: false, transposeB: true, m: rows, n: range.count, k: dimension, a: x, b: centres, beta: 0, c: z)
        pool.forEachRange(rows) { rows in
            for row in rows {
                let values = z + row * range.count
                let inverse = rowInverse[row]
                for column in 0..<range.count { values[column] *= inverse * columnInverse[column] }
            }
        }
    }

    private func addProducts(_ selected: TeachingPairs, columns: Int) {
        let z = z
        sums.withUnsafeMutableBufferPointer { sums in
            nonisolated(unsafe) let sums = sums
            pool.forEachRange(pairs) { range in
                for pair in range where selected.teachers[pair] != .none {
                    let rows = rows(of: pair, selected.teachers[pair])
                    let products = CosineDistillation.Products(
                        teacher: UnsafePointer(z + rows.teacher * columns),
                        student: UnsafePointer(z + rows.student * columns), count: columns)
                    sums[3 * pair] += products.mixed
                    sums[3 * pair + 1] += products.teacher
                    sums[3 * pair + 2] += products.student
                }
            }
        }
    }

    /// Cosines to their gradients, in place: the student's row becomes its gradient, every other row zero.
    private func differentiate(_ selected: TeachingPairs, columns: Int) {
        let z = z
        pool.forEachRange(pairs) { range in
            for pair in range {
                let teacher = selected.teachers[pair]
                let rows = rows(of: pair, teacher)
                let (student, other) = (z + rows.student * columns, z + rows.teacher * columns)
                if teacher == .none {
                    student.update(repeating: 0, count: columns)
                } else {
                    let (ofTeacher, ofStudent) = factors[pair]
                    for column in 0..<columns {
                        student[column] = ofTeacher * other[column] + ofStudent * student[column]
                    }
                }
                other.update(repeating: 0, count: columns)
            }
        }
    }

    /// Gradients of cosines to those of embeddings and centres.
    private func propagate(_ classifier: ShardedClassifier<Float>, _ range: Range<Int>) {
        let centres = classifier.active.centres.floats.baseAddress! + range.lowerBound * dimension
        let columnInverse = classifier.active.inverses.floats.baseAddress! + range.lowerBound
        let rowInverse = inverses.floats.baseAddress!
        let z = z
        let columns = range.count
        pool.forEachRange(rows) { rows in
            for row in rows {
                let values = z + row * columns
                let inverse = rowInverse[row]
                for column in 0..<columns { values[column] *= inverse * columnInverse[column] }
            }
        }
        Float.gemm(
            pool, transposeA: false, transposeB: false, m: rows, n: dimension, k: columns, a: z, b: centres, beta: 1,
            c: partial.floats.baseAddress!)
        if classifier.isFrozen { return }
        let gradient = classifier.gradient.floats.baseAddress! + range.lowerBound * dimension
        Float.gemm(
            pool, transposeA: true, transposeB: false, m: columns, n: dimension, k: rows, a: z, b: x, beta: 1, c: gradient)
        // What stands there already is orthogonal to the centres, and stays as it is.
        Float.project(
            pool, gradient, x: centres, inverse: columnInverse, rows: columns, columns: dimension, radial: nil)
    }
}
