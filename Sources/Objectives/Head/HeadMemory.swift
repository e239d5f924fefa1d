/// Bytes of one rank's share of a head that does not exist yet; see `ShardedClassifier.init`.
package struct HeadMemory: Sendable, Equatable {
    /// What lies in `HeadStorage`.
    package let centres: Int
    package let momentum: Int
    /// Of the rows that a step compares with: dL/dW, and for a sample a copy of them and what it is drawn with.
    package let gradient: Int
    package let sample: Int
    /// Logits, embeddings of the global batch and their gradient.
    package let workspace: Int

    /// - Parameters:
    ///   - classes: C_local.
    ///   - dimension: d.
    ///   - rows: N, rows of the global batch.
    package init(
        classes: Int, dimension: Int, rows: Int, margin: any MarginFunction, sampling: ClassSampling?, frozen: Bool
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
        gradient = frozen ? 0 : width * dimension * float
        self.sample = sample
        let slopes = margin.modifiesNegatives ? rows * min(width, HeadWorkspace<Float>.slopeColumns) : 0
        workspace = (2 * rows * dimension + rows * width + slopes + rows + width) * float
    }
}
