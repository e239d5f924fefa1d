internal import COpenBLAS

/// Matrix products through OpenBLAS, one BLAS thread per call, split over our own pool: two pools would spin beside
/// each other. All matrices are row-major.
package enum BLAS {
    private static let singleThreaded: Void = openblas_set_num_threads(1)

    /// The library's own description: version, kernels chosen.
    package static var description: String {
        String(cString: openblas_get_config()) + " " + String(cString: openblas_get_corename())
    }

    /// C (m x n) = alpha * op(A) (m x k) * op(B) (k x n) + beta * C, in fp32.
    ///
    /// The rows or columns of C, whichever are more, are split over the pool; without one the calling thread computes all.
    package static func gemm(
        _ pool: ThreadPool?, transposeA: Bool = false, transposeB: Bool = false, m: Int, n: Int, k: Int,
        alpha: Float = 1, a: UnsafePointer<Float>, lda: Int, b: UnsafePointer<Float>, ldb: Int, beta: Float = 0,
        c: UnsafeMutablePointer<Float>, ldc: Int
    ) {
        _ = singleThreaded
        split(pool, m: m, n: n, transposeA: transposeA, transposeB: transposeB, lda: lda, ldb: ldb, ldc: ldc) {
            rows, columns, aOffset, bOffset, cOffset in
            cblas_sgemm(
                CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
                Int32(rows), Int32(columns), Int32(k), alpha, a + aOffset, Int32(lda), b + bOffset, Int32(ldb), beta,
                c + cOffset, Int32(ldc))
        }
    }

    /// The same in fp64 (oracles and small evaluations).
    package static func gemm(
        _ pool: ThreadPool?, transposeA: Bool = false, transposeB: Bool = false, m: Int, n: Int, k: Int,
        alpha: Double = 1, a: UnsafePointer<Double>, lda: Int, b: UnsafePointer<Double>, ldb: Int, beta: Double = 0,
        c: UnsafeMutablePointer<Double>, ldc: Int
    ) {
        _ = singleThreaded
        split(pool, m: m, n: n, transposeA: transposeA, transposeB: transposeB, lda: lda, ldb: ldb, ldc: ldc) {
            rows, columns, aOffset, bOffset, cOffset in
            cblas_dgemm(
                CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
                Int32(rows), Int32(columns), Int32(k), alpha, a + aOffset, Int32(lda), b + bOffset, Int32(ldb), beta,
                c + cOffset, Int32(ldc))
        }
    }

    private static func split(
        _ pool: ThreadPool?, m: Int, n: Int, transposeA: Bool, transposeB: Bool, lda: Int, ldb: Int, ldc: Int,
        _ body: (_ rows: Int, _ columns: Int, _ aOffset: Int, _ bOffset: Int, _ cOffset: Int) -> Void
    ) {
        guard m > 0, n > 0 else { return }
        guard let pool else { return body(m, n, 0, 0, 0) }
        if m >= n {
            pool.forEachRange(m) { range in
                body(range.count, n, transposeA ? range.lowerBound : range.lowerBound * lda, 0, range.lowerBound * ldc)
            }
        } else {
            pool.forEachRange(n) { range in
                body(m, range.count, 0, transposeB ? range.lowerBound * ldb : range.lowerBound, range.lowerBound)
            }
        }
    }
}
