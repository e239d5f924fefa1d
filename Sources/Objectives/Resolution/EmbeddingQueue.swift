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

    /// Puts a saved queue back.
    package func restore(features saved: Tensor, labels: [Int], next: Int) {
        precondition(saved.shape == [labels.count, dimension] && labels.count <= capacity, "a queue of \(saved.shape)")
        features.floats.baseAddress!.update(from: saved.floats.baseAddress!, count: saved.count)
        for index in labels.indices { self.labels[index] = labels[index] }
        count = labels.count
        self.next = next % capacity
    }
}
