package import Layers
import Tensors

/// A linear layer from the raw embedding to one number, beside a backbone.
package struct QualityLayer {
    /// (1 x d), and (1).
    package let weight: Parameter
    package let bias: Parameter

    /// Starts uniform in ±scale/√d; with a scale of 1 as a framework's default would.
    ///
    /// - Parameter name: what the parameters' names begin with.
    package init(_ name: String, dimension: Int, scale: Double = 1, seed: UInt64) {
        let start = Initializer.uniform(bound: scale / Double(dimension).squareRoot())
        weight = Parameter(name + ".weight", [1, dimension], role: .linear, initializer: start)
        bias = Parameter(name + ".bias", [1], role: .bias, initializer: start)
        for parameter in parameters { parameter.initialize(seed: seed) }
    }

    package var parameters: [Parameter] { [weight, bias] }

    /// Where gradients are added; cleared first unless they accumulate.
    func gradients(
        accumulate: Bool
    ) -> (weight: UnsafeMutablePointer<Float>, bias: UnsafeMutablePointer<Float>) {
        guard let weight = weight.gradient, let bias = bias.gradient else {
            preconditionFailure("the quality layer has nowhere to leave its gradient")
        }
        if !accumulate {
            weight.fill(0)
            bias.fill(0)
        }
        return (weight.floats.baseAddress!, bias.floats.baseAddress!)
    }
}
