package import Collectives
package import Tensors

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

extension ShardedClassifier {
    /// Gathers the labels of the global batch and, where classes are sampled, draws the sample and gathers its rows.
    /// Must precede `step`; needs no embeddings.
    ///
    /// - Parameters:
    ///   - labels: global class index of this rank's B rows.
    ///   - samples: global record index of the same rows, the key of random margins; the row's place in the global
    ///     batch if nil.
    ///   - step: updates completed before this one, the key of the sample: the passes of one update draw the same
    ///     classes beside their positives.
    ///   - channel: the communicator to gather over, where the gather runs beside others; the head's own if nil.
    /// - Throws: `CollectiveError`; `ClassificationError` on every rank when any rank's label is no class.
    package func begin(
        labels: UnsafeBufferPointer<Int>, samples: UnsafeBufferPointer<Int>? = nil, step: Int = 0,
        over channel: (any Communicator)? = nil
    ) throws {
        precondition(labels.count == batch, "\(labels.count) labels for a batch of \(batch)")
        precondition(samples == nil || samples!.count == batch, "\(samples!.count) records for a batch of \(batch)")
        let own = work.ownKeys
        for row in 0..<batch {
            own[row] = Int64(labels[row])
            own[batch + row] = Int64(samples?[row] ?? ownRows.lowerBound + row)
        }
        try (channel ?? communicator).allGather(
            UnsafeRawBufferPointer(own), into: UnsafeMutableRawBufferPointer(work.gatheredKeys), "head labels")
        for row in 0..<globalBatch {
            let (rank, place) = row.quotientAndRemainder(dividingBy: batch)
            let label = work.gatheredKeys[2 * batch * rank + place]
            let sample = work.gatheredKeys[2 * batch * rank + batch + place]
            guard label >= 0, label < Int64(shards.classes) else {
                throw ClassificationError.labelOutOfRange(
                    label: label, rank: rank, row: place, sample: sample, classes: shards.classes)
            }
            work.labels[row] = label
            work.samples[row] = sample
            work.localColumns[row] = classRange.contains(Int(label)) ? Int(label) - classRange.lowerBound : -1
        }
        if sampler != nil { drawSample(step: step) }
    }

    /// One forward and backward pass of the head over the global batch, after `begin`.
    ///
    /// - Parameters:
    ///   - embeddings: raw embeddings of this rank, (B x d).
    ///   - step: steps completed before this one.
    /// - Returns: loss and metrics; `gradient` and `embeddingGradient` hold the derivatives.
    /// - Throws: `CollectiveError`.
    package func step(embeddings: Tensor, step: Int) throws -> ClassificationResult {
        precondition(
            embeddings.shape == [batch, dimension], "embeddings \(embeddings.shape), B x d = \(batch) x \(dimension)")
        try trace.slice("gather", bytes: work.embeddings.byteCount) {
            try communicator.allGather(
                UnsafeRawBufferPointer(embeddings.bytes), into: work.embeddings.bytes, "head embeddings")
        }
        try trace.slice("margins") { try prepareRows(step: step) }
        trace.slice("logits") { forward() }
        let result = try joinSoftmax()
        trace.slice("head backward") {
            prepareBackward()
            backward()
            addend?(self)
        }
        try trace.slice("reduce-scatter", bytes: work.partialGradient.byteCount) {
            try Scalar.reduceScatter(
                communicator, Scalar.elements(work.partialGradient), into: Scalar.elements(embeddingGradient),
                "head embedding gradients")
        }
        return result
    }

    private var x: UnsafeMutablePointer<Scalar> { Scalar.elements(work.embeddings).baseAddress! }
    /// The active rows of class centres, and 1/‖w‖ of each.
    private var w: UnsafeMutablePointer<Scalar> { Scalar.elements(active.centres).baseAddress! }
    private var columnInverse: UnsafeMutablePointer<Scalar> { Scalar.elements(active.inverses).baseAddress! }
    /// The embeddings once more, where there are products with centres where they lie.
    var packed: UnsafeMutablePointer<Scalar>? {
        work.packedEmbeddings.count > 0 ? Scalar.elements(work.packedEmbeddings).baseAddress : nil
    }

    /// 1/‖w‖ of some of the active rows.
    private func refreshCentreNorms(_ rows: Range<Int>) {
        Scalar.inverseNorms(
            pool, w + rows.lowerBound * dimension, rows: rows.count, columns: dimension,
            into: columnInverse + rows.lowerBound)
    }

    private func row(_ index: Int, cosine: Double) -> MarginRow {
        MarginRow(index: index, sample: work.samples[index], cosine: cosine, norm: work.norms[index])
    }

    private var isNormalised: Bool { margin.normalisation == .unit }

    /// Norms and inverse norms of embeddings; those of centres follow block by block, when they are read for their
    /// products. The inverses are 1 where inner products are wanted as they are.
    private func normalise() {
        Scalar.inverseNorms(pool, x, rows: globalBatch, columns: dimension, into: work.rowInverse)
        for row in 0..<globalBatch { work.norms[row] = 1 / Double(work.rowInverse[row]) }
        if let packed { Scalar.pack(x, rows: globalBatch, columns: dimension, into: packed) }
        guard isNormalised else {
            work.rowInverse.update(repeating: 1, count: globalBatch)
            columnInverse.update(repeating: 1, count: activeCount)
            return
        }
        if margin.normalisesCentres {
            refreshCentreNorms(0..<activeCount)
            Scalar.scaleRows(pool, w, factors: columnInverse, rows: activeCount, columns: dimension)
            if sampler != nil { scatterCentres() }
        }
    }

    /// Norms, target cosines, and what the margin function makes of each row.
    private func prepareRows(step: Int) throws {
        normalise()
        for row in 0..<globalBatch {
            let column = work.localColumns[row]
            var cosine = 0.0
            if column >= 0 {
                let centre = w + column * dimension
                let product = Scalar.dot(x + row * dimension, centre, count: dimension)
                let length = isNormalised ? Scalar.dot(centre, centre, count: dimension).squareRoot() : 1
                cosine = product * Double(work.rowInverse[row]) / max(length, 1e-12)
                cosine = isNormalised ? (cosine > 1 ? 1 : (cosine < -1 ? -1 : cosine)) : cosine + active.bias(column)
            }
            work.localTargetCosines[row] = cosine
            work.targetCosines[row] = cosine
        }
        let isShared = margin.needsTargetCosines
        if isShared { try communicator.allReduce(work.targetCosines, .sum, "head target cosines") }
        margin.prepare(
            MarginBatch(
                step: step, norms: UnsafeBufferPointer(work.norms), samples: UnsafeBufferPointer(work.samples),
                targetCosines: UnsafeBufferPointer(isShared ? work.targetCosines : .init(start: nil, count: 0))))
        for index in 0..<globalBatch {
            let row = row(index, cosine: work.targetCosines[index])
            let scale = margin.scale(row)
            var state = RowActivation(scale: scale.value)
            work.scaleSlopes[index] = scale.normSlope
            state.rule = margin.negatives(row)
            precondition(state.rule == nil || margin.modifiesNegatives, "an undeclared rule for negatives")
            if work.localColumns[index] >= 0 {
                let target = margin.target(row)
                state.targetLogit = scale.value * target.value
                work.targetSlopes[index] = target.slope
                work.targetNormSlopes[index] = target.normSlope
            }
            work.activations[index] = state
        }
    }

    /// A block of columns, whatever its values are.
    private func part(_ block: Int, withSlopes: Bool) -> LogitBlock<Scalar> {
        let range = logits.range(block, of: activeCount)
        for row in 0..<globalBatch {
            let column = work.localColumns[row]
            work.blockTargets[row] = range.contains(column) ? column - range.lowerBound : -1
        }
        return LogitBlock(
            values: logits.base(block), slopes: withSlopes ? logits.slopeBase : nil, rows: globalBatch,
            columns: range.count, limit: isNormalised ? 1 : .infinity, targets: work.blockTargets,
            rowInverse: work.rowInverse, columnInverse: columnInverse + range.lowerBound)
    }

    /// The same with inner products as values.
    ///
    /// - Parameter withNorms: finds 1/‖w‖ of the block's centres, too, where inner products are normalised: they come from
    ///   memory once for both.
    private func multiplied(_ block: Int, withSlopes: Bool = false, withNorms: Bool = false) -> LogitBlock<Scalar> {
        let range = logits.range(block, of: activeCount)
        let part = part(block, withSlopes: withSlopes)
        let norms = withNorms && isNormalised
        if let packed {
            Scalar.products(
                pool, packed: packed, rows: globalBatch, columns: dimension, centres: w + range.lowerBound * dimension,
                count: range.count, into: part.values, inverse: norms ? columnInverse + range.lowerBound : nil)
            return part
        }
        if norms { refreshCentreNorms(range) }
        active.fillBiases(part.values, rows: globalBatch, columns: range)
        Scalar.gemm(
            pool, transposeA: false, transposeB: true, m: globalBatch, n: range.count, k: dimension, a: x,
            b: w + range.lowerBound * dimension, beta: bias == nil ? 0 : 1, c: part.values)
        return part
    }

    /// Maxima and sums of exponentials over the active rows, without the targets: their exponentials join in double, so that
    /// 1 − p_y keeps its digits when it is small. The exponentials of a block are relative to its own maxima.
    private func forward() {
        for row in 0..<globalBatch {
            work.negativeMaxima[row] = -.infinity
            work.localMaxima[row] = -.infinity
            work.localSums[row] = 0
        }
        for block in 0..<logits.count(activeCount) {
            let part = multiplied(block, withNorms: true)
            Scalar.activate(pool, part, work.activations)
            let maxima = logits.maxima(block)
            var ruleApplied = false
            for row in 0..<globalBatch {
                let state = work.activations[row]
                if state.ruleApplied { ruleApplied = true }
                work.negativeMaxima[row] = max(work.negativeMaxima[row], state.negativeMaximum)
                maxima[row] = Scalar(state.logitMaximum)
                work.blockShifts[row] = shift(maxima[row])
            }
            logits.setRuleApplied(block, ruleApplied)
            Scalar.exponentials(pool, part, maximum: work.blockShifts, sums: work.blockSums)
            for row in 0..<globalBatch {
                let blockMaximum = work.activations[row].logitMaximum
                let maximum = max(work.localMaxima[row], blockMaximum)
                work.localSums[row] =
                    shifted(work.localSums[row], from: work.localMaxima[row], to: maximum)
                    + shifted(Double(work.blockSums[row]), from: blockMaximum, to: maximum)
                work.localMaxima[row] = maximum
            }
        }
    }

    /// What is subtracted from logits whose maximum is given; −∞ stands for no logits.
    private func shift(_ maximum: Scalar) -> Scalar { maximum == -.infinity ? 0 : maximum }

    /// A sum of exponentials relative to another maximum. Without logits it is 0, or NaN if all were.
    private func shifted(_ sum: Double, from old: Double, to new: Double) -> Double {
        old == -.infinity ? sum : sum * exp(old - new)
    }

    /// The two reductions that make one softmax of the shards', and what follows from them.
    private func joinSoftmax() throws -> ClassificationResult {
        for row in 0..<globalBatch {
            let isOwned = work.localColumns[row] >= 0
            work.logitMaxima[row] =
                isOwned ? max(work.localMaxima[row], work.activations[row].targetLogit) : work.localMaxima[row]
        }
        try trace.slice("maxima") { try communicator.allReduce(work.maximumPack, .max, "head maxima") }
        for row in 0..<globalBatch {
            let maximum = work.logitMaxima[row]
            work.negativeSums[row] = shifted(work.localSums[row], from: work.localMaxima[row], to: maximum)
            let isOwned = work.localColumns[row] >= 0
            work.shiftedTargets[row] = isOwned ? work.activations[row].targetLogit - maximum : 0
            work.targetCosines[row] = work.localTargetCosines[row]
        }
        try trace.slice("sums") { try communicator.allReduce(work.sumPack, .sum, "head sums") }
        var loss = 0.0
        var penalty = 0.0
        var correct = 0
        var cosines = 0.0
        for row in 0..<globalBatch {
            let state = self.row(row, cosine: work.targetCosines[row])
            loss += margin.weight(state) * crossEntropy(row)
            penalty += margin.penalty(state).value
            if work.targetCosines[row] > work.negativeMaxima[row] { correct += 1 }
            cosines += work.targetCosines[row]
        }
        let count = Double(globalBatch)
        return ClassificationResult(
            loss: (loss + penalty) / count, penalty: penalty / count, accuracy: Double(correct) / count,
            targetCosine: cosines / count,
            metrics: margin.metrics(
                MarginOutcome(
                    norms: UnsafeBufferPointer(work.norms), targetCosines: targetCosines,
                    nearestNegatives: nearestNegativeCosines)))
    }

    /// −log p_y, without cancellation where p_y is near 1.
    private func crossEntropy(_ row: Int) -> Double {
        let own = exp(work.shiftedTargets[row])
        let others = work.negativeSums[row]
        return own > others ? log1p(others / own) : log(others + own) - work.shiftedTargets[row]
    }

    /// Per-row factors of the gradient: with G = dL/dz, element (i, c) of dL/d(x_i·w_c) is
    /// G·s_i·f'(c)/(‖x_i‖‖w_c‖), so that dX and dW are products with raw rows.
    private func prepareBackward() {
        for index in 0..<globalBatch {
            let state = work.activations[index]
            let row = row(index, cosine: work.targetCosines[index])
            // Of this row's cross-entropy in the loss.
            let share = margin.weight(row) / Double(globalBatch)
            let factor = state.scale * Double(work.rowInverse[index]) * share
            let total = work.negativeSums[index] + exp(work.shiftedTargets[index])
            // Without normalisation nothing is projected.
            var radial = RadialTerm(keep: isNormalised ? 0 : 1)
            let scaleSlope = work.scaleSlopes[index]
            if scaleSlope != 0 { radial.keep = scaleSlope / (state.scale * Double(work.rowInverse[index])) }
            if work.localColumns[index] >= 0 {
                // p_y − 1
                let residual = -work.negativeSums[index] / total
                let slope = work.targetSlopes[index]
                work.targetGradients[index] = residual * factor * slope
                radial.radial = residual * share * state.scale * work.targetNormSlopes[index]
                if scaleSlope != 0 {
                    // ∂z/∂s of the target is φ, where the projected gradient above counts φ'·cos θ.
                    let value = state.targetLogit / state.scale
                    radial.radial +=
                        residual * share * scaleSlope * (value - slope * work.localTargetCosines[index])
                }
            }
            if ownRows.contains(index) { radial.radial += margin.penalty(row).slope / Double(globalBatch) }
            work.radials[index] = radial
            work.sharedCoefficients[index] = factor / total
        }
    }

    /// The coefficients of a block, whose exponentials are relative to its own maxima.
    private func prepareCoefficients(_ block: Int) {
        let maxima = logits.maxima(block)
        for row in 0..<globalBatch {
            work.coefficients[row] =
                maxima[row] == -.infinity
                ? 0 : exp(Double(maxima[row]) - work.logitMaxima[row]) * work.sharedCoefficients[row]
        }
    }

    /// The shard's part of dX, and dW of the active rows where it is held.
    private func backward() {
        let partial = Scalar.elements(work.partialGradient).baseAddress!
        if activeCount == 0 { partial.update(repeating: 0, count: globalBatch * dimension) }
        for block in 0..<logits.count(activeCount) {
            let range = logits.range(block, of: activeCount)
            let areThere = logits.blocks.areKept && !logits.ruleApplied(block)
            let part = areThere ? part(block, withSlopes: false) : recomputed(block)
            prepareCoefficients(block)
            Scalar.differentiate(
                pool, part, coefficient: work.coefficients.baseAddress!, target: work.targetGradients.baseAddress!)
            multiply(part, by: w + range.lowerBound * dimension, into: partial, accumulate: block > 0)
            if isFrozen { continue }
            if holdsGradient { centreGradient(range, part) }
            active.differentiateBiases(part.values, rows: globalBatch, columns: range)
        }
        projectEmbeddings(partial)
    }

    /// gradient (N x d) = G·W of a block, or += that.
    private func multiply(
        _ part: LogitBlock<Scalar>, by centres: UnsafePointer<Scalar>, into gradient: UnsafeMutablePointer<Scalar>,
        accumulate: Bool
    ) {
        if packed != nil {
            Scalar.inputGradient(
                pool, part.values, rows: globalBatch, columns: dimension, centres: centres, count: part.columns,
                into: gradient, accumulate: accumulate)
        } else {
            Scalar.gemm(
                pool, transposeA: false, transposeB: false, m: globalBatch, n: dimension, k: part.columns,
                a: part.values, b: centres, beta: accumulate ? 1 : 0, c: gradient)
        }
    }

    private func recomputed(_ block: Int) -> LogitBlock<Scalar> {
        let part = multiplied(block, withSlopes: true)
        Scalar.activate(pool, part, work.activations)
        let maxima = logits.maxima(block)
        for row in 0..<globalBatch { work.blockShifts[row] = shift(maxima[row]) }
        Scalar.exponentials(pool, part, maximum: work.blockShifts, sums: work.blockSums)
        return part
    }

    private func centreGradient(_ range: Range<Int>, _ block: LogitBlock<Scalar>) {
        let rows = Scalar.elements(gradient).baseAddress! + range.lowerBound * dimension
        Scalar.gemm(
            pool, transposeA: true, transposeB: false, m: range.count, n: dimension, k: globalBatch, a: block.values,
            b: x, beta: 0, c: rows)
        guard isNormalised else { return }
        Scalar.project(
            pool, rows, x: w + range.lowerBound * dimension, inverse: columnInverse + range.lowerBound,
            rows: range.count, columns: dimension, radial: nil)
    }

    private func projectEmbeddings(_ partial: UnsafeMutablePointer<Scalar>) {
        Scalar.project(
            pool, partial, x: x, inverse: work.rowInverse, rows: globalBatch, columns: dimension,
            radial: work.radials)
    }
}
