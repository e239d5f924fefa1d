/// Which buffers a pass needs, how long each lives, and where the gradients of every step go.
struct ExecutionLayout {
    enum Target: Equatable {
        case none
        case shared
        case write(Int)
        case add(Int)
    }

    /// By node (0 is the image, which has none): the buffer of its activation and of its gradient.
    private(set) var activations: [Int?]
    private(set) var gradients: [Int?]
    /// By step and input.
    private(set) var targets: [[Target]]
    /// By step: is there a trained parameter at or before it?
    private(set) var runsBackward: [Bool]
    let plan: MemoryPlan

    /// Moments: step i runs forward at i and backward at 2·steps − i; the loss stands between, at `steps`.
    init(_ graph: Graph, batch: Int, training: Bool) {
        let count = graph.steps.count
        var requests: [MemoryPlan.Request] = []
        activations = [nil]
        gradients = [Int?](repeating: nil, count: count + 1)
        runsBackward = [Bool](repeating: false, count: count)
        targets = graph.steps.map { [Target](repeating: .none, count: $0.inputs.count) }

        for (index, step) in graph.steps.enumerated() {
            activations.append(requests.count)
            requests.append(.init(byteCount: step.shape.byteCount(batch: batch), lifetime: index...index))
        }
        func touch(_ buffer: Int?, at moment: Int) {
            guard let buffer else { return }
            let life = requests[buffer].lifetime
            requests[buffer].lifetime = min(life.lowerBound, moment)...max(life.upperBound, moment)
        }
        for (index, step) in graph.steps.enumerated() {
            for input in step.inputs { touch(activations[input], at: index) }
        }
        touch(activations[count], at: count)
        for tap in graph.taps.values { touch(activations[tap.index], at: count) }

        if training {
            let needed = Self.nodesThatNeedGradients(graph)
            // An objective writes this one even where nothing of the backbone is trained.
            gradients[count] = requests.count
            requests.append(
                .init(byteCount: graph.steps[count - 1].shape.byteCount(batch: batch), lifetime: count...count))
            for index in graph.steps.indices.reversed() {
                let step = graph.steps[index]
                guard needed[index + 1], let gradient = gradients[index + 1] else { continue }
                runsBackward[index] = true
                let moment = 2 * count - index
                touch(gradient, at: moment)
                if step.layer.backwardReadsInputs {
                    for input in step.inputs { touch(activations[input], at: moment) }
                }
                for (position, input) in step.inputs.enumerated() where needed[input] {
                    let target: Target
                    if let existing = gradients[input] {
                        target = .add(existing)
                        touch(existing, at: moment)
                    } else if step.layer.passThroughInput == position {
                        target = .shared
                        gradients[input] = gradient
                    } else if step.layer.backwardWorksInPlace && step.layer.passThroughInput == nil && position == 0 {
                        target = .write(gradient)
                        gradients[input] = gradient
                    } else {
                        target = .write(requests.count)
                        gradients[input] = requests.count
                        let byteCount = graph.shape(Graph.Node(index: input)).byteCount(batch: batch)
                        requests.append(.init(byteCount: byteCount, lifetime: moment...moment))
                    }
                    targets[index][position] = target
                }
            }
        }
        plan = MemoryPlan(requests)
    }

    /// A node needs a gradient when a parameter at or before it is trained.
    private static func nodesThatNeedGradients(_ graph: Graph) -> [Bool] {
        var needed = [false]
        for step in graph.steps {
            needed.append(
                step.layer.parameters.contains { $0.isTrained } || step.inputs.contains { needed[$0] })
        }
        return needed
    }
}
