#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

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

    func start() -> Double {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return Double(now.tv_sec) + Double(now.tv_nsec) * 1e-9
    }

    func forward(_ step: Int, since start: Double) { forward[step] += self.start() - start }
    func backward(_ step: Int, since start: Double) { backward[step] += self.start() - start }
}
