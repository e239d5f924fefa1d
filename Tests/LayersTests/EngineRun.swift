import CKernels
import Layers
import Tensors
import TestSupport
import Testing

/// The instruction sets of this machine, weakest first.
let instructionSets: [ak_isa] = (0...ak_isa_best().rawValue).map { ak_isa(rawValue: $0) }

/// Runs `body` with one instruction set in use.
func withInstructionSet<T>(_ isa: ak_isa, _ body: () throws -> T) rethrows -> T {
    let before = ak_isa_current()
    precondition(ak_isa_select(isa))
    defer { precondition(ak_isa_select(before)) }
    return try body()
}

/// Gives every parameter of the graph a gradient of its own, full of what backward must overwrite.
func assignGradients(_ graph: Graph, filledWith value: Float = .nan) {
    for parameter in graph.parameters {
        let gradient = Tensor(parameter.shape)
        gradient.fill(value)
        parameter.gradient = gradient
    }
}

/// What a pass of the engine left behind.
struct EngineRun: Equatable {
    var outputs: [Float] = []
    /// By name, trained parameters only.
    var gradients: [String: [Float]] = [:]
    var statistics: [String: [Float]] = [:]

    /// Forward and backward of `count` images; the graph's gradients are read afterwards.
    init(
        _ execution: Execution, images: [Float], upstream: [Float], mode: Mode, accumulate: Bool = false,
        key: Execution.Key = .init(seed: 0, step: 0, firstImage: 0)
    ) {
        let count = images.count / execution.graph.inputShape.count
        images.withUnsafeBufferPointer { images in
            outputs = Array(execution.forward(images.baseAddress!, count: count, mode: mode, key: key).floats)
            _ = execution.outputGradient.floats.update(fromContentsOf: upstream)
            execution.backward(accumulate: accumulate)
        }
        readState(execution.graph)
    }

    mutating func readState(_ graph: Graph) {
        for step in graph.steps {
            for parameter in step.layer.parameters where parameter.isTrained {
                gradients[parameter.name] = Array(parameter.gradient!.floats)
            }
            for buffer in step.layer.buffers where buffer.dtype == .float32 {
                statistics[buffer.name] = Array(buffer.value.floats)
            }
        }
    }

    /// The bits, so that NaN equals NaN and −0 differs from 0.
    var bits: [[UInt32]] {
        let state = [gradients, statistics].flatMap { $0.sorted { $0.key < $1.key }.map(\.value) }
        return ([outputs] + state).map { $0.map(\.bitPattern) }
    }

    /// Holds outputs, gradients and statistics against the oracle's last pass.
    ///
    /// - Parameters:
    ///   - expected: the oracle's outputs.
    ///   - tolerance: of ‖difference‖ to ‖reference‖, tensor by tensor. A gradient that is far below the largest one is a
    ///     sum that cancels: what counts is the size of its summands, for which 1e-3 of the largest stands.
    func expect(_ oracle: ReferenceExecution, _ expected: [Double], tolerance: Double, _ comment: String) {
        let error = relativeError(outputs.map(Double.init), expected)
        #expect(error < tolerance, "\(comment): outputs differ by \(error)")
        let largest = gradients.keys.map { norm(oracle.gradients[$0]!) }.max() ?? 0
        for (name, values) in gradients {
            let reference = oracle.gradients[name]!
            let difference = norm(zip(values, reference).map { Double($0) - $1 })
            let scale = max(norm(reference), 1e-3 * largest)
            #expect(difference < tolerance * scale, "\(comment): gradient of \(name) differs by \(difference / scale)")
        }
        for (name, values) in statistics {
            let error = relativeError(values.map(Double.init), oracle.statistics[name]!)
            #expect(error < tolerance, "\(comment): \(name) differs by \(error)")
        }
    }
}
