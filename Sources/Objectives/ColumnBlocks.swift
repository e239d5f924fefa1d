/// Logits of objectives beside the head are made some columns at a time, so that their memory does not grow with the classes.
package enum ColumnBlocks {
    /// Elements of a block.
    package static let elements = 8 << 20

    /// The columns of a block.
    ///
    /// - Parameter columns: that there are.
    package static func width(rows: Int, of columns: Int, elements: Int = elements) -> Int {
        max(1, min(columns, elements / max(1, rows)))
    }
}
