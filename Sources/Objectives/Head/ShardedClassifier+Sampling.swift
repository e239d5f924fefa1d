internal import Tensors

extension ShardedClassifier {
    /// Draws the sample of `step`, points the rows of the batch at its columns, and gathers its centres.
    func drawSample(step: Int) {
        guard let sampler else { return }
        let columns = UnsafeMutableBufferPointer(start: work.localColumns, count: globalBatch)
        sampler.draw(step: step, targets: UnsafeBufferPointer(columns))
        if sampler.count > rowCapacity {
            // Once in about 10⁹ steps. The sample is the same on any number of ranks, so there must be room for it.
            active = ActiveRows(
                capacity: sampler.count, dimension: dimension, hasBias: bias != nil, frozen: isFrozen)
        }
        for row in columns.indices where columns[row] >= 0 { columns[row] = sampler.column(of: columns[row]) }
        copyActiveRows { active, whole, bytes in active.copyMemory(from: whole, byteCount: bytes) }
        if let bias {
            let (gathered, whole) = (Scalar.elements(active.biases), Scalar.elements(bias.values))
            for (place, row) in sampler.indices.enumerated() { gathered[place] = whole[Int(row)] }
        }
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
    ///
    /// - Parameter biasDecay: weight decay of the biases; that of the centres if nil.
    package func update(
        rate: Scalar, momentum: Scalar, decay: Scalar, biasDecay: Scalar? = nil, with sum: GradientSum<Scalar>? = nil
    ) {
        guard !isFrozen, !classRange.isEmpty else { return }
        func step(targets: UnsafePointer<Int32>?, sources: UnsafePointer<Int32>?, rows: Int) {
            func step(_ parameters: Tensor, _ velocity: Tensor, _ gradient: Tensor, columns: Int, decay: Scalar) {
                Scalar.sgd(
                    pool, parameters: Scalar.elements(parameters).baseAddress!,
                    velocity: Scalar.elements(velocity).baseAddress!,
                    gradient: Scalar.elements(gradient).baseAddress!, targets: targets, sources: sources, rows: rows,
                    columns: columns, rate: rate, momentum: momentum, decay: decay)
            }
            step(centres, self.momentum, sum?.gradient ?? gradient, columns: dimension, decay: decay)
            guard let bias else { return }
            step(bias.values, bias.momentum, sum?.biasGradient ?? biasGradient, columns: 1, decay: biasDecay ?? decay)
        }
        guard let sampler else {
            step(targets: nil, sources: nil, rows: classRange.count)
            return
        }
        let indices = sum?.rows ?? sampler.indices
        switch sampler.sampling.momentum {
        case .sparse:
            step(targets: indices.baseAddress, sources: nil, rows: indices.count)
        case .dense:
            let places = sources.base.assumingMemoryBound(to: Int32.self)
            places.update(repeating: -1, count: classRange.count)
            for i in indices.indices { places[Int(indices[i])] = Int32(i) }
            step(targets: nil, sources: places, rows: classRange.count)
        }
    }

    /// The valid elements of the gradient of the last step, or of a sum of several passes.
    package func gradientElements(of sum: GradientSum<Scalar>? = nil) -> UnsafeMutableBufferPointer<Scalar> {
        let rows = isFrozen ? 0 : sum?.count ?? activeCount
        return UnsafeMutableBufferPointer(
            rebasing: Scalar.elements(sum?.gradient ?? gradient)[..<(rows * dimension)])
    }

    /// The same of the biases; none where there are none.
    package func biasGradientElements(of sum: GradientSum<Scalar>? = nil) -> UnsafeMutableBufferPointer<Scalar> {
        let rows = isFrozen || bias == nil ? 0 : sum?.count ?? activeCount
        return UnsafeMutableBufferPointer(rebasing: Scalar.elements(sum?.biasGradient ?? biasGradient)[..<rows])
    }
}
