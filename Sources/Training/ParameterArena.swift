package import Layers
package import Recipes
package import Tensors

/// The trained parameters side by side in the order in which backward finishes their gradients, so that gradients are
/// reduced in contiguous buckets and updated in long runs.
package final class ParameterArena {
    /// A stretch of the arena that is updated with the same constants.
    package struct Run: Equatable {
        package var range: Range<Int>
        package var decay: Float
        package var rateFactor: Float
    }

    /// In arena order, with their places.
    package let parameters: [(parameter: Parameter, range: Range<Int>)]
    package let count: Int
    package let values: Tensor
    /// SGD's velocity, or Adam's mean of the gradients.
    package let momentum: Tensor
    /// Adam's mean of the gradients' squares; nil with SGD.
    package let squares: Tensor?
    /// Contiguous stretches, in the order they become ready.
    package let buckets: [Range<Int>]
    /// By step of the graph: the bucket that is complete when backward has passed it.
    package let bucketAfterStep: [Int: Int]
    package let runs: [Run]

    /// Moves the values of the graph's trained parameters into the arena.
    ///
    /// - Parameters:
    ///   - others: parameters whose gradients are complete before backward begins.
    ///   - bucketBytes: a bucket is closed once it is at least this large.
    package init(
        _ graph: Graph, beside others: [Parameter] = [], bucketBytes: Int, optimizer: OptimizerSection,
        start: StartSection
    ) {
        let layout = ArenaLayout(graph, beside: others, bucketBytes: bucketBytes)
        parameters = layout.parameters
        buckets = layout.buckets
        bucketAfterStep = layout.bucketAfterStep
        count = layout.count
        values = Tensor([max(count, 1)])
        momentum = Tensor([max(count, 1)])
        squares = optimizer.kind == .adam ? Tensor([max(count, 1)]) : nil
        runs = Self.runs(parameters, optimizer, start)
        for (parameter, range) in parameters {
            let place = Tensor(parameter.shape, buffer: values.buffer, byteOffset: range.lowerBound * 4)
            place.bytes.copyMemory(from: UnsafeRawBufferPointer(parameter.value.bytes))
            parameter.value = place
        }
    }

    /// Lets backward write into `gradients`, laid out like the arena.
    package func bind(gradients: UnsafeMutablePointer<Float>, owner: AnyObject) {
        let buffer = AlignedBuffer(borrowing: gradients, byteCount: max(count, 1) * 4, owner: owner)
        for (parameter, range) in parameters {
            parameter.gradient = Tensor(parameter.shape, buffer: buffer, byteOffset: range.lowerBound * 4)
        }
    }

    /// The momentum of one parameter, in its shape.
    package func momentum(of index: Int) -> Tensor { part(of: momentum, index) }

    private func part(of vector: Tensor, _ index: Int) -> Tensor {
        let (parameter, range) = parameters[index]
        return Tensor(parameter.shape, buffer: vector.buffer, byteOffset: range.lowerBound * 4)
    }

    /// What the name of a parameter's mean square ends in.
    package static let squaresSuffix = ".squares"

    /// What the optimizer keeps, by parameter: the momentum under the parameter's name, and what else there is.
    package var optimizerState: [(name: String, tensor: Tensor)] {
        var state: [(name: String, tensor: Tensor)] = []
        for (index, entry) in parameters.enumerated() {
            state.append((entry.parameter.name, momentum(of: index)))
            if let squares { state.append((entry.parameter.name + Self.squaresSuffix, part(of: squares, index))) }
        }
        return state
    }

    // MARK: - Groups

    private static func runs(
        _ parameters: [(parameter: Parameter, range: Range<Int>)], _ optimizer: OptimizerSection, _ start: StartSection
    ) -> [Run] {
        var runs: [Run] = []
        for (parameter, range) in parameters {
            let decay = Float(decays(parameter.role, optimizer) ? optimizer.weightDecay : 0)
            let factor = Float(rateFactor(parameter.name, start))
            // Padding between parameters has zero gradient and value and may belong to either neighbour.
            if let last = runs.last, last.decay == decay, last.rateFactor == factor {
                runs[runs.count - 1].range = last.range.lowerBound..<range.upperBound
            } else {
                runs.append(Run(range: range, decay: decay, rateFactor: factor))
            }
        }
        return runs
    }

    /// Does weight decay fall on parameters of this role?
    package static func decays(_ role: ParameterRole, _ optimizer: OptimizerSection) -> Bool {
        let name =
            switch role {
            case .normScale, .normShift: "norm"
            case .preluSlope: "prelu"
            case .bias: "bias"
            case .convolution, .linear: ""
            }
        return !optimizer.decayExempt.contains(name)
    }

    /// The learning-rate factor of the longest prefix that fits.
    package static func rateFactor(_ name: String, _ start: StartSection) -> Double {
        start.learningRateFactors.filter { name.hasPrefix($0.key) }.max { $0.key.count < $1.key.count }?.value ?? 1
    }

    /// One line per group: how many parameters, what decay, what factor.
    package var groupDescriptions: [String] {
        struct Group: Hashable {
            var decay: Float
            var factor: Float
        }
        var counts: [Group: (elements: Int, roles: Set<String>)] = [:]
        for (parameter, range) in parameters {
            let run = runs.first { $0.range.contains(range.lowerBound) }!
            let group = Group(decay: run.decay, factor: run.rateFactor)
            counts[group, default: (0, [])].elements += parameter.count
            counts[group]!.roles.insert(parameter.role.rawValue)
        }
        return counts.sorted { ($0.key.decay, $0.key.factor) > ($1.key.decay, $1.key.factor) }.map { group, value in
            "\(value.elements) values, weight decay \(group.decay), rate x\(group.factor): "
                + value.roles.sorted().joined(separator: ", ")
        }
    }
}

/// Where the trained parameters of a graph lie in an arena, and which stretches of it are reduced together.
package struct ArenaLayout {
    package private(set) var parameters: [(parameter: Parameter, range: Range<Int>)] = []
    package private(set) var buckets: [Range<Int>] = []
    package private(set) var bucketAfterStep: [Int: Int] = [:]
    package private(set) var count = 0

    /// Every parameter starts on a cache line.
    private static let alignment = 16

    /// - Parameters:
    ///   - others: parameters whose gradients are complete before backward begins; they go with the first bucket.
    ///   - bucketBytes: a bucket is closed once it is at least this large.
    package init(_ graph: Graph, beside others: [Parameter] = [], bucketBytes: Int) {
        var bucketStart = 0
        for parameter in others where parameter.isTrained { append(parameter) }
        for index in graph.steps.indices.reversed() {
            for parameter in graph.steps[index].layer.parameters where parameter.isTrained { append(parameter) }
            // Where the first steps train nothing, the last bucket is complete at the last backward step.
            if count > bucketStart, (count - bucketStart) * 4 >= bucketBytes || index == 0 {
                bucketAfterStep[index] = buckets.count
                buckets.append(bucketStart..<count)
                bucketStart = count
            }
        }
    }

    private mutating func append(_ parameter: Parameter) {
        parameters.append((parameter, count..<count + parameter.count))
        count += (parameter.count + Self.alignment - 1) / Self.alignment * Self.alignment
    }
}
