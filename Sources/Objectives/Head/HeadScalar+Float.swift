package import Collectives
package import Tensors

extension Float: HeadScalar {
    package static var dtype: DType { .float32 }
    package static func elements(_ tensor: Tensor) -> UnsafeMutableBufferPointer<Float> { tensor.floats }

    package static func gemm(
        _ pool: ThreadPool, transposeA: Bool, transposeB: Bool, m: Int, n: Int, k: Int, a: UnsafePointer<Float>,
        b: UnsafePointer<Float>, beta: Float, c: UnsafeMutablePointer<Float>
    ) {
        BLAS.gemm(
            pool, transposeA: transposeA, transposeB: transposeB, m: m, n: n, k: k, a: a, lda: transposeA ? m : k,
            b: b, ldb: transposeB ? k : n, beta: beta, c: c, ldc: n)
    }

    package static func transposedProduct(
        m: Int, n: Int, k: Int, a: UnsafePointer<Float>, stride: Int, b: UnsafePointer<Float>,
        c: UnsafeMutablePointer<Float>
    ) {
        BLAS.gemm(nil, transposeA: true, m: m, n: n, k: k, a: a, lda: stride, b: b, ldb: n, c: c, ldc: n)
    }

    package static func inverseNorms(
        _ pool: ThreadPool, _ x: UnsafePointer<Float>, rows: Int, columns: Int,
        into inverse: UnsafeMutablePointer<Float>
    ) {
        Rows.inverseNorm(
            pool, UnsafeMutablePointer(mutating: x), rows: rows, columns: columns, stride: columns,
            into: UnsafeMutableBufferPointer(start: inverse, count: rows))
    }

    package static func dot(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, count: Int) -> Double {
        HeadLoops.dot(a, b, count: count)
    }

    package static func activate(
        _ pool: ThreadPool, _ block: LogitBlock<Float>, _ rows: UnsafeMutablePointer<RowActivation>
    ) {
        HeadLoops.activate(pool, block, rows)
    }

    package static func exponentials(
        _ pool: ThreadPool, _ block: LogitBlock<Float>, maximum: UnsafePointer<Float>,
        sums: UnsafeMutablePointer<Float>
    ) {
        Rows.expSum(
            pool, block.values, rows: block.rows, columns: block.columns, stride: block.columns,
            minus: UnsafeMutableBufferPointer(start: UnsafeMutablePointer(mutating: maximum), count: block.rows),
            into: UnsafeMutableBufferPointer(start: sums, count: block.rows))
    }

    package static func differentiate(
        _ pool: ThreadPool, _ block: LogitBlock<Float>, coefficient: UnsafePointer<Double>,
        target: UnsafePointer<Double>
    ) {
        HeadLoops.differentiate(pool, block, coefficient: coefficient, target: target)
    }

    package static func addColumnSums(
        _ values: UnsafePointer<Float>, rows: Int, columns: Int, into sums: UnsafeMutablePointer<Float>
    ) {
        HeadLoops.addColumnSums(values, rows: rows, columns: columns, into: sums)
    }

    package static func scaleRows(
        _ pool: ThreadPool, _ x: UnsafeMutablePointer<Float>, factors: UnsafePointer<Float>, rows: Int, columns: Int
    ) {
        HeadLoops.scaleRows(pool, x, factors: factors, rows: rows, columns: columns)
    }

    /// Rows of unit length.
    ///
    /// - Parameters:
    ///   - raw: (rows x columns).
    ///   - unit: written, likewise.
    ///   - inverse: 1/‖x‖ by row; written.
    static func normalise(
        _ pool: ThreadPool, _ raw: UnsafePointer<Float>, rows: Int, columns: Int, into unit: UnsafeMutablePointer<Float>,
        inverse: UnsafeMutablePointer<Float>
    ) {
        inverseNorms(pool, raw, rows: rows, columns: columns, into: inverse)
        unit.update(from: raw, count: rows * columns)
        scaleRows(pool, unit, factors: inverse, rows: rows, columns: columns)
    }

    package static func project(
        _ pool: ThreadPool, _ gradient: UnsafeMutablePointer<Float>, x: UnsafePointer<Float>,
        inverse: UnsafePointer<Float>, rows: Int, columns: Int, radial: UnsafePointer<RadialTerm>?
    ) {
        HeadLoops.project(pool, gradient, x: x, inverse: inverse, rows: rows, columns: columns, radial: radial)
    }

    package static func sgd(
        _ pool: ThreadPool, parameters: UnsafeMutablePointer<Float>, velocity: UnsafeMutablePointer<Float>,
        gradient: UnsafePointer<Float>, targets: UnsafePointer<Int32>?, sources: UnsafePointer<Int32>?, rows: Int,
        columns: Int, rate: Float, momentum: Float, decay: Float
    ) {
        Vectors.sgdRows(
            pool, parameters: parameters, velocity: velocity, gradient: gradient, targets: targets, sources: sources,
            rows: rows, columns: columns, rate: rate, momentum: momentum, decay: decay)
    }

    package static func stepCentres(
        parameters: UnsafeMutablePointer<Float>, velocity: UnsafeMutablePointer<Float>, gradient: UnsafePointer<Float>,
        targets: UnsafePointer<Int32>?, inverse: UnsafePointer<Float>?, rows: Int, columns: Int, rate: Float,
        momentum: Float, decay: Float
    ) {
        Vectors.sgdCentres(
            parameters: parameters, velocity: velocity, gradient: gradient, targets: targets, inverse: inverse,
            rows: rows, columns: columns, rate: rate, momentum: momentum, decay: decay)
    }

    package static func packedCount(rows: Int, columns: Int) -> Int {
        CentreProducts.packedCount(rows: rows, columns: columns)
    }

    package static func pack(
        _ x: UnsafePointer<Float>, rows: Int, columns: Int, into packed: UnsafeMutablePointer<Float>
    ) {
        CentreProducts.pack(x, rows: rows, columns: columns, into: packed)
    }

    package static func products(
        _ pool: ThreadPool, packed: UnsafePointer<Float>, rows: Int, columns: Int, centres: UnsafePointer<Float>,
        count: Int, into values: UnsafeMutablePointer<Float>, inverse: UnsafeMutablePointer<Float>?
    ) {
        CentreProducts.products(
            pool, packed: packed, rows: rows, columns: columns, centres: centres, count: count, into: values,
            inverse: inverse)
    }

    package static func inputGradient(
        _ pool: ThreadPool, _ values: UnsafePointer<Float>, rows: Int, columns: Int, centres: UnsafePointer<Float>,
        count: Int, into gradient: UnsafeMutablePointer<Float>, accumulate: Bool
    ) {
        CentreProducts.inputGradient(
            pool, values, rows: rows, columns: columns, centres: centres, count: count, into: gradient,
            accumulate: accumulate)
    }

    package static func update(
        _ pool: ThreadPool, packed: UnsafePointer<Float>, _ values: UnsafePointer<Float>, rows: Int, columns: Int,
        count: Int, parameters: UnsafeMutablePointer<Float>, velocity: UnsafeMutablePointer<Float>,
        targets: UnsafePointer<Int32>?, inverse: UnsafePointer<Float>?, rate: Float, momentum: Float, decay: Float
    ) {
        CentreProducts.update(
            pool, packed: packed, values, rows: rows, columns: columns, count: count, parameters: parameters,
            velocity: velocity, targets: targets, inverse: inverse, rate: rate, momentum: momentum, decay: decay)
    }

    package static func add(
        _ from: UnsafePointer<Float>, times weight: Float, to: UnsafeMutablePointer<Float>, count: Int, replacing: Bool
    ) {
        HeadLoops.add(from, times: weight, to: to, count: count, replacing: replacing)
    }

    package static func draw(
        _ initializer: CentreInitializer, _ stream: RandomStream, into centre: UnsafeMutableBufferPointer<Float>
    ) {
        switch initializer {
        case .normal(let deviation): stream.normals(times: deviation, into: centre)
        case .unitUniform: HeadLoops.draw(initializer, stream, into: centre)
        }
    }

    package static func reduceScatter(
        _ communicator: any Communicator, _ values: UnsafeMutableBufferPointer<Float>,
        into block: UnsafeMutableBufferPointer<Float>, _ label: String
    ) throws {
        try communicator.reduceScatter(UnsafeBufferPointer(values), into: block, label)
    }
}
