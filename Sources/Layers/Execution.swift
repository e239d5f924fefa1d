package import CKernels
package import Tensors

/// One pass of a graph over a batch: all activations, gradients and scratch memory, planned once from lifetimes.
///
/// Two executions of the same graph may be alive at once (two views of a pair); they share the parameters. Nothing is
/// allocated after `init` while the number of images stays the same.
package final class Execution {
    package enum Purpose: Sendable { case training, inference }

    package let graph: Graph
    package let purpose: Purpose
    package let precision: Precision
    /// The most images of one pass.
    package let batch: Int
    /// Names of the maps that stay readable after forward.
    package let taps: [String]
    /// Bytes of activations, gradients and scratch together, without those that a neighbour lends.
    package let byteCount: Int
    /// Where the time goes, if somebody wants to know.
    package var profile: LayerProfile?
    /// Called after each layer of a pass, if somebody looks for values that are not finite: every map is read once more.
    package var inspect: ((Inspection) -> Void)?

    private let arena: AlignedBuffer
    private let savedMemory: AlignedBuffer
    private let savedOffsets: [Int]
    private let scratch: AlignedBuffer
    private let layout: ExecutionLayout
    private var context: PassContext
    /// By step, for `count` images.
    private var operands: [Operands] = []
    /// By step: the norms whose outputs are computed once more before the step's backward.
    private var recomputed: [[(norm: Normalization, operands: Operands)]] = []
    private var count = 0
    /// The last activation and its gradient, for `count` images.
    private var output: Tensor
    private var gradient: Tensor?

    /// - Parameters:
    ///   - taps: names of the graph's taps whose maps stay readable after forward; in training, gradients of them may be
    ///     given to backward.
    ///   - neighbour: an execution whose memory this one works in, where it suffices. Passes of the two must not
    ///     interleave: each overwrites what the other holds.
    package init(
        _ graph: Graph, batch: Int, purpose: Purpose, precision: Precision = .fp32, pool: ThreadPool,
        taps: [String] = [], within neighbour: Execution? = nil
    ) {
        precondition(batch > 0 && !graph.steps.isEmpty, "an execution needs layers and at least one image")
        self.graph = graph
        self.purpose = purpose
        self.precision = precision
        self.batch = batch
        self.taps = taps
        layout = ExecutionLayout(
            graph, batch: batch, training: purpose == .training, precision: precision, threads: pool.threads,
            tapped: Self.nodes(graph, taps))
        arena = Self.memory(layout.plan.byteCount, neighbour?.arena)

        let needs = Needs(graph, layout, batch: batch, threads: pool.threads)
        savedOffsets = needs.savedOffsets
        savedMemory = AlignedBuffer(byteCount: needs.saved)
        scratch = Self.memory(needs.workspace + needs.packed, neighbour?.scratch)
        byteCount =
            needs.saved + (arena === neighbour?.arena ? 0 : arena.byteCount)
            + (scratch === neighbour?.scratch ? 0 : scratch.byteCount)
        context = PassContext(
            pool: pool, mode: .evaluation, workspace: scratch.base, packed: scratch.base + needs.workspace,
            images: nil, seed: 0, step: 0, firstImage: 0, accumulate: false)
        output = Tensor([0], buffer: arena, byteOffset: 0)
        prepare(count: batch)
    }

    /// The bytes beside the arena: what layers save, and the scratch memory that all share.
    private struct Needs {
        var saved = 0
        var savedOffsets: [Int] = []
        var workspace = 64
        var packed = 64

        init(_ graph: Graph, _ layout: ExecutionLayout, batch: Int, threads: Int) {
            func aligned(_ byteCount: Int) -> Int { (byteCount + 63) / 64 * 64 }
            for (index, step) in graph.steps.enumerated() {
                let inputs = graph.inputShapes(step)
                let type = layout.types[index + 1]
                savedOffsets.append(saved)
                saved += aligned(step.layer.savedByteCount(inputs, batch: batch))
                workspace = max(
                    workspace, aligned(step.layer.workspaceByteCount(inputs, type, batch: batch, threads: threads)))
                packed = max(packed, step.layer.packedByteCount(type))
            }
        }
    }

    /// `byteCount` of an execution that does not exist yet.
    package static func byteCount(
        _ graph: Graph, batch: Int, purpose: Purpose, precision: Precision, threads: Int, taps: [String] = []
    ) -> Int {
        let layout = ExecutionLayout(
            graph, batch: batch, training: purpose == .training, precision: precision, threads: threads,
            tapped: nodes(graph, taps))
        let needs = Needs(graph, layout, batch: batch, threads: threads)
        return layout.plan.byteCount + needs.saved + needs.workspace + needs.packed
    }

    private static func memory(_ byteCount: Int, _ existing: AlignedBuffer?) -> AlignedBuffer {
        if let existing, existing.byteCount >= byteCount { return existing }
        return AlignedBuffer(byteCount: byteCount)
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
        if count != self.count { prepare(count: count) }
        context.images = images
        context.mode = mode
        context.seed = key.seed
        context.step = key.step
        context.firstImage = key.firstImage
        for index in graph.steps.indices {
            let start = profile?.start()
            graph.steps[index].layer.forward(operands[index], context)
            if let start { profile?.forward(index, since: start) }
            if let inspect { inspect(Inspection(.forward, index, [operands[index].output])) }
        }
        return output
    }

    /// The last forward's embeddings, (count, embedding).
    package var embeddings: Tensor { output }

    /// Where the gradient of the last forward's embeddings goes before `backward`: (count, embedding).
    package var outputGradient: Tensor {
        guard let gradient else { preconditionFailure("an inference execution has no output gradient") }
        return gradient
    }

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
        for index in graph.steps.indices.reversed() {
            if layout.runsBackward[index] {
                let start = profile?.start()
                for (norm, operands) in recomputed[index] { norm.recompute(operands, context) }
                graph.steps[index].layer.backward(operands[index], context)
                if let start { profile?.backward(index, since: start) }
            }
            if let inspect {
                inspect(Inspection(.backward, index, layout.runsBackward[index] ? operands[index].writtenGradients : []))
            }
            try stepDone(index)
        }
    }

    /// The map of a tap after forward, until backward.
    package func activation(tap name: String) -> ak_map {
        let node = node(name)
        return map(layout.activations[node], ofNode: node, count: count)
    }

    /// Where the gradient of the last forward's map of a tap goes before `backward`, which adds what comes from the layers
    /// above. Every tap's gradient must be written, or zeroed.
    package func gradient(tap name: String) -> ak_map {
        precondition(purpose == .training, "an inference execution has no gradients")
        let node = node(name)
        return map(layout.gradients[node], ofNode: node, count: count)
    }

    private func node(_ tap: String) -> Int {
        guard taps.contains(tap), let node = graph.taps[tap] else { preconditionFailure("no tap '\(tap)' was asked for") }
        return node.index
    }

    private static func nodes(_ graph: Graph, _ taps: [String]) -> Set<Int> {
        Set(
            taps.map { name in
                guard let node = graph.taps[name] else { preconditionFailure("the network has no tap '\(name)'") }
                precondition(node != graph.output, "the output needs no tap")
                return node.index
            })
    }

    // MARK: - Memory

    private func address(_ buffer: Int?) -> UnsafeMutableRawPointer? {
        buffer.map { arena.base + layout.plan.offsets[$0] }
    }

    private func map(_ buffer: Int?, ofNode node: Int, count: Int) -> ak_map {
        graph.shape(Graph.Node(index: node)).map(address(buffer), batch: count, layout.types[node])
    }

    private func saved(_ step: Int) -> UnsafeMutableRawPointer { savedMemory.base + savedOffsets[step] }

    private func norm(_ step: Int) -> Normalization {
        guard let norm = graph.steps[step].layer as? Normalization else { preconditionFailure("step \(step) is no norm") }
        return norm
    }

    /// - Parameter kept: as backward finds it.
    private func source(_ node: Int, count: Int, kept: Bool = false) -> ak_source {
        let stored = layout.stored(node)
        let buffer = kept ? layout.kept[stored] : layout.activations[stored]
        let map = map(buffer, ofNode: stored, count: count)
        guard let step = layout.deferredNorm[node] else { return ak_source(map: map, activation: ak_activation()) }
        return ak_source(map: map, activation: norm(step).activation(saved(step)))
    }

    /// Lays the operands of all steps, and the output, out for `count` images.
    private func prepare(count: Int) {
        self.count = count
        operands = graph.steps.indices.map { index in
            let node = index + 1
            let step = graph.steps[index]
            var result = Operands(
                inputs: step.inputs.map { source($0, count: count) },
                keptInputs: step.inputs.map { source($0, count: count, kept: true) },
                output: map(layout.activations[node], ofNode: node, count: count), saved: saved(index), targets: [])
            if step.layer is Normalization {
                result.inputMoments = address(layout.moments[step.inputs[0]]).map { OpaquePointer($0) }
                result.inputMomentsAreGathered = layout.momentsAreGathered[step.inputs[0]]
                result.sums = address(layout.sums[index]).map { OpaquePointer($0) }
                result.sumsAreGathered = layout.reducedNorm.contains(index)
            }
            if layout.momentsAreGathered[node] {
                result.moments = address(layout.moments[node]).map { OpaquePointer($0) }
            }
            if purpose == .training { prepareBackward(&result, index) }
            return result
        }
        recomputed = layout.recomputedBefore.map { norms in
            norms.map { index in
                var operands = operands[index]
                operands.output = map(layout.kept[index + 1], ofNode: index + 1, count: count)
                return (norm(index), operands)
            }
        }
        output = matrix(layout.activations[graph.steps.count], count: count)
        gradient = purpose == .training ? matrix(layout.gradients[graph.steps.count], count: count) : nil
    }

    private func prepareBackward(_ result: inout Operands, _ index: Int) {
        let step = graph.steps[index]
        let above = layout.chainedNorm[index]
        let read = above.map { $0 + 1 } ?? index + 1
        result.outputGradient.map = map(layout.gradients[read], ofNode: read, count: count)
        if let above { result.outputGradient.chain = norm(above).chain(result.output, saved(above)) }
        result.targets = zip(layout.targets[index], step.inputs).map { target, node in
            switch target {
            case .none: .none
            case .shared: .shared
            case .chained: .chained
            case .write(let buffer): .write(map(buffer, ofNode: node, count: count))
            case .add(let buffer): .add(map(buffer, ofNode: node, count: count))
            }
        }
        if let below = layout.reducedNorm[index], let sums = address(layout.sums[below]) {
            let x = source(graph.steps[below].inputs[0], count: count, kept: true).map
            result.reduction = norm(below).reduction(x, saved(below), OpaquePointer(sums))
        }
    }

    private func matrix(_ buffer: Int?, count: Int) -> Tensor {
        let shape = graph.steps[graph.steps.count - 1].shape
        precondition(
            shape.height == 1 && shape.width == 1 && shape.channels % 16 == 0, "the output \(shape) is not a vector")
        guard let buffer else { preconditionFailure("the output is in no memory") }
        return Tensor([count, shape.channels], buffer: arena, byteOffset: layout.plan.offsets[buffer])
    }
}
