import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Targets of a classification that are partly the teacher's: t = (1 − σ)·onehot(y) + σ·q, q = softmax(s_T·cos(t, w_c)), t
/// the teacher's embedding of the image at full resolution, for the image and its degraded copy alike.
///
/// −Σ t_c·log p_c is the cross-entropy to y and σ·(z_y − Σ q_c·z_c): what is added has no normaliser of the student's, is
/// linear in the logits, and splits over shards. The normaliser of q, Σ exp(s_T·(cos − 1)), needs no maximum, since cosines
/// end at 1. So it travels with the teacher's cosines, the gradient of the embeddings with the classification's, and the
/// loss with another: beside hard targets no collective is added.
final class SoftTargets {
    /// σ.
    private let share: Double
    /// s_T.
    private let scale: Float
    /// Of the gathered rows, and N, records of all ranks.
    private let order: PairRows
    private let pairs: Int
    private let dimension: Int
    private let pool: ThreadPool
    /// Classes that are compared at a time.
    private let width: Int
    /// Unit embeddings of the teacher, (N x d), and what made them so.
    private let teacher: Tensor
    private let teacherInverses: Tensor
    /// 1/‖w‖ of this rank's centres, which do not move; found when they are first looked at.
    private let inverses: Tensor
    private var knowsInverses = false
    /// exp(s_T·(cos − 1)) of a block, (N x width), and the student's logits, (2N x width).
    private let exponentials: Tensor
    private let logits: Tensor
    /// Partial gradient of the embeddings, (2N x d).
    private let gradient: Tensor
    /// By row of the global batch.
    private var losses: [Double]
    /// This rank's part of what is added to the loss, of the last step.
    private(set) var loss = 0.0

    /// - Parameter classes: C_local.
    init(share: Double, scale: Double, classes: Int, batch: Int, pairs: Int, dimension: Int, pool: ThreadPool) {
        self.share = share
        self.scale = Float(scale)
        order = PairRows(batch: batch)
        self.pairs = pairs
        self.dimension = dimension
        self.pool = pool
        width = ColumnBlocks.width(rows: 2 * pairs, of: classes)
        teacher = Tensor([pairs, dimension])
        teacherInverses = Tensor([pairs])
        inverses = Tensor([max(1, classes)])
        exponentials = Tensor([pairs * width])
        logits = Tensor([2 * pairs * width])
        gradient = Tensor([2 * pairs, dimension])
        losses = .init(repeating: 0, count: 2 * pairs)
    }

    /// - Parameters:
    ///   - gathered: raw embeddings of the teacher in gathered order, (2N x d).
    ///   - sums: this rank's part of the normaliser of q, by record, (N); written.
    func prepare(
        _ gathered: UnsafePointer<Float>, _ classifier: ShardedClassifier<Float>, sums: UnsafeMutablePointer<Double>
    ) {
        let t = teacher.floats.baseAddress!
        for pair in 0..<pairs {
            (t + pair * dimension).update(from: gathered + order.row(view: 0, pair: pair) * dimension, count: dimension)
            sums[pair] = 0
        }
        Float.inverseNorms(pool, t, rows: pairs, columns: dimension, into: teacherInverses.floats.baseAddress!)
        Float.scaleRows(pool, t, factors: teacherInverses.floats.baseAddress!, rows: pairs, columns: dimension)
        let classes = classifier.classRange.count
        if !knowsInverses, classes > 0 {
            Float.inverseNorms(
                pool, classifier.centres.floats.baseAddress!, rows: classes, columns: dimension,
                into: inverses.floats.baseAddress!)
            knowsInverses = true
        }
        for start in stride(from: 0, to: classes, by: width) {
            let range = start..<min(start + width, classes)
            compare(classifier, range)
            let e = exponentials.floats.baseAddress!
            pool.forEachRange(pairs) { part in
                for pair in part {
                    var sum = 0.0
                    for column in 0..<range.count { sum += Double(e[pair * range.count + column]) }
                    sums[pair] += sum
                }
            }
        }
    }

    /// The teacher's exponentials of some classes.
    private func compare(_ classifier: ShardedClassifier<Float>, _ range: Range<Int>) {
        let e = exponentials.floats.baseAddress!
        Float.gemm(
            pool, transposeA: false, transposeB: true, m: pairs, n: range.count, k: dimension,
            a: teacher.floats.baseAddress!, b: classifier.centres.floats.baseAddress! + range.lowerBound * dimension,
            beta: 0,
            c: e)
        let inverse = inverses.floats.baseAddress! + range.lowerBound
        let scale = scale
        pool.forEachRange(pairs) { part in
            for pair in part {
                let values = e + pair * range.count
                for column in 0..<range.count {
                    values[column] = exp(scale * (min(1, max(-1, values[column] * inverse[column])) - 1))
                }
            }
        }
    }

    /// After the classification's own backward: adds to the shard's partial gradient of the embeddings.
    ///
    /// - Parameters:
    ///   - sums: the normalisers of q over all ranks, by record.
    ///   - weights: of the rows in the mean over the global batch.
    func add(
        to classifier: ShardedClassifier<Float>, sums: UnsafePointer<Double>, weights: UnsafePointer<Double>
    ) {
        let classes = classifier.classRange.count
        loss = 0
        guard classes > 0 else { return }
        let g = gradient.floats.baseAddress!
        gradient.fill(0)
        for row in losses.indices { losses[row] = 0 }
        for start in stride(from: 0, to: classes, by: width) {
            let range = start..<min(start + width, classes)
            if width < classes { compare(classifier, range) }
            differentiate(classifier, range, sums, weights)
            Float.gemm(
                pool, transposeA: false, transposeB: false, m: 2 * pairs, n: dimension, k: range.count,
                a: logits.floats.baseAddress!, b: classifier.centres.floats.baseAddress! + range.lowerBound * dimension,
                beta: 1, c: g)
        }
        Float.project(
            pool, g, x: classifier.work.embeddings.floats.baseAddress!, inverse: classifier.work.rowInverse,
            rows: 2 * pairs, columns: dimension, radial: nil)
        let target = classifier.work.partialGradient.floats
        for i in target.indices { target[i] += g[i] }
        for row in losses.indices { loss += losses[row] }
    }

    /// The student's logits of some classes become gradients of its inner products.
    private func differentiate(
        _ classifier: ShardedClassifier<Float>, _ range: Range<Int>, _ sums: UnsafePointer<Double>,
        _ weights: UnsafePointer<Double>
    ) {
        let z = logits.floats.baseAddress!
        Float.gemm(
            pool, transposeA: false, transposeB: true, m: 2 * pairs, n: range.count, k: dimension,
            a: classifier.work.embeddings.floats.baseAddress!,
            b: classifier.centres.floats.baseAddress! + range.lowerBound * dimension, beta: 0, c: z)
        let e = exponentials.floats.baseAddress!
        let columnInverse = inverses.floats.baseAddress! + range.lowerBound
        let work = classifier.work
        let (order, share, count) = (order, share, Double(2 * pairs))
        losses.withUnsafeMutableBufferPointer { losses in
            pool.forEachRange(2 * pairs) { part in
                for row in part {
                    let pair = order.pair(row)
                    let q = e + pair * range.count
                    let values = z + row * range.count
                    let state = work.activations[row]
                    let inverse = work.rowInverse[row]
                    let factor = share * weights[row] / count
                    let ofTeacher = 1 / sums[pair]
                    let slope = Float(-factor * state.scale * ofTeacher) * inverse
                    let own = work.localColumns[row] - range.lowerBound
                    var mixed = 0.0
                    for column in 0..<range.count {
                        let cosine = min(1, max(-1, values[column] * inverse * columnInverse[column]))
                        if column != own { mixed += Double(q[column] * cosine) }
                        values[column] = slope * q[column] * columnInverse[column]
                    }
                    var added = -state.scale * ofTeacher * mixed
                    if own >= 0, own < range.count {
                        let rest = 1 - ofTeacher * Double(q[own])
                        added += rest * state.targetLogit
                        values[own] =
                            Float(factor * rest * state.scale * work.targetSlopes[row]) * inverse * columnInverse[own]
                    }
                    losses[row] += factor * added
                }
            }
        }
    }
}
