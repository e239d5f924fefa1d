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
                capacity: sampler.count, dimension: dimension, hasBias: bias != nil, frozen: isFrozen,
                holdsGradient: holdsGradient)
        }
        if sampler.count > logits.capacity {
            let blocks = LogitBlocks(
                rows: globalBatch, width: sampler.count, dimension: dimension, elementBytes: Scalar.dtype.byteCount,
                columns: logits.blocks.columns, areKept: logits.blocks.areKept)
            logits = LogitMemory(
                blocks, rows: globalBatch, width: sampler.count, withSlopes: margin.modifiesNegatives)
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
        precondition(sum == nil || holdsGradient, "a sum of gradients that were not kept")
        if !holdsGradient {
            updateFromLogits(rate: rate, momentum: momentum, decay: decay, biasDecay: biasDecay ?? decay)
            return
        }
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

    /// The same from the gradients of the products, where that of the centres is not held: a few rows of it exist at a time,
    /// and are done with before they leave the cache.
    private func updateFromLogits(rate: Scalar, momentum: Scalar, decay: Scalar, biasDecay: Scalar) {
        let count = activeCount
        let targets = sampler?.indices.baseAddress
        let inverses = margin.normalisation == .unit ? Scalar.elements(active.inverses).baseAddress : nil
        for block in 0..<logits.count(count) {
            let range = logits.range(block, of: count)
            let first = range.lowerBound
            let start = targets == nil ? first * dimension : 0
            update(
                logits.base(block), count: range.count, parameters: Scalar.elements(centres).baseAddress! + start,
                velocity: Scalar.elements(self.momentum).baseAddress! + start, targets: targets.map { $0 + first },
                inverse: inverses.map { UnsafePointer($0 + first) }, rate: rate, momentum: momentum, decay: decay)
        }
        guard let bias else { return }
        Scalar.sgd(
            pool, parameters: Scalar.elements(bias.values).baseAddress!,
            velocity: Scalar.elements(bias.momentum).baseAddress!,
            gradient: Scalar.elements(biasGradient).baseAddress!, targets: targets, sources: nil, rows: count,
            columns: 1, rate: rate, momentum: momentum, decay: biasDecay)
    }

    /// Of one block, (N x count).
    private func update(
        _ values: UnsafePointer<Scalar>, count: Int, parameters: UnsafeMutablePointer<Scalar>,
        velocity: UnsafeMutablePointer<Scalar>, targets: UnsafePointer<Int32>?, inverse: UnsafePointer<Scalar>?,
        rate: Scalar, momentum: Scalar, decay: Scalar
    ) {
        let (dimension, rows) = (dimension, globalBatch)
        if let packed {
            Scalar.update(
                pool, packed: packed, values, rows: rows, columns: dimension, count: count,
                parameters: parameters, velocity: velocity, targets: targets, inverse: inverse, rate: rate,
                momentum: momentum, decay: decay)
            return
        }
        let x = UnsafePointer(Scalar.elements(work.embeddings).baseAddress!)
        let scratch = Scalar.elements(panels).baseAddress!
        let panelCount = (count + Self.panelRows - 1) / Self.panelRows
        pool.run { part, parts in
            let panel = scratch + part * Self.panelRows * dimension
            for index in panelCount * part / parts..<panelCount * (part + 1) / parts {
                let first = index * Self.panelRows
                let own = min(Self.panelRows, count - first)
                Scalar.transposedProduct(
                    m: own, n: dimension, k: rows, a: values + first, stride: count, b: x, c: panel)
                let start = targets == nil ? first * dimension : 0
                Scalar.stepCentres(
                    parameters: parameters + start, velocity: velocity + start, gradient: panel,
                    targets: targets.map { $0 + first }, inverse: inverse.map { $0 + first }, rows: own,
                    columns: dimension, rate: rate, momentum: momentum, decay: decay)
            }
        }
    }

    /// dL/d(x·w) of every row and active class of the last step, (N x activeCount) elements in the order of the blocks;
    /// empty where the gradient of the centres is held instead. That gradient is their product with the embeddings.
    package var productGradients: UnsafeMutableBufferPointer<Scalar> {
        logits.kept(holdsGradient || isFrozen ? 0 : activeCount)
    }

    /// The valid elements of the gradient of the last step, or of a sum of several passes; none where it is not held.
    package func gradientElements(of sum: GradientSum<Scalar>? = nil) -> UnsafeMutableBufferPointer<Scalar> {
        let rows = holdsGradient ? sum?.count ?? activeCount : 0
        return UnsafeMutableBufferPointer(
            rebasing: Scalar.elements(sum?.gradient ?? gradient)[..<(rows * dimension)])
    }

    /// The same of the biases; none where there are none.
    package func biasGradientElements(of sum: GradientSum<Scalar>? = nil) -> UnsafeMutableBufferPointer<Scalar> {
        let rows = isFrozen || bias == nil ? 0 : sum?.count ?? activeCount
        return UnsafeMutableBufferPointer(rebasing: Scalar.elements(sum?.biasGradient ?? biasGradient)[..<rows])
    }
}
