package import Collectives
package import Tensors

/// A block of the logit matrix on its way from inner products to gradients: `rows` x `columns`, row-major and dense.
package struct LogitBlock<Scalar: HeadScalar> {
    package var values: UnsafeMutablePointer<Scalar>
    /// f'(c) of the negatives where rules are in force, same shape as `values`; nil where it is not wanted.
    package var slopes: UnsafeMutablePointer<Scalar>?
    package var rows: Int
    package var columns: Int
    /// What cosines are clamped to; infinity where the values are no cosines.
    package var limit: Scalar = 1
    /// Column of each row's target within this block; anything outside 0..<columns means that it is elsewhere.
    package var targets: UnsafePointer<Int>
    /// 1/‖x‖ by row and 1/‖w‖ by column.
    package var rowInverse: UnsafePointer<Scalar>
    package var columnInverse: UnsafePointer<Scalar>

    /// The target's column in `row`, if it is here.
    @inline(__always)
    func target(_ row: Int) -> Int? {
        let column = targets[row]
        return column >= 0 && column < columns ? column : nil
    }
}

/// What `activate` reads and writes for each row.
package struct RowActivation {
    package var scale: Double = 0
    /// The target's logit, where the class is here; `activate` leaves it out.
    package var targetLogit: Double = 0
    package var rule: NegativeRule?
    /// Out: the largest raw cosine of a column that is not the target, and the largest logit of those, a value of the
    /// element type.
    package var negativeMaximum: Double = -.infinity
    package var logitMaximum: Double = -.infinity
    /// Out: whether the rule changed anything.
    package var ruleApplied = false
}

/// What the embedding's length adds to a row's gradient: g − x̂(x̂·g)·(1 − keep) + x̂·radial.
package struct RadialTerm {
    package var keep: Double = 0
    package var radial: Double = 0
}

/// An element type of the head: fp32 for training, fp64 for oracles. The loops over N x C, N x d and C x d elements are
/// requirements, so that they are compiled for the concrete type even where the head's generic code is not.
package protocol HeadScalar: BinaryFloatingPoint, Sendable {
    static var dtype: DType { get }
    static func elements(_ tensor: Tensor) -> UnsafeMutableBufferPointer<Self>

    /// C (m x n) = op(A) (m x k) * op(B) (k x n) + beta * C, row-major and dense.
    static func gemm(
        _ pool: ThreadPool, transposeA: Bool, transposeB: Bool, m: Int, n: Int, k: Int, a: UnsafePointer<Self>,
        b: UnsafePointer<Self>, beta: Self, c: UnsafeMutablePointer<Self>)
    /// C (m x n) = Aᵀ·B on the calling thread: A is (k x m), its rows `stride` elements apart, B (k x n) and C are dense.
    static func transposedProduct(
        m: Int, n: Int, k: Int, a: UnsafePointer<Self>, stride: Int, b: UnsafePointer<Self>,
        c: UnsafeMutablePointer<Self>)
    /// inverse[i] = 1 / max(‖row i‖, 1e-12) of a (rows x columns) matrix.
    static func inverseNorms(
        _ pool: ThreadPool, _ x: UnsafePointer<Self>, rows: Int, columns: Int, into inverse: UnsafeMutablePointer<Self>)
    /// The inner product, accumulated in double.
    static func dot(_ a: UnsafePointer<Self>, _ b: UnsafePointer<Self>, count: Int) -> Double

    /// Inner products to logits: cosines, negative rules, scale; −∞ for the target.
    static func activate(_ pool: ThreadPool, _ block: LogitBlock<Self>, _ rows: UnsafeMutablePointer<RowActivation>)
    /// values = exp(values − maximum[row]) in place, sums[row] = their sum.
    static func exponentials(
        _ pool: ThreadPool, _ block: LogitBlock<Self>, maximum: UnsafePointer<Self>, sums: UnsafeMutablePointer<Self>)
    /// Exponentials to gradients of the inner products: values = values · slopes · coefficient[row] · columnInverse,
    /// the target's = target[row] · columnInverse.
    static func differentiate(
        _ pool: ThreadPool, _ block: LogitBlock<Self>, coefficient: UnsafePointer<Double>,
        target: UnsafePointer<Double>)
    /// sums[column] += the sum of the column of a (rows x columns) matrix.
    static func addColumnSums(
        _ values: UnsafePointer<Self>, rows: Int, columns: Int, into sums: UnsafeMutablePointer<Self>)
    /// x = x · factors[row] in place.
    static func scaleRows(
        _ pool: ThreadPool, _ x: UnsafeMutablePointer<Self>, factors: UnsafePointer<Self>, rows: Int, columns: Int)
    /// Backward through the normalisation of the rows of x (rows x columns), in place on `gradient`, which already
    /// carries the factor 1/‖x‖.
    static func project(
        _ pool: ThreadPool, _ gradient: UnsafeMutablePointer<Self>, x: UnsafePointer<Self>,
        inverse: UnsafePointer<Self>, rows: Int, columns: Int, radial: UnsafePointer<RadialTerm>?)

    /// SGD on rows of (? x columns) matrices, as `Vectors.sgdRows` says.
    static func sgd(
        _ pool: ThreadPool, parameters: UnsafeMutablePointer<Self>, velocity: UnsafeMutablePointer<Self>,
        gradient: UnsafePointer<Self>, targets: UnsafePointer<Int32>?, sources: UnsafePointer<Int32>?, rows: Int,
        columns: Int, rate: Self, momentum: Self, decay: Self)
    /// SGD on class centres on the calling thread, as `Vectors.sgdCentres` says.
    static func stepCentres(
        parameters: UnsafeMutablePointer<Self>, velocity: UnsafeMutablePointer<Self>, gradient: UnsafePointer<Self>,
        targets: UnsafePointer<Int32>?, inverse: UnsafePointer<Self>?, rows: Int, columns: Int, rate: Self,
        momentum: Self, decay: Self)
    /// to = weight · from, or to += weight · from.
    static func add(
        _ from: UnsafePointer<Self>, times weight: Self, to: UnsafeMutablePointer<Self>, count: Int, replacing: Bool)
    /// Draws the centre of one class.
    static func draw(
        _ initializer: CentreInitializer, _ stream: RandomStream, into centre: UnsafeMutableBufferPointer<Self>)

    // Products with class centres that are read where they lie, as `CentreProducts` says. An element type that has none
    // packs nothing.
    static func packedCount(rows: Int, columns: Int) -> Int
    static func pack(_ x: UnsafePointer<Self>, rows: Int, columns: Int, into packed: UnsafeMutablePointer<Self>)
    static func products(
        _ pool: ThreadPool, packed: UnsafePointer<Self>, rows: Int, columns: Int, centres: UnsafePointer<Self>,
        count: Int, into values: UnsafeMutablePointer<Self>, inverse: UnsafeMutablePointer<Self>?)
    static func inputGradient(
        _ pool: ThreadPool, _ values: UnsafePointer<Self>, rows: Int, columns: Int, centres: UnsafePointer<Self>,
        count: Int, into gradient: UnsafeMutablePointer<Self>, accumulate: Bool)
    static func update(
        _ pool: ThreadPool, packed: UnsafePointer<Self>, _ values: UnsafePointer<Self>, rows: Int, columns: Int,
        count: Int, parameters: UnsafeMutablePointer<Self>, velocity: UnsafeMutablePointer<Self>,
        targets: UnsafePointer<Int32>?, inverse: UnsafePointer<Self>?, rate: Self, momentum: Self, decay: Self)

    /// `values` holds one block per rank; each rank receives the sum over ranks of its block. `values` is scratch
    /// afterwards.
    static func reduceScatter(
        _ communicator: any Communicator, _ values: UnsafeMutableBufferPointer<Self>,
        into block: UnsafeMutableBufferPointer<Self>, _ label: String) throws
}

extension HeadScalar {
    package static func packedCount(rows: Int, columns: Int) -> Int { 0 }

    package static func pack(
        _ x: UnsafePointer<Self>, rows: Int, columns: Int, into packed: UnsafeMutablePointer<Self>
    ) { unpacked() }

    package static func products(
        _ pool: ThreadPool, packed: UnsafePointer<Self>, rows: Int, columns: Int, centres: UnsafePointer<Self>,
        count: Int, into values: UnsafeMutablePointer<Self>, inverse: UnsafeMutablePointer<Self>?
    ) { unpacked() }

    package static func inputGradient(
        _ pool: ThreadPool, _ values: UnsafePointer<Self>, rows: Int, columns: Int, centres: UnsafePointer<Self>,
        count: Int, into gradient: UnsafeMutablePointer<Self>, accumulate: Bool
    ) { unpacked() }

    package static func update(
        _ pool: ThreadPool, packed: UnsafePointer<Self>, _ values: UnsafePointer<Self>, rows: Int, columns: Int,
        count: Int, parameters: UnsafeMutablePointer<Self>, velocity: UnsafeMutablePointer<Self>,
        targets: UnsafePointer<Int32>?, inverse: UnsafePointer<Self>?, rate: Self, momentum: Self, decay: Self
    ) { unpacked() }

    private static func unpacked() -> Never { preconditionFailure("\(Self.self) has no packed embeddings") }
}
