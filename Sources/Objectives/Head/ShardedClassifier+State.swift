package import Tensors

extension ShardedClassifier {
    /// Draws all centres of the shard; momentum stays as it is.
    func initialize(_ initializer: CentreInitializer, seed: UInt64) {
        let values = Scalar.elements(centres)
        let first = classRange.lowerBound
        let dimension = dimension
        pool.forEachRange(classRange.count) { range in
            for row in range {
                let stream = RandomStream(seed: seed, purpose: .classCentres, index: UInt64(first + row))
                let centre = UnsafeMutableBufferPointer(rebasing: values[row * dimension..<(row + 1) * dimension])
                Scalar.draw(initializer, stream, into: centre)
            }
        }
    }

    /// Copies into this shard what it shares with a stretch of rows of another sharding.
    ///
    /// - Parameters:
    ///   - range: the global class indices of the given rows.
    ///   - centres: (range.count x d).
    ///   - momentum: (range.count x d), or nil to leave the optimizer's state alone.
    /// - Returns: how many of this shard's rows were set. The rows are all set when the counts over a set of disjoint
    ///   ranges add up to `classRange.count`.
    @discardableResult
    package func load(_ range: Range<Int>, centres: Tensor, momentum: Tensor? = nil) -> Int {
        let common = range.clamped(to: classRange)
        copy(common, of: centres, from: range, to: self.centres)
        if let momentum, !isFrozen { copy(common, of: momentum, from: range, to: self.momentum) }
        return common.count
    }

    /// The same for biases, of a head that has some.
    ///
    /// - Parameters:
    ///   - values: (range.count).
    ///   - momentum: (range.count), or nil to leave the optimizer's state alone.
    package func load(_ range: Range<Int>, biases values: Tensor, momentum: Tensor? = nil) {
        guard let bias else { preconditionFailure("a head without biases") }
        let common = range.clamped(to: classRange)
        copy(common, of: values, from: range, to: bias.values)
        if let momentum, !isFrozen { copy(common, of: momentum, from: range, to: bias.momentum) }
    }

    private func copy(_ common: Range<Int>, of source: Tensor, from range: Range<Int>, to target: Tensor) {
        precondition(
            source.shape == [range.count] + target.shape.dropFirst() && source.dtype == Scalar.dtype,
            "rows \(source.shape) of \(source.dtype) for classes \(range) of \(target.shape)")
        guard !common.isEmpty else { return }
        let start = range.lowerBound
        let from = source.rows(common.lowerBound - start..<common.upperBound - start)
        let to = target.rows(common.lowerBound - classRange.lowerBound..<common.upperBound - classRange.lowerBound)
        to.bytes.copyMemory(from: UnsafeRawBufferPointer(from.bytes))
    }
}
