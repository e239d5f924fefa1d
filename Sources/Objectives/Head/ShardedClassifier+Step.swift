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
        try communicator.allGather(
            UnsafeRawBufferPointer(embeddings.bytes), into: work.embeddings.bytes, "head embeddings")
        try prepareRows(step: step)
        let isRetained = forward()
        let result = try joinSoftmax()
        prepareBackward()
        backward(isRetained: isRetained)
        try Scalar.reduceScatter(
            communicator, Scalar.elements(work.partialGradient), into: Scalar.elements(embeddingGradient),
            "head embedding gradients")
        return result
    }

    private var x: UnsafeMutablePointer<Scalar> { Scalar.elements(work.embeddings).baseAddress! }
    /// The active rows of class centres, and 1/‖w‖ of each.
    private var w: UnsafeMutablePointer<Scalar> { Scalar.elements(active.centres).baseAddress! }
    private var columnInverse: UnsafeMutablePointer<Scalar> { Scalar.elements(active.inverses).baseAddress! }

    private func refreshCentreNorms() {
        Scalar.inverseNorms(pool, w, rows: activeCount, columns: dimension, into: columnInverse)
    }

    private func row(_ index: Int, cosine: Double) -> MarginRow {
        MarginRow(index: index, sample: work.samples[index], cosine: cosine, norm: work.norms[index])
    }

    private var isNormalised: Bool { margin.normalisation == .unit }

    /// Norms and inverse norms; the inverses are 1 where inner products are wanted as they are.
    private func normalise() {
        Scalar.inverseNorms(pool, x, rows: globalBatch, columns: dimension, into: work.rowInverse)
        for row in 0..<globalBatch { work.norms[row] = 1 / Double(work.rowInverse[row]) }
        guard isNormalised else {
            work.rowInverse.update(repeating: 1, count: globalBatch)
            columnInverse.update(repeating: 1, count: activeCount)
            return
        }
        refreshCentreNorms()
        if margin.normalisesCentres {
            Scalar.scaleRows(pool, w, factors: columnInverse, rows: activeCount, columns: dimension)
            if sampler != nil { scatterCentres() }
            refreshCentreNorms()
        }
    }

    /// Norms, target cosines, and what the margin function makes of each row.
    private func prepareRows(step: Int) throws {
        normalise()
        for row in 0..<globalBatch {
            let column = work.localColumns[row]
            var cosine = 0.0
            if column >= 0 {
                let product = Scalar.dot(x + row * dimension, w + column * dimension, count: dimension)
                cosine = product * Double(work.rowInverse[row]) * Double(columnInverse[column])
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

    /// The columns `range` of the active rows as a block; its values are inner products.
    private func multiplied(_ range: Range<Int>, withSlopes: Bool) -> LogitBlock<Scalar> {
        for row in 0..<globalBatch {
            let column = work.localColumns[row]
            work.blockTargets[row] = range.contains(column) ? column - range.lowerBound : -1
        }
        let values = Scalar.elements(work.logits).baseAddress!
        active.fillBiases(values, rows: globalBatch, columns: range)
        Scalar.gemm(
            pool, transposeA: false, transposeB: true, m: globalBatch, n: range.count, k: dimension, a: x,
            b: w + range.lowerBound * dimension, beta: bias == nil ? 0 : 1, c: values)
        return LogitBlock(
            values: values, slopes: withSlopes ? work.slopes.map { Scalar.elements($0).baseAddress! } : nil,
            rows: globalBatch, columns: range.count, limit: isNormalised ? 1 : .infinity, targets: work.blockTargets,
            rowInverse: work.rowInverse, columnInverse: columnInverse + range.lowerBound)
    }

    /// Maxima and sums of exponentials over the active rows, without the targets: their exponentials join in double, so that
    /// 1 − p_y keeps its digits when it is small. Returns whether the logit buffer still holds the exponentials of
    /// the whole shard, and no rule for negatives took effect, so that backward can go on from it.
    private func forward() -> Bool {
        for row in 0..<globalBatch {
            work.negativeMaxima[row] = -.infinity
            work.localMaxima[row] = -.infinity
            work.localSums[row] = 0
        }
        var isRetained = activeCount <= work.columns
        for start in stride(from: 0, to: activeCount, by: work.columns) {
            let block = multiplied(start..<min(start + work.columns, activeCount), withSlopes: false)
            Scalar.activate(pool, block, work.activations)
            for row in 0..<globalBatch {
                let state = work.activations[row]
                if state.ruleApplied { isRetained = false }
                work.negativeMaxima[row] = max(work.negativeMaxima[row], state.negativeMaximum)
                work.blockMaxima[row] = shift(state.logitMaximum)
            }
            Scalar.exponentials(pool, block, maximum: work.blockMaxima, sums: work.blockSums)
            for row in 0..<globalBatch {
                let blockMaximum = work.activations[row].logitMaximum
                let maximum = max(work.localMaxima[row], blockMaximum)
                work.localSums[row] =
                    shifted(work.localSums[row], from: work.localMaxima[row], to: maximum)
                    + shifted(Double(work.blockSums[row]), from: blockMaximum, to: maximum)
                work.localMaxima[row] = maximum
            }
        }
        return isRetained
    }

    /// What is subtracted from logits whose maximum is given; −∞ stands for no logits.
    private func shift(_ maximum: Double) -> Scalar { maximum == -.infinity ? 0 : Scalar(maximum) }

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
        try communicator.allReduce(work.maximumPack, .max, "head maxima")
        for row in 0..<globalBatch {
            let maximum = work.logitMaxima[row]
            work.negativeSums[row] = shifted(work.localSums[row], from: work.localMaxima[row], to: maximum)
            let isOwned = work.localColumns[row] >= 0
            work.shiftedTargets[row] = isOwned ? work.activations[row].targetLogit - maximum : 0
            work.targetCosines[row] = work.localTargetCosines[row]
        }
        try communicator.allReduce(work.sumPack, .sum, "head sums")
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
            let maximum = work.logitMaxima[index]
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
            work.coefficients[index] =
                work.localMaxima[index] == -.infinity
                ? 0 : exp(work.localMaxima[index] - maximum) / total * factor
        }
    }

    /// dW of the active rows, and the shard's part of dX.
    private func backward(isRetained: Bool) {
        let partial = Scalar.elements(work.partialGradient).baseAddress!
        guard activeCount > 0 else {
            partial.update(repeating: 0, count: globalBatch * dimension)
            projectEmbeddings(partial)
            return
        }
        let width = isRetained ? work.columns : work.recomputedColumns
        for start in stride(from: 0, to: activeCount, by: width) {
            let range = start..<min(start + width, activeCount)
            let block = isRetained ? retained(range) : recomputed(range)
            Scalar.differentiate(
                pool, block, coefficient: work.coefficients.baseAddress!, target: work.targetGradients.baseAddress!)
            Scalar.gemm(
                pool, transposeA: false, transposeB: false, m: globalBatch, n: dimension, k: range.count,
                a: block.values, b: w + start * dimension, beta: start == 0 ? 0 : 1, c: partial)
            if !isFrozen { centreGradient(range, block) }
        }
        projectEmbeddings(partial)
    }

    private func retained(_ range: Range<Int>) -> LogitBlock<Scalar> {
        LogitBlock(
            values: Scalar.elements(work.logits).baseAddress!, slopes: nil, rows: globalBatch, columns: range.count,
            targets: work.localColumns, rowInverse: work.rowInverse, columnInverse: columnInverse)
    }

    private func recomputed(_ range: Range<Int>) -> LogitBlock<Scalar> {
        let block = multiplied(range, withSlopes: true)
        Scalar.activate(pool, block, work.activations)
        for row in 0..<globalBatch { work.blockMaxima[row] = shift(work.localMaxima[row]) }
        Scalar.exponentials(pool, block, maximum: work.blockMaxima, sums: work.blockSums)
        return block
    }

    private func centreGradient(_ range: Range<Int>, _ block: LogitBlock<Scalar>) {
        let rows = Scalar.elements(gradient).baseAddress! + range.lowerBound * dimension
        Scalar.gemm(
            pool, transposeA: true, transposeB: false, m: range.count, n: dimension, k: globalBatch, a: block.values,
            b: x, beta: 0, c: rows)
        active.differentiateBiases(block.values, rows: globalBatch, columns: range)
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
