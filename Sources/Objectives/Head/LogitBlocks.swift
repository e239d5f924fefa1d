internal import Tensors

/// How many of a step's N x C_local logits exist at a time.
///
/// They are computed block by block of the columns, so that a block's products, exponentials and gradients meet in the
/// caches. Few logits are kept from forward to backward and on to the update, which then needs no gradient of the
/// centres, as large as the centres. Of many, one block exists at a time and is computed twice.
package struct LogitBlocks: Sendable, Equatable {
    /// Columns of one block.
    package let columns: Int
    /// Blocks of all columns.
    package let count: Int
    /// There is room for all of them.
    package let areKept: Bool

    /// Kept are at most so many bytes, or a quarter of what the centres take: beside those, and their momentum, that is
    /// little, and the gradient of the centres, which the update of logits that are not kept reads, would be four times as
    /// much.
    package static var keptBytes: Int { 64 << 20 }
    package static var keptShare: Int { 4 }
    /// Of one block where they are not kept, and how narrow that may make a block.
    package static var blockBytes: Int { 16 << 20 }
    static var narrowest: Int { 512 }
    /// Columns whose centres of 512 components fit into a few MiB of cache. No power of two: the rows of a block would fall
    /// into the same places of a cache.
    static var widest: Int { 4080 }

    /// - Parameters:
    ///   - rows: N.
    ///   - width: the most columns of a step, C_local or those of a sample.
    ///   - dimension: d.
    ///   - columns: of a block; where it is given and fewer than `width`, blocks are not kept unless `areKept` says so.
    package init(
        rows: Int, width: Int, dimension: Int, elementBytes: Int, columns: Int? = nil, areKept: Bool? = nil
    ) {
        let fitting = Self.blockBytes / (rows * elementBytes) / 16 * 16
        let wanted = columns ?? min(Self.widest, max(Self.narrowest, fitting))
        self.columns = max(1, min(width, wanted))
        count = (width + self.columns - 1) / self.columns
        let most = max(Self.keptBytes, width * dimension * elementBytes / Self.keptShare)
        self.areKept = areKept ?? (count <= 1 || (columns == nil && rows * width * elementBytes <= most))
    }

    /// Elements of the memory for N rows.
    package func elements(rows: Int, width: Int) -> Int { rows * (areKept ? width : columns) }
}

/// The memory of a step's logits: products, then exponentials, then gradients of the products.
struct LogitMemory<Scalar: HeadScalar> {
    let blocks: LogitBlocks
    private let rows: Int
    private let width: Int
    private let values: Tensor
    /// f'(c) of one block's negatives, where rules are in force.
    private let slopes: Tensor?
    /// The largest logit of each block and row, and whether a rule for negatives changed any of the block.
    private let blockMaxima: Tensor
    private let rules: AlignedBuffer

    init(_ blocks: LogitBlocks, rows: Int, width: Int, withSlopes: Bool) {
        self.blocks = blocks
        self.rows = rows
        self.width = width
        values = Tensor([blocks.elements(rows: rows, width: width)], dtype: Scalar.dtype)
        slopes = withSlopes ? Tensor([rows * blocks.columns], dtype: Scalar.dtype) : nil
        blockMaxima = Tensor([blocks.count * rows], dtype: Scalar.dtype)
        rules = AlignedBuffer(byteCount: blocks.count)
    }

    /// Columns that there is room for.
    var capacity: Int { width }

    /// How many blocks `columns` columns are.
    func count(_ columns: Int) -> Int { (columns + blocks.columns - 1) / blocks.columns }

    /// The columns of a block, of `columns` in all.
    func range(_ block: Int, of columns: Int) -> Range<Int> {
        block * blocks.columns..<min((block + 1) * blocks.columns, columns)
    }

    /// Where a block lies, (rows x its columns).
    func base(_ block: Int) -> UnsafeMutablePointer<Scalar> {
        Scalar.elements(values).baseAddress! + (blocks.areKept ? rows * block * blocks.columns : 0)
    }

    var slopeBase: UnsafeMutablePointer<Scalar>? { slopes.map { Scalar.elements($0).baseAddress! } }

    func maxima(_ block: Int) -> UnsafeMutablePointer<Scalar> {
        Scalar.elements(blockMaxima).baseAddress! + rows * block
    }

    func ruleApplied(_ block: Int) -> Bool { rules.base.assumingMemoryBound(to: Bool.self)[block] }
    func setRuleApplied(_ block: Int, _ applied: Bool) {
        rules.base.assumingMemoryBound(to: Bool.self)[block] = applied
    }

    /// What all blocks of `columns` columns hold, where they are kept.
    func kept(_ columns: Int) -> UnsafeMutableBufferPointer<Scalar> {
        UnsafeMutableBufferPointer(rebasing: Scalar.elements(values)[..<(blocks.areKept ? rows * columns : 0)])
    }
}
