package import Tensors

/// How a parameter starts.
package enum Initializer: Sendable, Equatable {
    case constant(Float)
    case normal(standardDeviation: Double)
    /// Uniform in [-bound, bound).
    case uniform(bound: Double)
    /// Normal with standard deviation sqrt(2 / fanOut) (He et al. 2015, fan-out form).
    case kaimingNormal(fanOut: Int)
}

/// What a parameter is, for weight decay and learning-rate groups.
package enum ParameterRole: String, Sendable, CaseIterable {
    case convolution, linear, bias, normScale, normShift, preluSlope
}

/// A tensor that training changes, in PyTorch's shape and order (weights are (k, c/groups, kh, kw) or (out, in)).
package final class Parameter {
    package let name: String
    package let shape: [Int]
    package let role: ParameterRole
    package let initializer: Initializer
    /// False for parameters that are part of the state but never trained (arcface_torch's `features.weight`), or that a
    /// recipe froze.
    package var isTrained: Bool
    /// The values; replaced by a view into the parameter arena when a trainer lays parameters out.
    package var value: Tensor
    /// Where backward writes the gradient of the step; nil until a trainer assigns it.
    package var gradient: Tensor?

    package init(
        _ name: String, _ shape: [Int], role: ParameterRole, initializer: Initializer, isTrained: Bool = true
    ) {
        self.name = name
        self.shape = shape
        self.role = role
        self.initializer = initializer
        self.isTrained = isTrained
        value = Tensor(shape)
    }

    package var count: Int { shape.reduce(1, *) }

    /// Draws the starting values: a pure function of the seed and the parameter's name.
    package func initialize(seed: UInt64) {
        var random = RandomStream(seed: seed, purpose: .backboneWeights, index: Self.index(of: name))
        let values = value.floats
        switch initializer {
        case .constant(let constant):
            values.update(repeating: constant)
        case .normal(let deviation):
            for i in values.indices { values[i] = Float(deviation * random.normal()) }
        case .uniform(let bound):
            for i in values.indices { values[i] = Float(random.uniform(-bound, bound)) }
        case .kaimingNormal(let fanOut):
            let deviation = (2 / Double(fanOut)).squareRoot()
            for i in values.indices { values[i] = Float(deviation * random.normal()) }
        }
    }

    /// FNV-1a of the name: the parameter's place in the generator's index space.
    private static func index(of name: String) -> UInt64 {
        name.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    }
}

/// A tensor that belongs to the state but is not trained: a running statistic or a counter.
package final class StateBuffer {
    package let name: String
    package let shape: [Int]
    package let dtype: DType
    package var value: Tensor
    private let initial: Float

    /// - Parameter initial: the starting value of every element (integers start at 0).
    package init(_ name: String, _ shape: [Int], dtype: DType = .float32, initial: Float = 0) {
        self.name = name
        self.shape = shape
        self.dtype = dtype
        self.initial = initial
        value = Tensor(shape, dtype: dtype)
        reset()
    }

    package func reset() {
        if dtype == .float32 { value.fill(initial) } else { value.bytes.initializeMemory(as: UInt8.self, repeating: 0) }
    }
}

/// One entry of a network's state, in the order of the state dict.
package enum StateEntry {
    case parameter(Parameter)
    case buffer(StateBuffer)

    package var name: String {
        switch self {
        case .parameter(let parameter): parameter.name
        case .buffer(let buffer): buffer.name
        }
    }

    package var value: Tensor {
        switch self {
        case .parameter(let parameter): parameter.value
        case .buffer(let buffer): buffer.value
        }
    }
}
