import Tensors
import Testing

struct BLASTests {
    struct Product: Sendable {
        var m: Int
        var n: Int
        var k: Int
        var transposeA: Bool
        var transposeB: Bool
    }

    static let products = [(1, 1, 1), (5, 3, 7), (3, 17, 4), (33, 2, 65), (2, 70, 19), (31, 31, 31)].flatMap {
        m, n, k in
        [(false, false), (false, true), (true, false), (true, true)].map {
            Product(m: m, n: n, k: k, transposeA: $0, transposeB: $1)
        }
    }

    /// Row-major storage with rows a little apart; `at` reads op(matrix).
    private struct Operand<Element: BinaryFloatingPoint> {
        var values: [Element]
        let stride: Int
        let transposed: Bool

        init(rows: Int, columns: Int, transposed: Bool, index: UInt64) {
            self.transposed = transposed
            stride = (transposed ? rows : columns) + 3
            values = randomValues((transposed ? columns : rows) * stride, index).map { Element($0) }
        }

        func at(_ i: Int, _ j: Int) -> Double { Double(transposed ? values[j * stride + i] : values[i * stride + j]) }
    }

    /// Checks a product alpha * op(A) * op(B) + beta * C against loops, and that nothing beside C changed.
    private func check<Element: BinaryFloatingPoint>(
        _ p: Product, tolerance: Double,
        _ gemm: (_ a: Operand<Element>, _ b: Operand<Element>, _ c: inout Operand<Element>) -> Void
    ) {
        let a = Operand<Element>(rows: p.m, columns: p.k, transposed: p.transposeA, index: 1)
        let b = Operand<Element>(rows: p.k, columns: p.n, transposed: p.transposeB, index: 2)
        let before = Operand<Element>(rows: p.m, columns: p.n, transposed: false, index: 3)
        var c = before
        gemm(a, b, &c)
        for i in 0..<p.m {
            for j in 0..<c.stride {
                guard j < p.n else {
                    #expect(c.at(i, j) == before.at(i, j))
                    continue
                }
                let sum = (0..<p.k).reduce(0.0) { $0 + a.at(i, $1) * b.at($1, j) }
                #expect(abs(c.at(i, j) - (1.5 * sum + 0.5 * before.at(i, j))) < tolerance, "\(p) at \(i), \(j)")
            }
        }
    }

    @Test(arguments: products)
    func floatsMatchLoops(p: Product) {
        for threads in 1...3 {
            let pool = ThreadPool(threads: threads)
            check(p, tolerance: 1e-4) { (a: Operand<Float>, b: Operand<Float>, c: inout Operand<Float>) in
                BLAS.gemm(
                    pool, transposeA: p.transposeA, transposeB: p.transposeB, m: p.m, n: p.n, k: p.k, alpha: 1.5,
                    a: a.values, lda: a.stride, b: b.values, ldb: b.stride, beta: 0.5, c: &c.values, ldc: c.stride)
            }
        }
    }

    @Test(arguments: products)
    func doublesMatchLoops(p: Product) {
        for threads in 1...3 {
            let pool = ThreadPool(threads: threads)
            check(p, tolerance: 1e-12) { (a: Operand<Double>, b: Operand<Double>, c: inout Operand<Double>) in
                BLAS.gemm(
                    pool, transposeA: p.transposeA, transposeB: p.transposeB, m: p.m, n: p.n, k: p.k, alpha: 1.5,
                    a: a.values, lda: a.stride, b: b.values, ldb: b.stride, beta: 0.5, c: &c.values, ldc: c.stride)
            }
        }
    }

    /// beta = 0 overwrites, whatever was there.
    @Test func zeroBetaIgnoresC() {
        var c = [Float](repeating: .nan, count: 4)
        let (a, b): ([Float], [Float]) = ([1, 2, 3, 4], [5, 6, 7, 8])
        BLAS.gemm(ThreadPool(threads: 2), m: 2, n: 2, k: 2, a: a, lda: 2, b: b, ldb: 2, c: &c, ldc: 2)
        #expect(c == [19, 22, 43, 50])
        #expect(BLAS.description.contains("OpenBLAS"))
    }
}
