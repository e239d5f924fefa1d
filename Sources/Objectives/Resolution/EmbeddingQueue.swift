package import Tensors

/// Unit embeddings of the latest steps and their classes, the same on every rank.
package final class EmbeddingQueue {
    package let capacity: Int
    package let dimension: Int
    /// (capacity x d); the first `count` rows are filled, in no particular order.
    package let features: Tensor
    package private(set) var labels: [Int]
    package private(set) var count = 0
    /// Where the next entry goes.
    package private(set) var next = 0

    package init(capacity: Int, dimension: Int) {
        precondition(capacity > 0 && dimension > 0, "a queue of \(capacity) x \(dimension)")
        self.capacity = capacity
        self.dimension = dimension
        features = Tensor([capacity, dimension])
        labels = .init(repeating: -1, count: capacity)
    }

    /// Replaces the oldest entry.
    package func push(_ feature: UnsafePointer<Float>, label: Int) {
        (features.floats.baseAddress! + next * dimension).update(from: feature, count: dimension)
        labels[next] = label
        next = (next + 1) % capacity
        count = min(count + 1, capacity)
    }

    /// Puts a saved queue back: as it was, or, where the capacity is another one, its newest entries.
    ///
    /// - Parameter next: the place of its oldest entry if it was full, otherwise the one behind its last.
    package func restore(features saved: Tensor, labels old: [Int], next: Int) {
        precondition(
            saved.shape == [old.count, dimension] && (0...old.count).contains(next), "a queue of \(saved.shape), next \(next)")
        let wasFull = next < old.count
        // In their former places where these are the same ones: sums over entries keep their order.
        let isSame = wasFull ? old.count == capacity : old.count <= capacity
        let newest = isSame ? 0..<old.count : max(0, old.count - capacity)..<old.count
        for (place, age) in newest.enumerated() {
            let source = isSame || !wasFull ? age : (next + age) % old.count
            (features.floats.baseAddress! + place * dimension)
                .update(from: saved.floats.baseAddress! + source * dimension, count: dimension)
            labels[place] = old[source]
        }
        count = newest.count
        self.next = (isSame ? next : count) % capacity
    }
}
