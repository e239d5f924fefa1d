internal import Tensors

/// The cosines of all pairs of images, block by block: an N x N matrix never exists, and every scan gives the same bits.
struct AllPairsScan {
    let count: Int
    /// Of the embeddings.
    let dimension: Int
    private let values: [Float]
    private let pool: ThreadPool

    private static let blockRows = 512
    private static let blockColumns = 4096

    /// - Parameters:
    ///   - unit: embeddings of unit length.
    ///   - order: the images as the scan shall number them.
    init(_ unit: Embeddings, order: [Int32], pool: ThreadPool) {
        count = order.count
        dimension = unit.dimension
        self.pool = pool
        var values = [Float](repeating: 0, count: unit.values.count)
        for (row, image) in order.enumerated() {
            let source = Int(image) * unit.dimension
            for i in 0..<unit.dimension { values[row * unit.dimension + i] = unit.values[source + i] }
        }
        self.values = values
    }

    /// One row of a block: the cosines of image `row` with those from `firstColumn` on, which all have higher numbers.
    struct Row {
        let row: Int
        let firstColumn: Int
        let cosines: UnsafeBufferPointer<Float>
    }

    /// Calls `body` for all pairs of images (a, b) with a < b, on all threads.
    ///
    /// - Parameters:
    ///   - progress: called with the share done.
    ///   - body: gets the number of the thread, in 0..<pool.threads.
    func forEachRow(progress: (Double) -> Void, _ body: (_ part: Int, _ row: Row) -> Void) {
        let block = Tensor([Self.blockRows, Self.blockColumns])
        defer { withExtendedLifetime(block) {} }
        let target = block.pointer
        values.withUnsafeBufferPointer { values in
            guard let base = values.baseAddress else { return }
            for top in stride(from: 0, to: count, by: Self.blockRows) {
                let rows = min(Self.blockRows, count - top)
                for left in stride(from: top, to: count, by: Self.blockColumns) {
                    let columns = min(Self.blockColumns, count - left)
                    BLAS.gemm(
                        pool, transposeB: true, m: rows, n: columns, k: dimension, a: base + top * dimension,
                        lda: dimension, b: base + left * dimension, ldb: dimension, c: target, ldc: columns)
                    pool.run { part, parts in
                        // Rows in turn: those of a block on the diagonal grow shorter.
                        for row in stride(from: part, to: rows, by: parts) {
                            let first = max(0, top + row + 1 - left)
                            guard first < columns else { continue }
                            body(
                                part,
                                Row(
                                    row: top + row, firstColumn: left + first,
                                    cosines: UnsafeBufferPointer(
                                        start: target + row * columns + first, count: columns - first)))
                        }
                    }
                }
                let open = Double(count - top - rows)
                progress(1 - open * open / (Double(count) * Double(count)))
            }
        }
    }

    /// The place of a cosine among `bins` equal parts of -1...1; never falls as the cosine rises.
    @inline(__always)
    static func bin(_ cosine: Float) -> Int {
        Int(max(0, min(Float(bins - 1), (cosine + 1) * Float(bins / 2))))
    }

    static let bins = 1 << 14
}

/// Genuine or impostor pairs with their images, as a scan numbers them.
struct PairList {
    var cosines: [Float] = []
    var first: [Int32] = []
    var second: [Int32] = []

    var count: Int { cosines.count }

    mutating func append(_ cosine: Float, _ first: Int, _ second: Int) {
        cosines.append(cosine)
        self.first.append(Int32(first))
        self.second.append(Int32(second))
    }

    /// The pairs of several lists, nearest first; equally near ones in no particular order.
    static func sorted(_ lists: [PairList]) -> PairList {
        var all = PairList()
        for list in lists {
            all.cosines += list.cosines
            all.first += list.first
            all.second += list.second
        }
        // Falling cosines as rising words, with the place in the low half: whole numbers sort fast.
        var keys = all.cosines.indices.map { place -> UInt64 in
            let bits = all.cosines[place].bitPattern
            let rising = bits >> 31 == 1 ? ~bits : bits | 1 << 31
            return UInt64(~rising) << 32 | UInt64(place)
        }
        keys.sort()
        let order = keys.map { Int($0 & 0xFFFF_FFFF) }
        return PairList(
            cosines: order.map { all.cosines[$0] }, first: order.map { all.first[$0] },
            second: order.map { all.second[$0] })
    }
}
