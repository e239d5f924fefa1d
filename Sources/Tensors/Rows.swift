internal import CKernels

/// Operations over the rows of row-major fp32 matrices whose rows lie `stride` elements apart (`stride` >= columns),
/// split over the pool in fixed partitions.
package enum Rows {
    /// maxima[i] = the largest of row i, NaN passed over; -inf for an empty row.
    package static func maximum(
        _ pool: ThreadPool, _ x: UnsafeMutablePointer<Float>, rows: Int, columns: Int, stride: Int,
        into maxima: UnsafeMutableBufferPointer<Float>
    ) {
        check(rows: rows, columns: columns, stride: stride, results: maxima.count)
        guard rows > 0 else { return }
        ak_row_max(pool.handle, x, Int32(rows), Int32(columns), stride, maxima.baseAddress!)
    }

    /// x[i, j] = exp(x[i, j] - m[i]) in place, and sums[i] = their sum: with the rows' maxima (over all ranks) as m,
    /// the numerators and the denominator of a stable softmax.
    package static func expSum(
        _ pool: ThreadPool, _ x: UnsafeMutablePointer<Float>, rows: Int, columns: Int, stride: Int,
        minus m: UnsafeMutableBufferPointer<Float>, into sums: UnsafeMutableBufferPointer<Float>
    ) {
        check(rows: rows, columns: columns, stride: stride, results: sums.count)
        precondition(m.count == rows, "\(m.count) maxima for \(rows) rows")
        guard rows > 0 else { return }
        ak_row_exp_sum(pool.handle, x, Int32(rows), Int32(columns), stride, m.baseAddress!, sums.baseAddress!)
    }

    /// inverses[i] = 1 / max(|row i|, 1e-12).
    package static func inverseNorm(
        _ pool: ThreadPool, _ x: UnsafeMutablePointer<Float>, rows: Int, columns: Int, stride: Int,
        into inverses: UnsafeMutableBufferPointer<Float>
    ) {
        check(rows: rows, columns: columns, stride: stride, results: inverses.count)
        guard rows > 0 else { return }
        ak_row_inverse_norm(pool.handle, x, Int32(rows), Int32(columns), stride, inverses.baseAddress!)
    }

    private static func check(rows: Int, columns: Int, stride: Int, results: Int) {
        precondition(
            rows >= 0 && columns >= 0 && stride >= columns && results == rows,
            "\(rows) rows of \(columns) columns, \(stride) apart, into \(results) results")
    }
}
