internal import Tensors

extension ShardedClassifier {
    /// Draws the sample of `step`, points the rows of the batch at its columns, and gathers its centres.
    func drawSample(step: Int) {
        guard let sampler else { return }
        let columns = UnsafeMutableBufferPointer(start: work.localColumns, count: globalBatch)
        sampler.draw(step: step, targets: UnsafeBufferPointer(columns))
        if sampler.count > rowCapacity {
            // Once in about 10⁹ steps. The sample is the same on any number of ranks, so there must be room for it.
            active = ActiveRows(capacity: sampler.count, dimension: dimension, frozen: isFrozen)
        }
        for row in columns.indices where columns[row] >= 0 { columns[row] = sampler.column(of: columns[row]) }
        copyActiveRows { active, whole, bytes in active.copyMemory(from: whole, byteCount: bytes) }
    }

    /// Writes the gathered centres back to their places.
    func scatterCentres() {
        copyActiveRows { active, whole, bytes in whole.copyMemory(from: active, byteCount: bytes) }
    }

    private func copyActiveRows(
        _ copy: (_ active: UnsafeMutableRawPointer, _ whole: UnsafeMutableRawPointer, _ bytes: Int) -> Void
    ) {
        guard let indices = sampler?.indices else { return }
        let bytes = dimension * Scalar.dtype.byteCount
        let gathered = active.centres.bytes
        let whole = centres.bytes
        pool.forEachRange(indices.count) { range in
            for i in range {
                copy(gathered.baseAddress! + i * bytes, whole.baseAddress! + Int(indices[i]) * bytes, bytes)
            }
        }
    }

    // MARK: - Updates

    /// One step of SGD on the shard's centres with the gradient of the last step, or with the sum of several passes.
    ///
    /// Of the rows that have no gradient, `sparse` leaves centres and momentum as they are, and `dense` moves them by
    /// weight decay and momentum.
    package func update(rate: Scalar, momentum: Scalar, decay: Scalar, with sum: GradientSum<Scalar>? = nil) {
        guard !isFrozen, !classRange.isEmpty else { return }
        func step(
            _ gradient: UnsafePointer<Scalar>, targets: UnsafePointer<Int32>?, sources: UnsafePointer<Int32>?, rows: Int
        ) {
            Scalar.sgd(
                pool, parameters: Scalar.elements(centres).baseAddress!,
                velocity: Scalar.elements(self.momentum).baseAddress!, gradient: gradient, targets: targets,
                sources: sources, rows: rows, columns: dimension, rate: rate, momentum: momentum, decay: decay)
        }
        let gradient = UnsafePointer(Scalar.elements(sum?.gradient ?? self.gradient).baseAddress!)
        guard let sampler else {
            step(gradient, targets: nil, sources: nil, rows: classRange.count)
            return
        }
        let indices = sum?.rows ?? sampler.indices
        switch sampler.sampling.momentum {
        case .sparse:
            step(gradient, targets: indices.baseAddress, sources: nil, rows: indices.count)
        case .dense:
            let places = sources.base.assumingMemoryBound(to: Int32.self)
            places.update(repeating: -1, count: classRange.count)
            for i in indices.indices { places[Int(indices[i])] = Int32(i) }
            step(gradient, targets: nil, sources: places, rows: classRange.count)
        }
    }

    /// The valid elements of the gradient of the last step, or of a sum of several passes.
    package func gradientElements(of sum: GradientSum<Scalar>? = nil) -> UnsafeMutableBufferPointer<Scalar> {
        let rows = isFrozen ? 0 : sum?.count ?? activeCount
        return UnsafeMutableBufferPointer(
            rebasing: Scalar.elements(sum?.gradient ?? gradient)[..<(rows * dimension)])
    }
}
