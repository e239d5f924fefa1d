package import Tensors

/// Embeddings of recent steps with their class centres of then, corrected by how far the centres have moved since
/// (QGFace's real-time queue; Kim et al., "BroadFace", ECCV 2020): ẽ = e + (‖e‖/‖p‖)·(w − p).
///
/// An entry lives with the rank that owns its class, which alone has w and never needs to send it. What is in the queue, and
/// in which order, is decided by numbers that count the entries of all ranks, so it does not depend on how many there are.
package final class ProxyQueue {
    package enum Correction: String, Sendable, CaseIterable {
        /// e as it was.
        case none
        case proxy
        /// Corrected and brought back to unit length.
        case unit
    }

    /// Entries of all ranks at most, ever.
    package let capacity: Int
    /// Entries of all ranks at most, at present.
    package var limit: Int {
        didSet { precondition((1...capacity).contains(limit), "a limit of \(limit) in a queue of \(capacity)") }
    }
    package let dimension: Int
    package let correction: Correction
    /// Entries ever taken in, over all ranks.
    package private(set) var total = 0
    /// The number of the oldest entry that is still there.
    private var oldest = 0
    /// This rank's entries, oldest first, from `start` in the ring of `room` places.
    package private(set) var localCount = 0
    private var start = 0
    private var room = 0
    private var features: Tensor
    private var proxies: Tensor
    private var labels: [Int] = []
    private var numbers: [Int] = []

    package init(capacity: Int, dimension: Int, correction: Correction) {
        precondition(capacity > 0 && dimension > 0, "a queue of \(capacity) x \(dimension)")
        self.capacity = capacity
        limit = capacity
        self.dimension = dimension
        self.correction = correction
        features = Tensor([0, dimension])
        proxies = Tensor([0, dimension])
    }

    /// Entries of all ranks.
    package var count: Int { total - oldest }

    private func place(_ index: Int) -> Int { (start + index) % room }
    private func row(_ tensor: Tensor, _ place: Int) -> UnsafeMutablePointer<Float> {
        tensor.floats.baseAddress! + place * dimension
    }

    /// Takes in a step's rows, the first of which becomes the newest entry; drops what exceeds the capacity.
    ///
    /// - Parameters:
    ///   - count: rows of the global batch.
    ///   - row: of a row's place in the canonical order, its unit embedding and class.
    ///   - centre: the raw centre of a class of this rank; nil for another rank's.
    package func push(
        _ count: Int, row: (Int) -> (embedding: UnsafePointer<Float>, label: Int),
        centre: (Int) -> UnsafePointer<Float>?
    ) {
        oldest = max(oldest, total + count - limit)
        while localCount > 0, numbers[place(0)] < oldest {
            start = (start + 1) % room
            localCount -= 1
        }
        for index in stride(from: count - 1, through: 0, by: -1) {
            let number = total + count - 1 - index
            guard number >= oldest else { continue }
            let (embedding, label) = row(index)
            guard let centre = centre(label) else { continue }
            append(embedding, centre, label, number)
        }
        total += count
    }

    private func append(
        _ embedding: UnsafePointer<Float>, _ centre: UnsafePointer<Float>, _ label: Int, _ number: Int
    ) {
        if localCount == room { grow() }
        let place = place(localCount)
        row(features, place).update(from: embedding, count: dimension)
        row(proxies, place).update(from: centre, count: dimension)
        labels[place] = label
        numbers[place] = number
        localCount += 1
    }

    private func grow() {
        let larger = min(capacity, max(64, 2 * room))
        let (newFeatures, newProxies) = (Tensor([larger, dimension]), Tensor([larger, dimension]))
        var (newLabels, newNumbers) = ([Int](repeating: 0, count: larger), [Int](repeating: 0, count: larger))
        for index in 0..<localCount {
            let place = place(index)
            row(newFeatures, index).update(from: row(features, place), count: dimension)
            row(newProxies, index).update(from: row(proxies, place), count: dimension)
            newLabels[index] = labels[place]
            newNumbers[index] = numbers[place]
        }
        (features, proxies, labels, numbers) = (newFeatures, newProxies, newLabels, newNumbers)
        (start, room) = (0, larger)
    }

    package func label(_ index: Int) -> Int { labels[place(index)] }

    /// Writes corrected entries `range` of this rank's, oldest first, as rows.
    ///
    /// - Parameter centre: the present raw centre of a class of this rank.
    package func write(
        _ range: Range<Int>, to rows: UnsafeMutablePointer<Float>, pool: ThreadPool,
        centre: (Int) -> UnsafePointer<Float>
    ) {
        pool.forEachRange(range.count) { part in
            for offset in part {
                let place = place(range.lowerBound + offset)
                let target = rows + offset * dimension
                let feature = row(features, place)
                target.update(from: feature, count: dimension)
                guard correction != .none else { continue }
                let proxy = row(proxies, place)
                let norms = (norm(feature), norm(proxy))
                let factor = norms.1 > 0 ? norms.0 / norms.1 : 0
                let present = centre(labels[place])
                for i in 0..<dimension { target[i] += factor * (present[i] - proxy[i]) }
                if correction == .unit {
                    let length = norm(target)
                    if length > 0 { for i in 0..<dimension { target[i] /= length } }
                }
            }
        }
    }

    private func norm(_ x: UnsafePointer<Float>) -> Float { Float(Float.dot(x, x, count: dimension).squareRoot()) }

    // MARK: - State

    /// This rank's entries, oldest first: numbers, classes, embeddings and centres of then.
    package var entries: [(number: Int, label: Int, feature: [Float], proxy: [Float])] {
        (0..<localCount).map { index in
            let place = place(index)
            func values(_ tensor: Tensor) -> [Float] {
                Array(UnsafeBufferPointer(start: row(tensor, place), count: dimension))
            }
            return (numbers[place], labels[place], values(features), values(proxies))
        }
    }

    /// Puts entries back, oldest first, of any number of ranks; those of other ranks' classes are left out by the caller.
    ///
    /// - Parameter oldest: the number of the oldest entry of all ranks.
    package func restore(
        total: Int, oldest: Int = 0, _ entries: [(number: Int, label: Int, feature: [Float], proxy: [Float])]
    ) {
        self.total = total
        self.oldest = max(oldest, total - capacity)
        (start, localCount) = (0, 0)
        for entry in entries {
            precondition(entry.feature.count == dimension && entry.proxy.count == dimension, "an entry of another length")
            entry.feature.withUnsafeBufferPointer { feature in
                entry.proxy.withUnsafeBufferPointer {
                    append(feature.baseAddress!, $0.baseAddress!, entry.label, entry.number)
                }
            }
        }
    }
}
