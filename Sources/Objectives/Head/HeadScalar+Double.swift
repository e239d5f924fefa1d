package import Collectives
package import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

extension Double: HeadScalar {
    package static var dtype: DType { .float64 }
    package static func elements(_ tensor: Tensor) -> UnsafeMutableBufferPointer<Double> { tensor.doubles }

    package static func gemm(
        _ pool: ThreadPool, transposeA: Bool, transposeB: Bool, m: Int, n: Int, k: Int, a: UnsafePointer<Double>,
        b: UnsafePointer<Double>, beta: Double, c: UnsafeMutablePointer<Double>
    ) {
        BLAS.gemm(
            pool, transposeA: transposeA, transposeB: transposeB, m: m, n: n, k: k, a: a, lda: transposeA ? m : k,
            b: b, ldb: transposeB ? k : n, beta: beta, c: c, ldc: n)
    }

    package static func transposedProduct(
        m: Int, n: Int, k: Int, a: UnsafePointer<Double>, stride: Int, b: UnsafePointer<Double>,
        c: UnsafeMutablePointer<Double>
    ) {
        BLAS.gemm(nil, transposeA: true, m: m, n: n, k: k, a: a, lda: stride, b: b, ldb: n, c: c, ldc: n)
    }

    package static func inverseNorms(
        _ pool: ThreadPool, _ x: UnsafePointer<Double>, rows: Int, columns: Int,
        into inverse: UnsafeMutablePointer<Double>
    ) {
        pool.forEachRange(rows) { range in
            for row in range {
                let x = x + row * columns
                inverse[row] = 1 / max(HeadLoops.dot(x, x, count: columns).squareRoot(), 1e-12)
            }
        }
    }

    package static func dot(_ a: UnsafePointer<Double>, _ b: UnsafePointer<Double>, count: Int) -> Double {
        HeadLoops.dot(a, b, count: count)
    }

    package static func activate(
        _ pool: ThreadPool, _ block: LogitBlock<Double>, _ rows: UnsafeMutablePointer<RowActivation>
    ) {
        HeadLoops.activate(pool, block, rows)
    }

    package static func exponentials(
        _ pool: ThreadPool, _ block: LogitBlock<Double>, maximum: UnsafePointer<Double>,
        sums: UnsafeMutablePointer<Double>
    ) {
        pool.forEachRange(block.rows) { range in
            for row in range {
                let values = block.values + row * block.columns
                var sum = 0.0
                for i in 0..<block.columns {
                    values[i] = exp(values[i] - maximum[row])
                    sum += values[i]
                }
                sums[row] = sum
            }
        }
    }

    package static func differentiate(
        _ pool: ThreadPool, _ block: LogitBlock<Double>, coefficient: UnsafePointer<Double>,
        target: UnsafePointer<Double>
    ) {
        HeadLoops.differentiate(pool, block, coefficient: coefficient, target: target)
    }

    package static func addColumnSums(
        _ values: UnsafePointer<Double>, rows: Int, columns: Int, into sums: UnsafeMutablePointer<Double>
    ) {
        HeadLoops.addColumnSums(values, rows: rows, columns: columns, into: sums)
    }

    package static func scaleRows(
        _ pool: ThreadPool, _ x: UnsafeMutablePointer<Double>, factors: UnsafePointer<Double>, rows: Int, columns: Int
    ) {
        HeadLoops.scaleRows(pool, x, factors: factors, rows: rows, columns: columns)
    }

    package static func project(
        _ pool: ThreadPool, _ gradient: UnsafeMutablePointer<Double>, x: UnsafePointer<Double>,
        inverse: UnsafePointer<Double>, rows: Int, columns: Int, radial: UnsafePointer<RadialTerm>?
    ) {
        HeadLoops.project(pool, gradient, x: x, inverse: inverse, rows: rows, columns: columns, radial: radial)
    }

    package static func sgd(
        _ pool: ThreadPool, parameters: UnsafeMutablePointer<Double>, velocity: UnsafeMutablePointer<Double>,
        gradient: UnsafePointer<Double>, targets: UnsafePointer<Int32>?, sources: UnsafePointer<Int32>?, rows: Int,
        columns: Int, rate: Double, momentum: Double, decay: Double
    ) {
        pool.forEachRange(rows) { range in
            for i in range {
                let target = (targets.map { Int($0[i]) } ?? i) * columns
                let source = (sources.map { Int($0[i]) } ?? i) * columns
                for j in 0..<columns {
                    let own = source < 0 ? 0 : gradient[source + j]
                    velocity[target + j] = momentum * velocity[target + j] + own + decay * parameters[target + j]
                    parameters[target + j] -= rate * velocity[target + j]
                }
            }
        }
    }

    package static func stepCentres(
        parameters: UnsafeMutablePointer<Double>, velocity: UnsafeMutablePointer<Double>,
        gradient: UnsafePointer<Double>, targets: UnsafePointer<Int32>?, inverse: UnsafePointer<Double>?, rows: Int,
        columns: Int, rate: Double, momentum: Double, decay: Double
    ) {
        for i in 0..<rows {
            let place = (targets.map { Int($0[i]) } ?? i) * columns
            let (p, v, g) = (parameters + place, velocity + place, gradient + i * columns)
            let along = inverse.map { dot(g, p, count: columns) * $0[i] * $0[i] } ?? 0
            for j in 0..<columns {
                v[j] = momentum * v[j] + (g[j] - along * p[j]) + decay * p[j]
                p[j] -= rate * v[j]
            }
        }
    }

    package static func add(
        _ from: UnsafePointer<Double>, times weight: Double, to: UnsafeMutablePointer<Double>, count: Int,
        replacing: Bool
    ) {
        HeadLoops.add(from, times: weight, to: to, count: count, replacing: replacing)
    }

    package static func draw(
        _ initializer: CentreInitializer, _ stream: RandomStream, into centre: UnsafeMutableBufferPointer<Double>
    ) {
        HeadLoops.draw(initializer, stream, into: centre)
    }

    package static func reduceScatter(
        _ communicator: any Communicator, _ values: UnsafeMutableBufferPointer<Double>,
        into block: UnsafeMutableBufferPointer<Double>, _ label: String
    ) throws {
        try communicator.allReduce(values, .sum, label)
        let start = communicator.rank * block.count
        _ = block.update(fromContentsOf: values[start..<start + block.count])
    }
}
