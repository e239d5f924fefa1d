package import Collectives
import Tensors

extension Communicator {
    /// Median seconds of the slowest rank, after a first call that is not counted.
    ///
    /// - Throws: `CollectiveError`, and what `body` throws.
    package func medianSeconds(
        of repetitions: Int, _ label: String = "benchmark", _ body: () throws -> Void
    ) throws -> Double {
        try body()
        var times: [Double] = []
        for _ in 0..<repetitions {
            try barrier(label)
            let start = monotonicSeconds()
            try body()
            times.append(monotonicSeconds() - start)
        }
        try times.withUnsafeMutableBufferPointer { try allReduce($0, .max, label) }
        return times.sorted()[times.count / 2]
    }

    /// Seconds of each of some steps, which all ranks begin together and end together.
    ///
    /// - Parameter prepare: called before each step, not timed.
    /// - Throws: `CollectiveError`, and what `body` throws.
    func stepSeconds(_ steps: Int, prepare: (Int) -> Void, _ body: (Int) throws -> Void) throws -> [Double] {
        var seconds: [Double] = []
        for index in 0..<steps {
            prepare(index)
            try barrier("benchmark")
            let start = monotonicSeconds()
            try body(index)
            try barrier("benchmark")
            seconds.append(monotonicSeconds() - start)
        }
        return seconds
    }
}
