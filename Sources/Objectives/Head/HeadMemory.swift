internal import Tensors

/// Bytes of one rank's share of a head that does not exist yet; see `ShardedClassifier.init`.
package struct HeadMemory: Sendable, Equatable {
    /// What lies in `HeadStorage`.
    package let centres: Int
    package let momentum: Int
    /// Of the rows that a step compares with: dL/dW, or the few rows of it that the update makes at a time; and for a sample
    /// a copy of them and what it is drawn with.
    package let gradient: Int
    package let sample: Int
    /// Logits, embeddings of the global batch and their gradient.
    package let workspace: Int
    /// Whether all logits of a step exist at a time.
    package let logits: LogitBlocks

    /// - Parameters:
    ///   - classes: C_local.
    ///   - dimension: d.
    ///   - rows: N, rows of the global batch.
    ///   - passes: of an update; the gradients of several are summed.
    ///   - keepsGradient: as the classifier is told.
    package init(
        classes: Int, dimension: Int, rows: Int, margin: any MarginFunction, sampling: ClassSampling?, frozen: Bool,
        passes: Int, keepsGradient: Bool, threads: Int
    ) {
        let float = MemoryLayout<Float>.stride
        var width = classes
        var sample = 0
        if let sampling {
            width = sampling.capacity(classes: classes, positives: rows)
            // The sample's list and bits; random words; the rows' sources of a dense update.
            let perClass = 4 + (sampling.mode == .reference ? 4 : 0) + (sampling.momentum == .dense && !frozen ? 4 : 0)
            sample = width * dimension * float + classes * perClass + classes / 8
        }
        let hasBias = margin.normalisation == .none(bias: true)
        centres = classes * dimension * float + (hasBias ? classes * float : 0)
        momentum = frozen ? 0 : centres
        logits = LogitBlocks(rows: rows, width: width, dimension: dimension, elementBytes: float)
        let isDense = sampling?.momentum == .dense
        let packed = hasBias ? 0 : Float.packedCount(rows: rows, columns: dimension)
        let panelRows = packed > 0 ? 0 : threads * ShardedClassifier<Float>.panelRows
        let rowsHeld = keepsGradient || isDense || !logits.areKept ? width : panelRows
        // `GradientSum`: rows, their list, and each class's place in it.
        let rowsSummed = passes > 1 ? min(width + (passes - 1) * rows, classes) : 0
        let places = passes > 1 ? 2 * classes : 0
        gradient = frozen ? 0 : ((rowsHeld + rowsSummed) * dimension + places) * float
        self.sample = sample
        let slopes = margin.modifiesNegatives ? rows * logits.columns : 0
        let elements = logits.elements(rows: rows, width: width) + slopes + rows * logits.count
        workspace = (2 * rows * dimension + packed + elements + rows + width) * float
    }
}
