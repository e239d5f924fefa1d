package import Tensors

/// The centres' gradients of several passes, summed row by row: the passes of one update share the classes drawn, and
/// each adds its positives.
package final class GradientSum<Scalar: HeadScalar> {
    /// (capacity x d); the first `count` rows are those of `rows`.
    package private(set) var gradient: Tensor
    /// The same of the biases; (0) where there are none.
    package private(set) var biasGradient: Tensor
    /// Rows that have a gradient.
    package private(set) var count = 0
    private let dimension: Int
    private let classes: Int
    /// Local class of each row, in the order of their first gradient.
    private let list: AlignedBuffer
    /// Row of each local class, −1 where there is none.
    private let places: AlignedBuffer

    /// - Parameters:
    ///   - classes: C_local.
    ///   - capacity: rows to make room for; it grows where more are needed.
    package init(classes: Int, dimension: Int, hasBias: Bool = false, capacity: Int) {
        self.classes = classes
        self.dimension = dimension
        gradient = Tensor([min(capacity, classes), dimension], dtype: Scalar.dtype)
        biasGradient = Tensor([hasBias ? min(capacity, classes) : 0], dtype: Scalar.dtype)
        list = AlignedBuffer(byteCount: 4 * classes)
        places = AlignedBuffer(byteCount: 4 * classes)
        placed.update(repeating: -1, count: classes)
    }

    private var listed: UnsafeMutablePointer<Int32> { list.base.assumingMemoryBound(to: Int32.self) }
    private var placed: UnsafeMutablePointer<Int32> { places.base.assumingMemoryBound(to: Int32.self) }

    /// Local classes of the rows.
    package var rows: UnsafeBufferPointer<Int32> { UnsafeBufferPointer(start: UnsafePointer(listed), count: count) }

    /// No row has a gradient.
    package func reset() {
        for i in 0..<count { placed[Int(listed[i])] = -1 }
        count = 0
    }

    /// Adds weight times the gradient of a classifier's last step.
    package func add(_ classifier: ShardedClassifier<Scalar>, weight: Scalar) {
        let (listed, placed) = (listed, placed)
        let old = count
        let active = classifier.activeRows
        let added = classifier.activeCount
        for i in 0..<added {
            let row = active.map { Int($0[i]) } ?? i
            if placed[row] >= 0 { continue }
            placed[row] = Int32(count)
            listed[count] = Int32(row)
            count += 1
        }
        if count > gradient.shape[0] { grow() }
        guard added > 0 else { return }
        let from = UnsafePointer(Scalar.elements(classifier.gradient).baseAddress!)
        let to = Scalar.elements(gradient).baseAddress!
        let dimension = dimension
        let biases = biasGradient.count > 0 ? Scalar.elements(biasGradient).baseAddress : nil
        let biasesFrom = biasGradient.count > 0 ? Scalar.elements(classifier.biasGradient).baseAddress : nil
        classifier.pool.forEachRange(added) { range in
            for i in range {
                let place = Int(placed[active.map { Int($0[i]) } ?? i])
                let isNew = place >= old
                Scalar.add(
                    from + i * dimension, times: weight, to: to + place * dimension, count: dimension,
                    replacing: isNew)
                guard let biases, let biasesFrom else { continue }
                Scalar.add(biasesFrom + i, times: weight, to: biases + place, count: 1, replacing: isNew)
            }
        }
    }

    private func grow() {
        let larger = Tensor([min(classes, count + count / 8), dimension], dtype: Scalar.dtype)
        larger.bytes.copyMemory(from: UnsafeRawBufferPointer(gradient.bytes))
        gradient = larger
        guard biasGradient.count > 0 else { return }
        let longer = Tensor([larger.shape[0]], dtype: Scalar.dtype)
        longer.bytes.copyMemory(from: UnsafeRawBufferPointer(biasGradient.bytes))
        biasGradient = longer
    }
}
