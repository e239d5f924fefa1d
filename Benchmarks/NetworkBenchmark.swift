package import Collectives
import Foundation
import Layers
import Networks
package import Tensors
package import Training

/// What the network between the hosts of this job gives, alone and while the processors compute: what
/// `acuity plan --network` goes by.
package struct NetworkBenchmark: Sendable {
    /// Of the gradients that are reduced again and again, and of a bucket.
    private static let mebibytes = 24
    private static let bucket = 1 << 20
    private static let repetitions = 5

    package init() {}

    /// Collective.
    /// - Throws: `CollectiveError`; `TrainingError` where all ranks share one host.
    package func run(_ communicator: any Communicator, _ pool: ThreadPool) throws -> NetworkMeasurement {
        let topology = communicator.topology
        let fewest = try communicator.allReduce(topology.localSize, .min, "ranks per host")
        let most = try communicator.allReduce(topology.localSize, .max, "ranks per host")
        guard topology.hosts > 1, fewest == most else {
            throw TrainingError.incompatible(
                "--network measures messages between hosts with as many ranks each; start it with mpirun on two or more")
        }
        let placement = Placement(ranks: communicator.size, ranksPerHost: most, threads: pool.threads, batch: 1)
        let latency = try latency(communicator, placement)
        let count = Self.mebibytes << 18
        let buckets = stride(from: 0, to: count, by: Self.bucket).map { $0..<min($0 + Self.bucket, count) }
        let reducer = try GradientReducer(communicator: communicator, elementCount: count, bucketRanges: buckets)
        let work = try ComputingTask(pool)
        let each = try communicator.medianSeconds(of: Self.repetitions) { work.run(1) }

        let alone = try communicator.medianSeconds(of: Self.repetitions) {
            reducer.begin()
            for index in buckets.indices { reducer.bucketReady(index) }
            _ = try reducer.finish()
        }
        // So much that messages travel all the while.
        let tasks = max(1, Int(0.7 * alone / each))
        let separately = try communicator.medianSeconds(of: Self.repetitions) { work.run(tasks) }
        var rest = 0.0
        var computing = 0.0
        for _ in 0..<Self.repetitions {
            try communicator.barrier("benchmark")
            reducer.begin()
            for index in buckets.indices { reducer.bucketReady(index) }
            let start = monotonicSeconds()
            work.run(tasks)
            computing += monotonicSeconds() - start
            rest += try reducer.finish().waited
        }
        computing = try communicator.allReduce(computing / Double(Self.repetitions), .max, "benchmark")
        rest = try communicator.allReduce(rest / Double(Self.repetitions), .max, "benchmark")

        let bytes = Double(count) * 4
        let hosts = Double(placement.hosts)
        let sent = 2 * (hosts - 1) / hosts * bytes / Double(placement.ranksPerHost)
        let link = Link(latency: latency, bandwidth: sent * Double(placement.ranksPerHost) / alone)
        // What was not left for the end travelled beside the computing.
        let hidden = max(alone - rest, 0.05 * alone)
        return NetworkMeasurement(
            hosts: placement.hosts, ranksPerHost: placement.ranksPerHost, threads: pool.threads, link: link,
            contention: Contention(computing: computing / separately, messages: computing / hidden))
    }

    /// Of one round of messages.
    private func latency(_ communicator: any Communicator, _ placement: Placement) throws -> Double {
        var values = [Double](repeating: 0, count: 5)
        let seconds = try communicator.medianSeconds(of: 50) {
            try values.withUnsafeMutableBufferPointer { try communicator.allReduce($0, .sum, "benchmark") }
        }
        return seconds / ceil(log2(Double(placement.ranks)))
    }
}

/// Something like a step for the processors to do: a few images through a small network.
private final class ComputingTask {
    private static let images = 2
    private let execution: Execution
    private let input: Tensor

    init(_ pool: ThreadPool) throws {
        let network = try NetworkSpecification("mobilefacenet").build()
        network.initialize(seed: 1)
        execution = Execution(network.graph, batch: Self.images, purpose: .inference, precision: .fp32, pool: pool)
        input = Tensor([Self.images, network.graph.inputShape.count])
    }

    func run(_ times: Int) {
        for _ in 0..<times { execution.forward(input.pointer, count: Self.images, mode: .evaluation) }
    }
}
