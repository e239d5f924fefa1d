package import Layers

/// Collects a graph and, beside it, the state in state-dict order.
package struct NetworkBuilder {
    package var graph: Graph
    package private(set) var state: [StateEntry] = []

    package init(_ input: MapShape) { graph = Graph(input: input) }

    /// Appends a layer's state: parameters as they come; for a norm γ, β, running statistics, counter, then the slope.
    mutating func record(_ layers: any Layer...) {
        for layer in layers {
            if let norm = layer as? Normalization {
                state += [norm.scale, norm.shift].compactMap { $0 }.map { .parameter($0) }
                state += norm.buffers.map { .buffer($0) }
                state += [norm.slope].compactMap { $0 }.map { .parameter($0) }
            } else {
                state += layer.parameters.map { .parameter($0) }
            }
        }
    }

    /// Flattened features to embeddings: dropout, flatten, linear, 1-d norm, as all backbones but `mobilefacenet` end.
    mutating func embed(_ x: Graph.Node, dropout: Float, linear: Linear, norm: Normalization) {
        var x = x
        if dropout > 0 { x = graph.add("dropout", Dropout(dropout), x) }
        x = graph.add("flatten", Flatten(), x)
        x = graph.add(linear.weight.name, linear, x)
        graph.add(norm.runningMean.name, norm, x)
    }
}
