/// A network as a list of layers in topological order, each reading the outputs of earlier ones.
package struct Graph {
    /// The place of a node's output.
    package struct Node: Hashable, Sendable {
        package let index: Int
    }

    package struct Step {
        package let name: String
        package let layer: any Layer
        package let inputs: [Int]
        package let shape: MapShape
    }

    package let inputShape: MapShape
    /// Node 0 is the image; step i produces node i + 1.
    package private(set) var steps: [Step] = []
    /// Nodes whose maps an execution can keep readable after forward, by name (`Execution.activation(tap:)`).
    package private(set) var taps: [String: Node] = [:]

    /// - Parameter input: the image's shape, e.g. 3x112x112.
    package init(input: MapShape) { inputShape = input }

    package var image: Node { Node(index: 0) }
    package var output: Node { Node(index: steps.count) }
    /// The inputs' shapes of a step.
    package func inputShapes(_ step: Step) -> [MapShape] { step.inputs.map { shape(Node(index: $0)) } }
    package func shape(_ node: Node) -> MapShape { node.index == 0 ? inputShape : steps[node.index - 1].shape }

    /// Appends a layer that reads `inputs`; returns its output.
    @discardableResult
    package mutating func add(_ name: String, _ layer: any Layer, _ inputs: Node...) -> Node {
        let shape = layer.outputShape(of: inputs.map { node in self.shape(node) })
        steps.append(Step(name: name, layer: layer, inputs: inputs.map(\.index), shape: shape))
        return output
    }

    package mutating func tap(_ name: String, _ node: Node) { taps[name] = node }

    /// All parameters in the order of the steps.
    package var parameters: [Parameter] { steps.flatMap { $0.layer.parameters } }
}
