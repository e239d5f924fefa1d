internal import CKernels

/// Products of the embeddings of a batch with very many class centres, in fp32: the centres are read where they lie, once
/// for each call. Up to 256 embeddings of 64 to 1024 components, a multiple of 64.
package enum CentreProducts {
    /// Elements of packed embeddings; 0 where these products do not take them.
    package static func packedCount(rows: Int, columns: Int) -> Int {
        rows <= Int(AK_HEAD_ROWS) && columns <= Int(AK_HEAD_COMPONENTS)
            ? ak_head_packed_floats(Int32(rows), Int32(columns)) : 0
    }

    /// Packs embeddings (rows x columns) on the calling thread; `packed` is aligned to 64 bytes.
    package static func pack(
        _ embeddings: UnsafePointer<Float>, rows: Int, columns: Int, into packed: UnsafeMutablePointer<Float>
    ) {
        ak_head_pack(embeddings, Int32(rows), Int32(columns), packed)
    }

    /// values (rows x centres, dense) = X·Wᵀ; inverse = 1/‖w‖ of each centre, unless nil.
    package static func products(
        _ pool: ThreadPool, packed: UnsafePointer<Float>, rows: Int, columns: Int, centres: UnsafePointer<Float>,
        count: Int, into values: UnsafeMutablePointer<Float>, inverse: UnsafeMutablePointer<Float>?
    ) {
        ak_head_products(
            pool.handle, packed, Int32(rows), Int32(columns), centres, count, values, count, inverse)
    }

    /// gradient (rows x columns) = G·W for G (rows x centres, dense), or += that.
    package static func inputGradient(
        _ pool: ThreadPool, _ values: UnsafePointer<Float>, rows: Int, columns: Int, centres: UnsafePointer<Float>,
        count: Int, into gradient: UnsafeMutablePointer<Float>, accumulate: Bool
    ) {
        ak_head_input_gradient(
            pool.handle, values, count, Int32(rows), Int32(columns), centres, count, gradient, accumulate)
    }

    /// `Vectors.sgdCentres` with the gradient Gᵀ·X, on all threads of the pool; the gradient never exists as a whole.
    package static func update(
        _ pool: ThreadPool, packed: UnsafePointer<Float>, _ values: UnsafePointer<Float>, rows: Int, columns: Int,
        count: Int, parameters: UnsafeMutablePointer<Float>, velocity: UnsafeMutablePointer<Float>,
        targets: UnsafePointer<Int32>?, inverse: UnsafePointer<Float>?, rate: Float, momentum: Float, decay: Float
    ) {
        ak_head_update(
            pool.handle, packed, values, count, Int32(rows), Int32(columns), count, parameters, velocity, targets,
            inverse, rate, momentum, decay)
    }
}
