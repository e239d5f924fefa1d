import Tensors

/// Seconds spent in each step of a graph, summed over passes.
package final class LayerProfile {
    package private(set) var forward: [Double]
    package private(set) var backward: [Double]

    package init(_ graph: Graph) {
        forward = [Double](repeating: 0, count: graph.steps.count)
        backward = forward
    }

    package func reset() {
        for index in forward.indices { (forward[index], backward[index]) = (0, 0) }
    }

    func start() -> Double { monotonicSeconds() }
    func forward(_ step: Int, since start: Double) { forward[step] += monotonicSeconds() - start }
    func backward(_ step: Int, since start: Double) { backward[step] += monotonicSeconds() - start }
}
