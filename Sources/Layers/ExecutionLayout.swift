import CKernels

/// Which buffers a pass needs, how long each lives, what the layers take over from the norms around them, and where the
/// gradients of every step go.
///
/// Nodes are numbered as in `Graph`: 0 is the image, step i produces node i + 1.
struct ExecutionLayout {
    enum Target: Equatable {
        case none, shared, chained
        case write(Int)
        case add(Int)
    }

    /// By node: the element type of its map and gradient.
    let types: [ak_dtype]
    /// By node: the norm's step where the map is not stored and its readers compute it from the norm's input.
    private(set) var deferredNorm: [Int?]
    /// By node: the buffer of its activation (of the image and of deferred norms none) and of its gradient.
    private(set) var activations: [Int?] = [nil]
    private(set) var gradients: [Int?]
    /// By node: the buffer in which backward finds the map, another one where it is computed once more.
    private(set) var kept: [Int?] = []
    /// By step: the norms' steps whose outputs are computed once more before the step's backward.
    private(set) var recomputedBefore: [[Int]]
    /// By step and input.
    private(set) var targets: [[Target]]
    /// By step: is there a trained parameter at or before it?
    private(set) var runsBackward: [Bool]
    /// By node: the buffer of its moments, and whether the step that makes the map gathers them.
    private(set) var moments: [Int?]
    private(set) var momentsAreGathered: [Bool]
    /// By step: the norm above whose backward the step applies to the gradient that it reads.
    private(set) var chainedNorm: [Int?]
    /// By norm's step: the buffer of its backward's sums; by any step: the norm whose sums it gathers.
    private(set) var sums: [Int?]
    private(set) var reducedNorm: [Int?]
    private(set) var plan: MemoryPlan

    private let graph: Graph
    private let batch: Int
    /// Nodes whose maps, and in training whose gradients, an objective sees.
    private let tapped: Set<Int>
    private var requests: [MemoryPlan.Request] = []

    /// Moments: step i runs forward at i and backward at 2·steps − i; the loss stands between, at `steps`.
    ///
    /// - Parameter tapped: nodes whose maps stay until the loss, and whose gradients start there.
    init(_ graph: Graph, batch: Int, training: Bool, precision: Precision, threads: Int, tapped: Set<Int> = []) {
        let count = graph.steps.count
        self.graph = graph
        self.batch = batch
        self.tapped = tapped
        types = Self.types(graph, precision)
        deferredNorm = Self.deferredNorms(graph, types, tapped)
        gradients = [Int?](repeating: nil, count: count + 1)
        targets = graph.steps.map { [Target](repeating: .none, count: $0.inputs.count) }
        recomputedBefore = [[Int]](repeating: [], count: count)
        runsBackward = [Bool](repeating: false, count: count)
        moments = [Int?](repeating: nil, count: count + 1)
        momentsAreGathered = [Bool](repeating: false, count: count + 1)
        chainedNorm = [Int?](repeating: nil, count: count)
        sums = chainedNorm
        reducedNorm = chainedNorm
        plan = MemoryPlan([])
        layOutForward(threads: threads)
        kept = activations
        if training {
            let outputs = recomputableOutputs()
            for node in outputs { kept[node] = nil }
            layOutBackward(threads: threads)
            for node in outputs { scheduleRecomputation(of: node) }
        }
        plan = MemoryPlan(requests)
    }

    /// The node whose stored map a reader of `node` reads.
    func stored(_ node: Int) -> Int { deferredNorm[node].map { graph.steps[$0].inputs[0] } ?? node }

    // MARK: - Element types

    /// bf16 where the precision says so, but fp32 for the embedding layer and all that follows it, and for whatever has to
    /// have the same type as one of those.
    private static func types(_ graph: Graph, _ precision: Precision) -> [ak_dtype] {
        var full = [Bool](repeating: precision == .fp32, count: graph.steps.count + 1)
        full[graph.steps.count] = true
        var changed = true
        while changed {
            let before = full
            for (index, step) in graph.steps.enumerated() {
                let inputs = step.inputs.filter { $0 > 0 }
                if step.layer.needsFullPrecision {
                    full[index + 1] = true
                    for input in inputs { full[input] = true }
                } else if step.layer.keepsPrecision, full[index + 1] || inputs.contains(where: { full[$0] }) {
                    full[index + 1] = true
                    for input in inputs { full[input] = true }
                }
            }
            changed = full != before
        }
        return full.map { $0 ? AK_F32 : AK_BF16 }
    }

    // MARK: - Forward

    /// The norms whose output is not stored: every reader computes it on load.
    private static func deferredNorms(_ graph: Graph, _ types: [ak_dtype], _ tapped: Set<Int>) -> [Int?] {
        var deferred = [Int?](repeating: nil, count: graph.steps.count + 1)
        for (index, step) in graph.steps.enumerated() {
            guard let norm = step.layer as? Normalization, !norm.hasResidual, step.inputs[0] > 0 else { continue }
            let node = index + 1
            let readers = graph.steps.filter { $0.inputs.contains(node) }
            let readThrough = readers.allSatisfy { reader in
                let throughNorm = reader.layer.fusion(types[node]).readsThroughNorm
                return reader.inputs.enumerated().allSatisfy { $1 != node || throughNorm[$0] }
            }
            guard !readers.isEmpty, readThrough, !tapped.contains(node), types[node] == types[step.inputs[0]] else {
                continue
            }
            deferred[node] = index
        }
        return deferred
    }

    private mutating func request(_ byteCount: Int, at moment: Int) -> Int {
        requests.append(.init(byteCount: byteCount, lifetime: moment...moment))
        return requests.count - 1
    }

    private mutating func touch(_ buffer: Int?, at moment: Int) {
        guard let buffer else { return }
        let life = requests[buffer].lifetime
        requests[buffer].lifetime = min(life.lowerBound, moment)...max(life.upperBound, moment)
    }

    private mutating func layOutForward(threads: Int) {
        let count = graph.steps.count
        for (index, step) in graph.steps.enumerated() {
            let node = index + 1
            for input in step.inputs { touch(activations[stored(input)], at: index) }
            if deferredNorm[node] == nil {
                activations.append(request(step.shape.byteCount(batch: batch, types[node]), at: index))
            } else {
                activations.append(nil)
            }
            guard step.layer is Normalization, let input = step.inputs.first else { continue }
            let producer = input > 0 ? graph.steps[input - 1].layer : nil
            if moments[input] == nil {
                momentsAreGathered[input] = producer?.fusion(types[input]).gathersMoments ?? false
                let bytes = ak_moments_bytes(Int32(graph.shape(Graph.Node(index: input)).channels), Int32(threads))
                moments[input] = request(bytes, at: momentsAreGathered[input] ? input - 1 : index)
            }
            touch(moments[input], at: index)
        }
        touch(activations[stored(count)], at: count)
        for tap in tapped { touch(activations[stored(tap)], at: count) }
    }

    // MARK: - Recomputation

    /// Stored outputs of norms are sums of maps that are kept anyway: the norm's input, and a residual. Of any two that
    /// would need each other one is kept, so that each is one cheap pass.
    private func recomputableOutputs() -> [Int] {
        var outputs: [Int] = []
        for (index, step) in graph.steps.enumerated() where step.layer is Normalization {
            let node = index + 1
            guard node < graph.steps.count, deferredNorm[node] == nil, !tapped.contains(node),
                !step.inputs.contains(where: { outputs.contains(stored($0)) })
            else { continue }
            outputs.append(node)
        }
        return outputs
    }

    /// Backward reads the map of a stored node.
    private mutating func keep(_ node: Int, at moment: Int) {
        guard node > 0 else { return }
        if kept[node] == nil {
            kept[node] = request(graph.steps[node - 1].shape.byteCount(batch: batch, types[node]), at: moment)
        } else {
            touch(kept[node], at: moment)
        }
    }

    /// Just before backward reads it first.
    private mutating func scheduleRecomputation(of node: Int) {
        guard let buffer = kept[node] else { return }
        let moment = requests[buffer].lifetime.lowerBound
        recomputedBefore[2 * graph.steps.count - moment].append(node - 1)
        for input in graph.steps[node - 1].inputs { touch(kept[stored(input)], at: moment) }
    }

    // MARK: - Backward

    /// A node needs a gradient when a parameter at or before it is trained.
    private static func nodesThatNeedGradients(_ graph: Graph) -> [Bool] {
        var needed = [false]
        for step in graph.steps {
            needed.append(
                step.layer.parameters.contains { $0.isTrained } || step.inputs.contains { needed[$0] })
        }
        return needed
    }

    private func gradientByteCount(_ node: Int) -> Int {
        graph.shape(Graph.Node(index: node)).byteCount(batch: batch, types[node])
    }

    private mutating func layOutBackward(threads: Int) {
        let count = graph.steps.count
        let needed = Self.nodesThatNeedGradients(graph)
        // The step and input that wrote a node's gradient last.
        var lastWriter = [(step: Int, input: Int)?](repeating: nil, count: count + 1)
        // An objective writes this one even where nothing of the backbone is trained.
        gradients[count] = request(gradientByteCount(count), at: count)
        for tap in tapped where gradients[tap] == nil { gradients[tap] = request(gradientByteCount(tap), at: count) }
        for index in graph.steps.indices.reversed() {
            let step = graph.steps[index]
            guard needed[index + 1] else { continue }
            // Of a node whose norm is applied by this step, the gradient above the norm.
            guard let gradient = gradients[chainedNorm[index].map { $0 + 1 } ?? index + 1] else { continue }
            runsBackward[index] = true
            let moment = 2 * count - index
            touch(gradient, at: moment)
            if chainedNorm[index] != nil { keep(index + 1, at: moment) }
            for (position, input) in step.inputs.enumerated() where step.layer.backwardReads(input: position) {
                keep(stored(input), at: moment)
            }
            if step.layer is Normalization {
                let bytes = ak_sums_bytes(Int32(step.shape.channels), Int32(threads))
                sums[index] = request(bytes, at: moment)
                gatherSums(norm: index, writer: lastWriter[index + 1])
            }
            for (position, input) in step.inputs.enumerated() where needed[input] {
                let target = target(of: index, position, gradient: gradient, at: moment)
                targets[index][position] = target
                lastWriter[input] = target == .shared || target == .chained ? nil : (index, position)
            }
        }
    }

    /// Lets the step that writes the gradient above the norm last gather the norm's sums, if it can.
    private mutating func gatherSums(norm: Int, writer: (step: Int, input: Int)?) {
        guard let writer, writer.input == 0 else { return }
        let step = graph.steps[writer.step]
        let readsOnce = step.inputs.filter { $0 == norm + 1 }.count == 1
        let isOfOneType = types[norm + 1] == types[stored(graph.steps[norm].inputs[0])]
        guard readsOnce, isOfOneType, step.layer.fusion(types[writer.step + 1]).reduces else { return }
        reducedNorm[writer.step] = norm
        let moment = 2 * graph.steps.count - writer.step
        touch(sums[norm], at: moment)
        keep(stored(graph.steps[norm].inputs[0]), at: moment)
    }

    private mutating func target(of index: Int, _ position: Int, gradient: Int, at moment: Int) -> Target {
        let step = graph.steps[index]
        let input = step.inputs[position]
        if let existing = gradients[input] {
            touch(existing, at: moment)
            return .add(existing)
        }
        if step.layer.passThroughInput == position, types[input] == types[index + 1] {
            gradients[input] = gradient
            return .shared
        }
        if position == 0, appliesBelow(norm: index) {
            chainedNorm[input - 1] = index
            return .chained
        }
        if step.layer.backwardWorksInPlace, step.layer.passThroughInput == nil, position == 0,
            types[input] == types[index + 1]
        {
            gradients[input] = gradient
            return .write(gradient)
        }
        let buffer = request(gradientByteCount(input), at: moment)
        gradients[input] = buffer
        return .write(buffer)
    }

    /// Can the step right below this norm apply the norm's backward to the gradient that it reads? Being the next in
    /// backward, it finds that gradient as the norm has left it. Where it reads the norm's residual, the same memory would
    /// be what it adds its own gradient to.
    private func appliesBelow(norm index: Int) -> Bool {
        let step = graph.steps[index]
        guard step.layer is Normalization, index > 0, step.inputs[0] == index else { return false }
        let readers = graph.steps.reduce(0) { $0 + $1.inputs.filter { $0 == index }.count }
        let below = graph.steps[index - 1]
        let readsResidual = step.layer.passThroughInput.map { below.inputs.contains(step.inputs[$0]) } ?? false
        return readers == 1 && !tapped.contains(index) && !readsResidual && below.layer.fusion(types[index]).chains
            && types[index] == types[index + 1]
    }
}
