package import CKernels
package import Tensors

/// One pass of a graph over a batch: all activations, gradients and scratch memory, planned once from lifetimes.
///
/// Two executions of the same graph may be alive at once (two views of a pair); they share the parameters. Nothing is
/// allocated after `init`.
package final class Execution {
    package enum Purpose: Sendable { case training, inference }

    package let graph: Graph
    package let purpose: Purpose
    /// The most images of one pass.
    package let batch: Int
    /// Bytes of activations, gradients and scratch together.
    package let byteCount: Int

    private let pool: ThreadPool
    private let arena: AlignedBuffer
    private let savedMemory: AlignedBuffer
    private let savedOffsets: [Int]
    private let workspace: AlignedBuffer
    private let layout: ExecutionLayout
    private var context: PassContext

    package init(_ graph: Graph, batch: Int, purpose: Purpose, pool: ThreadPool) {
        precondition(batch > 0 && !graph.steps.isEmpty, "an execution needs layers and at least one image")
        self.graph = graph
        self.purpose = purpose
        self.batch = batch
        self.pool = pool
        layout = ExecutionLayout(graph, batch: batch, training: purpose == .training)
        arena = AlignedBuffer(byteCount: layout.plan.byteCount)

        var saved = 0
        var scratch = 64
        var offsets: [Int] = []
        for step in graph.steps {
            let inputs = step.inputs.map { graph.shape(Graph.Node(index: $0)) }
            offsets.append(saved)
            saved += (step.layer.savedByteCount(inputs, batch: batch) + 63) / 64 * 64
            scratch = max(scratch, step.layer.workspaceByteCount(inputs, batch: batch, threads: pool.threads))
        }
        savedOffsets = offsets
        savedMemory = AlignedBuffer(byteCount: saved)
        workspace = AlignedBuffer(byteCount: scratch)
        byteCount = arena.byteCount + saved + scratch
        context = PassContext(
            pool: pool, mode: .evaluation, workspace: workspace.base, images: nil, batch: batch, seed: 0, step: 0,
            firstImage: 0, accumulate: false)
    }

    /// What distinguishes one training pass from another.
    package struct Key: Sendable {
        package var seed: UInt64
        package var step: UInt64
        /// Global index, within the step, of the first image of this pass.
        package var firstImage: UInt64

        package init(seed: UInt64, step: UInt64, firstImage: UInt64) {
            self.seed = seed
            self.step = step
            self.firstImage = firstImage
        }
    }

    /// Computes the embeddings of `count` images.
    ///
    /// - Parameters:
    ///   - images: (count, channels, height, width), plain fp32; they must stay valid until backward has ended.
    ///   - mode: batch or running statistics; dropout or none.
    /// - Returns: (count, embedding), valid until the next pass.
    @discardableResult
    package func forward(
        _ images: UnsafePointer<Float>, count: Int, mode: Mode, key: Key = Key(seed: 0, step: 0, firstImage: 0)
    ) -> Tensor {
        precondition(count > 0 && count <= batch, "\(count) images in an execution for \(batch)")
        context.images = images
        context.batch = count
        context.mode = mode
        context.seed = key.seed
        context.step = key.step
        context.firstImage = key.firstImage
        for (index, step) in graph.steps.enumerated() {
            let inputs = step.inputs.map { map(ofNode: $0, count: count) }
            step.layer.forward(
                inputs, map(ofNode: index + 1, count: count), saved: savedMemory.base + savedOffsets[index], context)
        }
        return matrix(layout.activations[graph.steps.count], count: count)
    }

    /// Where the gradient of the embeddings goes before `backward`: (count, embedding).
    package func outputGradient(count: Int) -> Tensor { matrix(layout.gradients[graph.steps.count], count: count) }

    /// Propagates `outputGradient` back through the last forward.
    ///
    /// - Parameter accumulate: add to the parameters' gradients instead of replacing them.
    package func backward(accumulate: Bool = false) { backward(accumulate: accumulate) { _ in } }

    /// Propagates `outputGradient` back through the last forward.
    ///
    /// - Parameters:
    ///   - accumulate: add to the parameters' gradients instead of replacing them.
    ///   - stepDone: called after each step, last to first, with its index: the gradients of its parameters are final.
    package func backward(accumulate: Bool = false, stepDone: (Int) throws -> Void) rethrows {
        precondition(purpose == .training, "an inference execution keeps nothing for backward")
        context.accumulate = accumulate
        let count = context.batch
        for index in graph.steps.indices.reversed() {
            let step = graph.steps[index]
            if layout.runsBackward[index], let gradient = layout.gradients[index + 1] {
                let inputs = step.inputs.map { map(ofNode: $0, count: count) }
                let targets = zip(layout.targets[index], step.inputs).map { target, node in
                    resolve(target, shape: graph.shape(Graph.Node(index: node)), count: count)
                }
                step.layer.backward(
                    inputs, self.map(gradient, step.shape, count: count), targets,
                    saved: savedMemory.base + savedOffsets[index], context)
            }
            try stepDone(index)
        }
    }

    /// The activation of a tap after forward.
    package func activation(tap name: String, count: Int) -> ak_map {
        guard let node = graph.taps[name] else { preconditionFailure("no tap '\(name)'") }
        return map(ofNode: node.index, count: count)
    }

    // MARK: - Memory

    private func map(_ buffer: Int, _ shape: MapShape, count: Int) -> ak_map {
        shape.map(arena.base + layout.plan.offsets[buffer], batch: count)
    }

    private func map(ofNode node: Int, count: Int) -> ak_map {
        guard node > 0, let buffer = layout.activations[node] else {
            return graph.inputShape.map(nil, batch: count)
        }
        return map(buffer, graph.steps[node - 1].shape, count: count)
    }

    private func resolve(_ target: ExecutionLayout.Target, shape: MapShape, count: Int) -> GradientTarget {
        switch target {
        case .none: .none
        case .shared: .shared
        case .write(let buffer): .write(map(buffer, shape, count: count))
        case .add(let buffer): .add(map(buffer, shape, count: count))
        }
    }

    private func matrix(_ buffer: Int?, count: Int) -> Tensor {
        let shape = graph.steps[graph.steps.count - 1].shape
        precondition(
            shape.height == 1 && shape.width == 1 && shape.channels % 16 == 0, "the output \(shape) is not a vector")
        guard let buffer else { preconditionFailure("an inference execution has no output gradient") }
        return Tensor([count, shape.channels], buffer: arena, byteOffset: layout.plan.offsets[buffer])
    }
}
