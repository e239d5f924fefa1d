package import Collectives
package import Layers
import Tensors

/// Batch norm's running statistics, which every rank keeps for its own images.
///
/// They are averaged for evaluation and saving, so that the model is the same whichever rank writes it; training goes on
/// with each rank's own.
package struct RunningStatistics {
    /// The buffers' values, one after the other.
    package private(set) var values: [Float]

    /// This rank's own.
    package init(_ buffers: [StateBuffer]) {
        values = buffers.filter { $0.dtype == .float32 }.flatMap { Array($0.value.floats) }
    }

    package init(values: [Float]) { self.values = values }

    /// The mean over ranks: all have seen equally many images.
    package func averaged(_ communicator: any Communicator) throws -> RunningStatistics {
        guard communicator.size > 1 else { return self }
        var sums = values.map(Double.init)
        try sums.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "running statistics") }
        return RunningStatistics(values: sums.map { Float($0 / Double(communicator.size)) })
    }

    /// Puts the values into the buffers.
    package func apply(to buffers: [StateBuffer]) {
        var start = 0
        for buffer in buffers where buffer.dtype == .float32 {
            let target = buffer.value.floats
            precondition(start + target.count <= values.count, "running statistics of another network")
            for i in target.indices { target[i] = values[start + i] }
            start += target.count
        }
        precondition(start == values.count, "running statistics of another network")
    }

    /// The values as tensors like those of the buffers, by the buffers' names; the buffers stay as they are.
    func tensors(of buffers: [StateBuffer]) -> [String: Tensor] {
        var tensors: [String: Tensor] = [:]
        var start = 0
        for buffer in buffers where buffer.dtype == .float32 {
            let end = start + buffer.value.count
            precondition(end <= values.count, "running statistics of another network")
            tensors[buffer.name] = Tensor(buffer.shape, Array(values[start..<end]))
            start = end
        }
        precondition(start == values.count, "running statistics of another network")
        return tensors
    }
}
