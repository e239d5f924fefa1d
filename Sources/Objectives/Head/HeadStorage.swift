package import Tensors

/// Where a shard's class centres and their momentum lie.
package struct HeadStorage {
    /// (C_local x d), zero at first.
    package let centres: Tensor
    /// (C_local x d), zero at first; (0 x d) where the centres are frozen.
    package let momentum: Tensor

    /// In memory.
    package init(rows: Int, dimension: Int, dtype: DType = .float32, frozen: Bool = false) {
        centres = Tensor([rows, dimension], dtype: dtype)
        momentum = Tensor([frozen ? 0 : rows, dimension], dtype: dtype)
    }

    /// In files of a folder, mapped into memory: the operating system writes rows out and reads them again as it needs
    /// the memory. The files have no names once they are open, and go with the process.
    ///
    /// - Throws: `MappedFileError` when the folder has no room for them, or cannot be written.
    package init(
        in folder: String, rows: Int, dimension: Int, dtype: DType = .float32, frozen: Bool = false
    ) throws(MappedFileError) {
        func tensor(_ rows: Int) throws(MappedFileError) -> Tensor {
            let shape = [rows, dimension]
            let bytes = rows * dimension * dtype.byteCount
            return Tensor(
                shape, dtype: dtype, buffer: try MappedFile.temporary(in: folder, byteCount: bytes), byteOffset: 0)
        }
        centres = try tensor(rows)
        momentum = try tensor(frozen ? 0 : rows)
    }
}
